//! What whoever runs the server should know.

use semel_core::store::Finding;
use sqlx::Row as _;

use crate::connect::Session;
use crate::desk::Step;
use crate::error::{Fault, Place};
use crate::row::long;

/// What a server says of its settings, and of those of this connection.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    version: String,
    pub(crate) packet: u64,
    flush: i64,
    /// `None` where nothing is logged for replicas.
    sync_binlog: Option<i64>,
    doublewrite: bool,
    clock_runs: bool,
    session: Vec<(String, String)>,
}

/// What an answer has beside its body: fields, their names, and the statement around it.
const BESIDE: u64 = 256 << 10;
const DEFAULT_BODY: u64 = 64 << 20;

impl Server {
    pub(crate) async fn ask(session: &mut Session) -> Result<Self, Fault> {
        let rows = session
            .script(
                "SELECT VERSION(), CAST(@@global.max_allowed_packet AS SIGNED), \
                 CAST(@@global.innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@global.log_bin AS SIGNED), \
                 CAST(@@global.sync_binlog AS SIGNED), @@global.innodb_doublewrite NOT IN ('0', 'OFF'), \
                 TIMESTAMPDIFF(MICROSECOND, SYSDATE(6), IF(SLEEP(0.001) = 0, SYSDATE(6), SYSDATE(6)))",
            )
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let int = |at| Ok::<_, Fault>(long(row, at)?.unwrap_or(0));
        Ok(Self {
            version: row.try_get_unchecked(0)?,
            packet: u64::try_from(int(1)?).unwrap_or(0),
            flush: int(2)?,
            sync_binlog: (int(3)? != 0).then_some(int(4)?),
            doublewrite: int(5)? != 0,
            clock_runs: int(6)? > 0,
            session: variables(session, SESSION).await?,
        })
    }

    /// Why no claim can be made there.
    pub(crate) fn is_unfit(&self) -> Option<String> {
        if !self.clock_runs {
            let what = "the server runs with sysdate-is-now, so no time can be read after the wait for a row: remove it";
            return Some(what.to_owned());
        }
        let (name, value) = self.session.iter().find(|(name, value)| !is_as_set(name, value))?;
        Some(format!(
            "something between here and the server drops the settings of connections, as poolers may do: {name} is \
             {value:?}: connect to the server itself"
        ))
    }

    pub(crate) fn largest_body(&self) -> u64 {
        self.packet.saturating_sub(BESIDE).min(DEFAULT_BODY)
    }

    /// Whether what it answered outlives a crash.
    pub(crate) fn durable(&self) -> bool {
        self.flush == 1 && self.sync_binlog.is_none_or(|every| every == 1)
    }

    fn durability(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.push(if self.flush == 1 {
            Finding::fine("durability", "innodb_flush_log_at_trx_commit is 1")
        } else {
            Finding::warning(
                "durability",
                format!(
                    "innodb_flush_log_at_trx_commit is {}: a crash loses the last second, and its keys may run a second \
                     time",
                    self.flush
                ),
                "set innodb_flush_log_at_trx_commit = 1",
            )
        });
        findings.push(match self.sync_binlog {
            None => Finding::fine("durability", "there is no binary log to lose"),
            Some(1) => Finding::fine("durability", "sync_binlog is 1"),
            Some(every) => Finding::warning(
                "durability",
                format!(
                    "sync_binlog is {every}: a crash of the machine takes back what the binary log had not written, and \
                     its keys may run a second time"
                ),
                "set sync_binlog = 1",
            ),
        });
        if !self.doublewrite {
            findings.push(Finding::warning(
                "durability",
                "innodb_doublewrite is off: a crash of the machine may leave pages that are half written",
                "turn innodb_doublewrite on, unless the file system writes pages whole",
            ));
        }
        findings
    }
}

/// What each connection sets for itself. The level has two names, of which a server knows one or both.
const SESSION: &str = "SHOW SESSION VARIABLES WHERE Variable_name IN \
    ('time_zone', 'sql_mode', 'autocommit', 'tx_isolation', 'transaction_isolation')";

/// Whether a setting of the session is as the statements need it.
fn is_as_set(name: &str, value: &str) -> bool {
    match name {
        "time_zone" => value == "+00:00",
        "sql_mode" => value.split(',').any(|mode| mode == "STRICT_ALL_TABLES"),
        "autocommit" => value == "ON",
        _ => value == "READ-COMMITTED",
    }
}

