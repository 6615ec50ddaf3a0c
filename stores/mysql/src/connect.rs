//! From a URL to a connection, and what is wrong with it.

use std::str::FromStr as _;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use semel_core::store::{StoreError, StoreErrorKind};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::desk::Connections;
use crate::error::{Fault, NAME, Place};
use crate::row::long;
use crate::sql::Names;

/// What a server says of itself. Variables that only one of the two knows are asked for by name.
const LOOK: &str = "SELECT VERSION(), @@global.read_only + @@global.innodb_read_only, \
    CAST(@@global.log_bin AS SIGNED), CAST(@@session.binlog_format AS CHAR)";

/// A connection at work.
pub(crate) struct Session {
    pub(crate) connection: MySqlConnection,
    pub(crate) names: Names,
    /// Whether it has served before: then its first failure may be the server's last restart.
    pub(crate) used: bool,
}

impl Session {
    /// Several statements in one message, and the rows of all of them. It ends at the first that fails.
    pub(crate) async fn script(&mut self, template: &str) -> Result<Vec<MySqlRow>, Fault> {
        let text = self.names.write(template);
        Ok(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut self.connection).await?)
    }

    /// How many rows a single statement found.
    pub(crate) async fn change(&mut self, template: &str) -> Result<u64, Fault> {
        let text = self.names.write(template);
        let mut done = sqlx::raw_sql(AssertSqlSafe(text)).execute_many(&mut self.connection);
        let mut found = 0;
        while let Some(result) = done.try_next().await? {
            found += result.rows_affected();
        }
        Ok(found)
    }

    pub(crate) async fn roll_back(&mut self) -> Result<(), Fault> {
        self.script("ROLLBACK").await.map(|_| ())
    }
}

/// A URL's connection options and the name for its errors.
pub(crate) fn parse(url: &str) -> Result<(MySqlConnectOptions, Place), StoreError> {
    // The parser's own error may quote the URL, and the URL holds the password.
    let unusable = |what: &str| StoreError::new(NAME, StoreErrorKind::Config, what);
    if !url.starts_with("mysql://") && !url.starts_with("mariadb://") {
        return Err(unusable("not a URL of a database: write mysql://USER:PASSWORD@HOST:PORT/DATABASE"));
    }
    let options = MySqlConnectOptions::from_str(url)
        .map_err(|_| unusable("not a URL of a database: write mysql://USER:PASSWORD@HOST:PORT/DATABASE"))?
        .disable_statement_logging();
    let Some(database) = options.get_database().filter(|name| !name.is_empty()) else {
        return Err(unusable("the URL names no database: write mysql://USER:PASSWORD@HOST:PORT/DATABASE"));
    };
    let demands = matches!(
        options.get_ssl_mode(),
        MySqlSslMode::Required | MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity
    );
    if demands && !cfg!(feature = "tls") {
        return Err(unusable(
            "ssl-mode asks for TLS, and this program was built without it: build it with the feature `tls`",
        ));
    }
    let place = match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    };
    // The statements set what they need by themselves.
    let options = options
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .charset("utf8mb4")
        .statement_cache_capacity(32);
    Ok((options, Place(place.into())))
}

impl Connections {
    /// A new connection to a server that takes claims.
    pub(crate) async fn connect(&self) -> Result<Session, Fault> {
        let connection = MySqlConnection::connect_with(&self.options).await?;
        let mut session = Session { connection, names: self.names.clone(), used: false };
        // The server's default of none of them is to be trusted: `NO_BACKSLASH_ESCAPES` or a lax mode, a time zone
        // with DST, gap locks.
        let text = format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = 1, \
             sql_safe_updates = 0, foreign_key_checks = 1, unique_checks = 1, innodb_lock_wait_timeout = {}; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION TRANSACTION READ WRITE; {LOOK}",
            seconds(self.timeout),
        );
        let rows = session.script(&text).await?;
        self.look(rows.last().ok_or(sqlx::Error::RowNotFound)?)?;
        Ok(session)
    }

    /// Refuses a server that cannot take claims. A name may lead to a replica after a failover.
    fn look(&self, row: &MySqlRow) -> Result<(), Fault> {
        let refused = |kind, what: String| Err(Fault::Refused(self.place.error(kind, what)));
        let version: String = row.try_get_unchecked(0)?;
        if !is_new_enough(&version) {
            let what = format!("the server is too old ({version}): MariaDB 10.6 or MySQL 8.0 is needed");
            return refused(StoreErrorKind::Config, what);
        }
        if long(row, 1)?.unwrap_or(0) != 0 {
            let what = "the server is read-only, as a replica is: connect to the primary".to_owned();
            return refused(StoreErrorKind::Unavailable, what);
        }
        let format: String = row.try_get_unchecked(3)?;
        if long(row, 2)?.unwrap_or(0) != 0 && format.eq_ignore_ascii_case("STATEMENT") {
            let what = "binlog_format is STATEMENT, which cannot replicate what is read without gap locks: set it to \
                        ROW or MIXED";
            return refused(StoreErrorKind::Config, what.to_owned());
        }
        Ok(())
    }
}

/// `10.11.6-MariaDB-…`, `5.5.5-10.6.4-MariaDB`, `8.0.36`.
fn is_new_enough(version: &str) -> bool {
    let text = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version.contains("MariaDB") { (major, minor) >= (10, 6) } else { major >= 8 }
}

fn seconds(timeout: Duration) -> u64 {
    timeout.as_secs().clamp(1, 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for version in [
            "10.6.0-MariaDB",
            "10.11.6-MariaDB-0+deb12u1-log",
            "5.5.5-10.6.4-MariaDB",
            "11.4.2-MariaDB",
            "8.0.36",
            "9.1.0",
        ] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["10.5.20-MariaDB", "5.7.44", "5.5.5-10.3.39-MariaDB", "", "unknown"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }

    // A URL holds a password, and an error is logged.
    #[test]
    fn an_error_does_not_show_the_url() {
        for url in ["mysql://u:hunter2@db:port/x", "mysql://u:hunter2@db", "postgres://u:hunter2@db/x"] {
            let error = parse(url).err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("hunter2"), "{error}");
        }
    }
}
