//! From a URL to a connection, and what is wrong with it.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use semel_core::store::{StoreError, StoreErrorKind as Kind};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _};

use crate::desk::Connections;
use crate::error::{Fault, NAME, Place};
use crate::session::Session;
use crate::sql::Protocol;
use crate::tls;

/// The oldest server whose SQL the statements are written in.
const OLDEST: i64 = 130_000;

/// A URL's connection options and the name for its errors.
pub(crate) fn parse(url: &str) -> Result<(PgConnectOptions, Place), StoreError> {
    // The parser's own error may quote the URL, and the URL holds the password.
    let unusable = || {
        StoreError::new(
            NAME,
            Kind::Config,
            "not a URL of a database: write postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        )
    };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(unusable());
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| unusable())?.disable_statement_logging();
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    let place = match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    };
    let place = Place(place.into());
    let options =
        tls::asked(options, cfg!(feature = "tls")).map_err(|what| place.error(Kind::Config, what))?;
    Ok((options, place))
}

/// The settings that the statements count on.
pub(crate) fn configured(
    options: PgConnectOptions,
    protocol: Protocol,
    timeout: Duration,
) -> PgConnectOptions {
    let options = options.application_name("semel");
    match protocol {
        Protocol::Prepared => options.statement_cache_capacity(64).options([
            // Whatever the database's default: what was answered is on the disk.
            ("synchronous_commit", "on".to_owned()),
            // The caller has given up by then.
            ("statement_timeout", timeout.as_millis().max(1).to_string()),
            ("default_transaction_isolation", "read committed".to_owned()),
            ("search_path", "pg_catalog".to_owned()),
            ("jit", "off".to_owned()),
            // Planning takes longer than what is planned.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
            // Every statement names its records. A plan made while the table was small must not read all of it when
            // it has grown, nor take its rows in another order than that of the ids.
            ("enable_seqscan", "off".to_owned()),
            ("enable_hashjoin", "off".to_owned()),
            ("enable_mergejoin", "off".to_owned()),
        ]),
        // Poolers refuse what they cannot keep for each client.
        Protocol::Simple => options.statement_cache_capacity(0).extra_float_digits(None),
    }
}

impl Connections {
    /// A new connection, ready to take any step in one round trip.
    pub(crate) async fn connect(&self) -> Result<Session, Fault> {
        let mut session = self.dial().await?;
        if self.protocol == Protocol::Prepared {
            // A host name may lead to a standby after a failover: no claim could be written there, and what is
            // read there may be old.
            self.look(&mut session).await?;
        }
        self.warm(&mut session).await?;
        Ok(session)
    }

    /// A new connection to whatever is there.
    pub(crate) async fn dial(&self) -> Result<Session, Fault> {
        let connection = PgConnection::connect_with(&self.options).await?;
        Ok(Session { connection, sql: Arc::clone(&self.sql), protocol: self.protocol, used: false })
    }

    /// Prepares what every request needs.
    pub(crate) async fn warm(&self, session: &mut Session) -> Result<(), Fault> {
        if self.protocol == Protocol::Prepared {
            for sql in session.sql.hot() {
                session.connection.prepare(AssertSqlSafe(Arc::clone(sql)).into_sql_str()).await?;
            }
        }
        Ok(())
    }

    /// Refuses a server that cannot take claims.
    pub(crate) async fn look(&self, session: &mut Session) -> Result<(), Fault> {
        let rows = session
            .script(
                "SELECT current_setting('server_version_num')::bigint, pg_is_in_recovery(), \
                 current_setting('transaction_read_only') = 'on'",
            )
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let refused = |kind, what: &str| Err(Fault::Refused(self.place.error(kind, what)));
        if row.try_get::<i64, _>(0)? < OLDEST {
            return refused(Kind::Config, "the server is too old: PostgreSQL 13 or later is needed");
        }
        if row.try_get::<bool, _>(1)? {
            return refused(
                Kind::Unavailable,
                "the server is a standby, which is read-only: connect to the primary",
            );
        }
        if row.try_get::<bool, _>(2)? {
            return refused(
                Kind::Unavailable,
                "the server is read-only: default_transaction_read_only is on for this user or database",
            );
        }
        Ok(())
    }
}