/// What is counted there. Only MariaDB says how many follow.
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN \
    ('Threads_connected', 'Slaves_connected', 'Rpl_semi_sync_master_status')";

async fn variables(session: &mut Session, asked: &str) -> Result<Vec<(String, String)>, Fault> {
    let rows = session.script(asked).await?;
    let each = rows.iter().map(|row| Ok((row.try_get_unchecked(0)?, row.try_get_unchecked(1)?)));
    each.collect::<Result<_, sqlx::Error>>().map_err(Fault::from)
}

pub(crate) fn examine<'s>(session: &'s mut Session, place: &'s Place) -> Step<'s, Vec<Finding>> {
    Box::pin(async move {
        let server = Server::ask(session).await?;
        let status = variables(session, STATUS).await?;
        let rows = session
            .script("SELECT CAST(@@global.max_connections AS SIGNED), version FROM {p}meta WHERE one = 1")
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (most, version) = (long(row, 0)?.unwrap_or(0), long(row, 1)?.unwrap_or(0));
        let status = Status { status, most };
        let mut findings = vec![
            Finding::fine("server", format!("{} at {}", server.version, place.0)),
            Finding::fine("way", "what a connection sets for itself stays: UTC, strict, READ COMMITTED"),
        ];
        findings.extend(server.durability());
        findings.push(status.replication());
        findings.push(Finding::fine("packet", format!("max_allowed_packet is {} bytes", server.packet)));
        findings.push(status.room());
        let prefix = session.names.prefix();
        findings.push(Finding::fine("schema", format!("the tables {prefix}* have version {version}")));
        findings.push(Finding::fine("rights", "all that the steps need"));
        Ok(findings)
    })
}

struct Status {
    status: Vec<(String, String)>,
    most: i64,
}

impl Status {
    fn of(&self, name: &str) -> Option<&str> {
        self.status.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.of(name)?.parse().ok()
    }

    fn replication(&self) -> Finding {
        let waits = self.of("Rpl_semi_sync_master_status") == Some("ON");
        match self.number("Slaves_connected") {
            None => Finding::fine("replication", "the server does not say what follows it"),
            Some(0) => Finding::fine(
                "replication",
                "no replica follows: if the machine is lost, so is what came after the last backup",
            ),
            Some(count) if waits => Finding::fine(
                "replication",
                format!(
                    "{count} replicas follow, and commits wait for one of them, up to rpl_semi_sync_master_timeout"
                ),
            ),
            Some(count) => Finding::warning(
                "replication",
                format!(
                    "{count} replicas follow asynchronously: a failover takes back the last moments, and their keys may \
                     run a second time"
                ),
                "set rpl_semi_sync_master_enabled = ON here and rpl_semi_sync_slave_enabled = ON there, and promote only \
                 a replica that has acknowledged",
            ),
        }
    }

    fn room(&self) -> Finding {
        let used = self.number("Threads_connected").unwrap_or(0);
        let text = format!("{used} of {} connections are in use", self.most);
        if used.saturating_mul(10) < self.most.saturating_mul(9) {
            return Finding::fine("room", text);
        }
        Finding::warning("room", text, "raise max_connections, or have other programs use fewer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // In another time zone a lease would end an hour early, or twice; without a strict mode a value is cut off in silence.
    #[test]
    fn a_session_that_lost_its_settings_is_refused() {
        let server = |name: &str, value: &str| Server {
            version: "10.11".into(),
            packet: 1 << 24,
            flush: 1,
            sync_binlog: None,
            doublewrite: true,
            clock_runs: true,
            session: vec![(name.into(), value.into())],
        };
        for (name, value) in [
            ("time_zone", "+00:00"),
            ("sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
            ("autocommit", "ON"),
            ("tx_isolation", "READ-COMMITTED"),
        ] {
            assert_eq!(server(name, value).is_unfit(), None, "{name}");
        }
        for (name, value) in [
            ("time_zone", "SYSTEM"),
            ("sql_mode", ""),
            ("autocommit", "OFF"),
            ("transaction_isolation", "REPEATABLE-READ"),
        ] {
            let what = server(name, value).is_unfit().unwrap_or_default();
            assert!(
                what.contains(&format!("{name} is {value:?}")) && what.contains("connect to the server"),
                "{what}"
            );
        }
    }
}
