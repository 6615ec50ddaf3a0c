//! What the server says, in the store's words. Its own messages may quote values, so they are only a source.

use std::sync::Arc;

use semel_core::store::{StoreError, StoreErrorKind};
use sqlx::mysql::MySqlDatabaseError;

pub(crate) const NAME: &str = "mysql";

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It was judged, and is not to be tried again.
    Refused(StoreError),
    /// The server or the way to it failed.
    Sqlx(sqlx::Error),
}

impl Fault {
    pub(crate) fn refused(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self::Refused(StoreError::new(NAME, kind, message))
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

/// A record whose columns are not what this program writes.
pub(crate) fn undecodable(what: &str) -> Fault {
    let text = format!("a record has a {what} that this version does not know");
    Fault::refused(StoreErrorKind::Undecodable, text)
}

/// Others came and went each time it looked.
pub(crate) fn churned() -> Fault {
    Fault::refused(StoreErrorKind::Contended, "others were faster each time: ask again")
}

pub(crate) fn closed() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable, "the store is closed")
}

/// What to do with the connection and the step after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The server took the step back to let others go on: send it again.
    Again,
    /// The connection is of no use any more. The step may or may not have taken effect.
    Lost,
    /// The server refused it, and the connection is as good as before.
    Keep,
}

/// The server's own number of an error.
pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

pub(crate) fn after(error: &sqlx::Error) -> After {
    match (number(error), error) {
        // A deadlock, and a wait for a row that took too long: both changed nothing.
        (Some(1205 | 1213), _) => After::Again,
        // Shutting down, killed, or read-only now: the next connection may find a server that takes claims.
        (Some(1053 | 1317 | 1927 | 1290 | 1836 | 1792), _) => After::Lost,
        (Some(_), _) | (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => After::Keep,
        (None, _) => After::Lost,
    }
}

/// Which server and database, for messages: never the user's password.
#[derive(Clone, Debug)]
pub(crate) struct Place(pub(crate) Arc<str>);

impl Place {
    pub(crate) fn error(&self, kind: StoreErrorKind, what: impl AsRef<str>) -> StoreError {
        StoreError::new(NAME, kind, format!("{}: {}", self.0, what.as_ref()))
    }

    pub(crate) fn fault(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Refused(error) => error,
            Fault::Sqlx(error) => {
                let (kind, what) = meaning(&error);
                self.error(kind, what).with_source(error)
            }
        }
    }
}

fn meaning(error: &sqlx::Error) -> (StoreErrorKind, String) {
    use StoreErrorKind as Kind;
    if let Some(number) = number(error) {
        let (kind, what) = meaning_of(number);
        return (kind, format!("{what} (error {number})"));
    }
    match error {
        sqlx::Error::Io(error) => {
            (Kind::Unavailable, format!("the server cannot be reached, or hung up: {error}"))
        }
        sqlx::Error::Tls(_) => (Kind::Config, "TLS was asked for and is not possible".into()),
        sqlx::Error::Configuration(_) => (Kind::Config, "the connection's settings are not usable".into()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            (Kind::Undecodable, "a column is not of the type that this version writes".into())
        }
        sqlx::Error::Protocol(_) => (
            Kind::Unavailable,
            "the connection ended in the middle, it is neither MariaDB nor MySQL, or it asks for a way to sign in \
             that needs TLS"
                .into(),
        ),
        _ => (Kind::Unavailable, "the connection failed".into()),
    }
}

fn meaning_of(number: u16) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match number {
        1045 | 1698 => (Kind::Config, "the server refuses this user: check name and password"),
        1044 => (Kind::Config, "this user may not use this database"),
        1049 => (Kind::Config, "there is no such database on this server"),
        1142 | 1143 | 1227 => (
            Kind::Config,
            "this user has not the rights it needs: GRANT SELECT, INSERT, UPDATE, DELETE ON the tables",
        ),
        1146 | 1054 => (Kind::Config, "the tables are not complete: run the migrations"),
        1290 | 1836 | 1792 => (Kind::Unavailable, "the server is read-only"),
        1205 | 1213 => (Kind::Contended, "others held the record for too long"),
        1114 | 1021 => (Kind::Full, "the server's disk is full"),
        1153 | 1301 => (Kind::TooLarge, "larger than the server's max_allowed_packet"),
        1040 | 1203 | 1226 => {
            (Kind::Unavailable, "the server has no connection left: raise max_connections or use fewer")
        }
        1053 | 1317 | 1927 | 1129 => (Kind::Unavailable, "the server is not able to serve now"),
        1665 => (Kind::Config, "binlog_format is STATEMENT: set it to ROW or MIXED"),
        1969 | 3024 => (Kind::Timeout, "the server gave the statement up after its time"),
        126 | 1034 | 1712 => (Kind::Undecodable, "the server's data are damaged"),
        _ => (Kind::Internal, "the server refused a step"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_worth_a_retry_and_a_wrong_password_is_not() {
        let place = Place("db:3306/app".into());
        let io = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(after(&io), After::Lost);
        let error = place.fault(io.into());
        assert!(error.can_retry());
        assert!(error.to_string().starts_with("mysql store: db:3306/app: "), "{error}");
        assert_eq!(meaning_of(1045).0, StoreErrorKind::Config);
        assert_eq!(meaning_of(1290).0, StoreErrorKind::Unavailable);
    }
}
