//! What PostgreSQL says, in the store's words. Its own messages may quote values, so they are only a source.

use std::sync::Arc;

use semel_core::store::{StoreError, StoreErrorKind};

pub(crate) const NAME: &str = "postgres";

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
    Fault::refused(
        StoreErrorKind::Undecodable,
        format!("a record has a {what} that this version does not know"),
    )
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

pub(crate) fn after(error: &sqlx::Error) -> After {
    match error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("40001" | "40P01") => After::Again,
            // A server that became a standby: the next connection may find the one that took over.
            Some("25006" | "57P01" | "57P02" | "57P03" | "57P05") => After::Lost,
            Some(code) if code.starts_with("08") => After::Lost,
            _ => After::Keep,
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => After::Keep,
        _ => After::Lost,
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
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code();
            let code = code.as_deref().unwrap_or_default();
            let (kind, what) = meaning_of(code);
            (kind, format!("{what} (SQLSTATE {code})"))
        }
        sqlx::Error::Io(error) => match crate::tls::handshake(error) {
            Some(what) => (Kind::Config, what),
            None => (Kind::Unavailable, format!("the server cannot be reached, or hung up: {error}")),
        },
        sqlx::Error::Tls(_) => (
            Kind::Config,
            "TLS was asked for and is not possible: the server speaks none, or a file of certificates or keys is \
             not one"
                .into(),
        ),
        sqlx::Error::Configuration(_) => (Kind::Config, "the connection's settings are not usable".into()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            (Kind::Undecodable, "a column is not of the type that this version writes".into())
        }
        sqlx::Error::Protocol(_) => {
            (Kind::Unavailable, "the connection ended in the middle, or it is not PostgreSQL".into())
        }
        _ => (Kind::Unavailable, "the connection failed".into()),
    }
}

fn meaning_of(code: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match code {
        "28P01" | "28000" => {
            (Kind::Config, "the server refuses this user: check name, password, sslmode and pg_hba.conf")
        }
        "3D000" => (Kind::Config, "there is no such database on this server"),
        "42501" => (
            Kind::Config,
            "this user has not the rights it needs: GRANT USAGE ON the schema, SELECT, INSERT, UPDATE, DELETE ON its \
             table record, SELECT, UPDATE ON meta, and USAGE ON SEQUENCE fence",
        ),
        "3F000" | "42P01" | "42703" | "42883" => {
            (Kind::Config, "the schema is not complete: run the migrations")
        }
        "25006" => {
            (Kind::Unavailable, "the server is read-only: a standby, or default_transaction_read_only is on")
        }
        "40001" | "40P01" | "55P03" => (Kind::Contended, "others held the record for too long"),
        "57014" => (Kind::Timeout, "the server gave the statement up after its time"),
        "53100" => (Kind::Full, "the server's disk is full"),
        "53300" => {
            (Kind::Unavailable, "the server has no connection left: raise max_connections or use fewer")
        }
        "54000" => (Kind::TooLarge, "larger than the server takes"),
        "XX001" | "XX002" => (Kind::Undecodable, "the server's data are damaged"),
        _ => match code.get(..2) {
            Some("08" | "53" | "57" | "58") => (Kind::Unavailable, "the server is not able to serve now"),
            _ => (Kind::Internal, "the server refused a step"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_worth_a_retry_and_a_wrong_password_is_not() {
        let place = Place("db:5432/app".into());
        let io = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(after(&io), After::Lost);
        let error = place.fault(io.into());
        assert!(error.can_retry());
        assert!(error.to_string().starts_with("postgres store: db:5432/app: "), "{error}");
        assert_eq!(meaning_of("28P01").0, StoreErrorKind::Config);
        assert_eq!(meaning_of("25006").0, StoreErrorKind::Unavailable);
        assert_eq!(meaning_of("57P01").0, StoreErrorKind::Unavailable);
    }
}
