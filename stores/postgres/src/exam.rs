//! What whoever runs the server should know.

use semel_core::store::Finding;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::desk::Step;
use crate::error::{Fault, Place};
use crate::session::Session;
use crate::sql::Protocol;

/// All in one statement, of views that every user may read. What a user may not see of others is NULL there. Fences have no
/// index: a thousand records, by one that there is, show a sequence that was not restored with them.
pub(crate) const FACTS: &str = "
SELECT current_setting('server_version') AS version,
    current_setting('fsync') = 'on' AS fsync,
    current_setting('full_page_writes') = 'on' AS full_pages,
    current_setting('synchronous_standby_names') AS synchronous,
    (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS standbys,
    (SELECT source FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit') = 'client' AS direct,
    coalesce(inet_server_port(), 0) AS port,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') AS used,
    current_setting('max_connections')::bigint AS most,
    (SELECT version FROM {schema}.meta) AS schema_version,
    (SELECT max(fence) FROM (SELECT r.fence FROM {schema}.record AS r WHERE r.due IS NOT NULL
        ORDER BY r.due DESC LIMIT 1000) AS last) - coalesce(pg_sequence_last_value('{schema}.fence'::regclass), 0) AS behind";

/// What the statement needs to know.
pub(crate) struct Exam {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// The port that the URL names, where it names one.
    pub(crate) port: Option<u16>,
    pub(crate) schema: String,
    /// What brings the sequence before all records.
    pub(crate) beyond: String,
}

pub(crate) fn examine<'s>(session: &'s mut Session, exam: &'s Exam) -> Step<'s, Vec<Finding>> {
    Box::pin(async move {
        let rows = session.script(&exam.text).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Facts::read(row)?.findings(exam, session.protocol))
    })
}

struct Facts {
    version: String,
    fsync: bool,
    full_pages: bool,
    synchronous: String,
    standbys: i64,
    direct: bool,
    port: i32,
    used: i64,
    most: i64,
    schema_version: i32,
    /// By how many numbers the sequence is behind the records; not above 0: by none.
    behind: i64,
}

impl Facts {
    fn read(row: &PgRow) -> Result<Self, Fault> {
        Ok(Self {
            version: row.try_get("version")?,
            fsync: row.try_get("fsync")?,
            full_pages: row.try_get("full_pages")?,
            synchronous: row.try_get("synchronous")?,
            standbys: row.try_get("standbys")?,
            direct: row.try_get::<Option<bool>, _>("direct")?.unwrap_or(false),
            port: row.try_get("port")?,
            used: row.try_get("used")?,
            most: row.try_get("most")?,
            schema_version: row.try_get("schema_version")?,
            behind: row.try_get::<Option<i64>, _>("behind")?.unwrap_or(0),
        })
    }

    fn findings(&self, exam: &Exam, protocol: Protocol) -> Vec<Finding> {
        vec![
            Finding::fine("server", format!("PostgreSQL {} at {}", self.version, exam.place.0)),
            self.way(exam, protocol),
            self.disk(),
            self.pages(),
            Finding::fine("durability", "synchronous_commit is on for the store's own transactions"),
            self.replication(),
            self.room(),
            Finding::fine("schema", format!("{} has version {}", exam.schema, self.schema_version)),
            self.fences(exam),
            Finding::fine("rights", "all that the steps need"),
        ]
    }

    fn fences(&self, exam: &Exam) -> Finding {
        if self.behind <= 0 {
            return Finding::fine(
                "fences",
                "none of the records that were looked at has one beyond the sequence",
            );
        }
        Finding::warning(
            "fences",
            "the sequence fence is behind the records, as after a restore of the data alone: a key that was deleted may \
             get a lower fence than its late worker has",
            exam.beyond.clone(),
        )
    }

    fn disk(&self) -> Finding {
        if self.fsync {
            return Finding::fine("durability", "fsync is on");
        }
        Finding::warning(
            "durability",
            "fsync is off: a crash of the machine loses or damages records, and their keys run a second time",
            "set fsync = on in postgresql.conf, and restart the server",
        )
    }

    fn pages(&self) -> Finding {
        if self.full_pages {
            return Finding::fine("durability", "full_page_writes is on");
        }
        Finding::warning(
            "durability",
            "full_page_writes is off: a crash of the machine may leave pages that are half written",
            "set full_page_writes = on in postgresql.conf, and reload it",
        )
    }

    fn replication(&self) -> Finding {
        match (self.standbys, self.synchronous.is_empty()) {
            (0, true) => Finding::fine(
                "replication",
                "no standby follows: if the machine is lost, so is what came after the last backup",
            ),
            (0, false) => Finding::warning(
                "replication",
                "synchronous_standby_names is set and no standby follows: commits wait for one",
                "start the standbys that it names, or clear synchronous_standby_names",
            ),
            (count, true) => Finding::warning(
                "replication",
                format!(
                    "{count} standbys follow asynchronously: a failover takes back the last moments, and their keys may \
                     run a second time"
                ),
                "name them in synchronous_standby_names, and promote only one that is named there",
            ),
            (count, false) => Finding::fine(
                "replication",
                format!("{count} standbys follow, and commits wait as configured"),
            ),
        }
    }

    /// Poolers refuse or drop what a client sets when it connects, and forwarders have ports of their own.
    fn way(&self, exam: &Exam, protocol: Protocol) -> Finding {
        let other_port = exam.port.is_some_and(|port| self.port != 0 && i32::from(port) != self.port);
        match protocol {
            Protocol::Simple => Finding::fine("way", "through a pooler, as configured: nothing is prepared"),
            Protocol::Prepared if !self.direct => Finding::warning(
                "way",
                "something between here and the server drops the settings of connections, as poolers do",
                "connect to the server itself, or open the store with transaction_pooling",
            ),
            Protocol::Prepared if other_port => Finding::fine(
                "way",
                format!("the server listens on port {}: something forwards to it", self.port),
            ),
            Protocol::Prepared => Finding::fine("way", "direct"),
        }
    }

    fn room(&self) -> Finding {
        let text = format!("{} of {} connections are in use", self.used, self.most);
        if self.used.saturating_mul(10) < self.most.saturating_mul(9) {
            return Finding::fine("room", text);
        }
        Finding::warning("room", text, "raise max_connections, or have other programs use fewer")
    }
}
