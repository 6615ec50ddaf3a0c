//! What a server has to be, and what it had better be.

use std::collections::HashMap;
use std::fmt;

use redis::Value;
use redis::aio::MultiplexedConnection;
use semel_core::store::{Finding, StoreError, StoreErrorKind};

use crate::dial::Server;
use crate::error::{error, failed, unexpected};

/// The oldest Redis that has all that the steps use: script flags, and `SET` with both `NX` and `GET`.
const OLDEST: (u32, u32) = (7, 0);

/// Something about a server that its operator should know. None of it stops the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Neither a log nor snapshots: a restart of the server loses every record.
    NotPersistent,
    /// Snapshots only: a crash loses what was written since the last one.
    SnapshotsOnly,
    /// The log is synced once a second: a crash loses the last second or two.
    SyncedEverySecond,
    /// The log is synced when the operating system likes: a crash of the machine loses up to half a minute.
    SyncedByTheSystem,
    /// The server does not say how often its log is synced (`CONFIG` is not allowed).
    SyncUnknown,
    /// This policy removes keys to make room, records among them, and was accepted.
    Evicts(String),
    /// `maxmemory` is reached: new claims are refused, while replays, heartbeats and settlements go on.
    Full,
    /// A replica may become the primary, and steps are answered before so many replicas have them.
    FailoverForgets {
        /// Replicas that the server has now.
        replicas: usize,
        /// Acknowledgements that steps wait for.
        waits_for: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPersistent => f.write_str(
                "redis keeps nothing on disk: after its restart every key may run a second time; \
                 set appendonly yes and appendfsync always",
            ),
            Self::SnapshotsOnly => f.write_str(
                "redis writes snapshots only: what a crash takes back may run a second time; \
                 set appendonly yes and appendfsync always",
            ),
            Self::SyncedEverySecond => f.write_str(
                "redis syncs its log once a second: a crash takes back the last second or two, and those keys may \
                 run a second time; set appendfsync always",
            ),
            Self::SyncedByTheSystem => f.write_str(
                "redis leaves syncing to the operating system: a crash of the machine takes back up to half a \
                 minute, and those keys may run a second time; set appendfsync always",
            ),
            Self::SyncUnknown => f.write_str(
                "redis does not say how often it syncs its log: unless appendfsync is always, a crash takes back \
                 the last writes, and those keys may run a second time",
            ),
            Self::Evicts(policy) => write!(
                f,
                "redis removes keys when it is full (maxmemory-policy {policy}): a record that it removes runs a \
                 second time",
            ),
            Self::Full => f.write_str(
                "redis is full: it takes no new claims until there is room; raise maxmemory",
            ),
            Self::FailoverForgets { replicas, waits_for } => write!(
                f,
                "redis fails over to one of {replicas} replicas, and steps wait for {waits_for}: what the new primary \
                 had not received may run a second time; have them wait for {replicas} (replicas={replicas} in the URL)",
            ),
        }
    }
}

impl Warning {
    /// In one word, what to do, and what for.
    const fn fix(&self) -> &'static str {
        match self {
            Self::NotPersistent | Self::SnapshotsOnly => {
                "set appendonly yes and appendfsync always in redis.conf, or by CONFIG SET and CONFIG REWRITE"
            }
            Self::SyncedEverySecond | Self::SyncedByTheSystem => "set appendfsync always",
            Self::SyncUnknown => "ask whoever runs the server, or allow CONFIG GET to this user",
            Self::Evicts(_) => "set maxmemory-policy noeviction",
            Self::Full => "raise maxmemory",
            Self::FailoverForgets { .. } => {
                "have claims and settlements wait for as many replicas as there are (`replicas=N` in the URL)"
            }
        }
    }
}

impl From<&Warning> for Finding {
    fn from(warning: &Warning) -> Self {
        let about = match warning {
            Warning::Evicts(_) => "eviction",
            Warning::Full => "room",
            Warning::FailoverForgets { .. } => "replication",
            _ => "durability",
        };
        Self::warning(about, warning.to_string(), warning.fix())
    }
}

/// What was found.
pub(crate) struct Findings {
    pub(crate) durable: bool,
    pub(crate) warnings: Vec<Warning>,
    /// What is as it should be, and facts.
    pub(crate) facts: Vec<Finding>,
}

impl Findings {
    /// All of it, facts first. What is said of several servers is said once.
    pub(crate) fn all(self) -> Vec<Finding> {
        let Self { facts, warnings, .. } = self;
        facts.into_iter().chain(warnings.iter().map(Finding::from)).collect()
    }

    /// Those of several primaries: what is true of one is true of the store.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.durable &= other.durable;
        for warning in other.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        for fact in other.facts {
            if !self.facts.contains(&fact) {
                self.facts.push(fact);
            }
        }
        self
    }
}

/// What a server is looked at for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) role: Role,
    pub(crate) max_body: u64,
    pub(crate) accept_eviction: bool,
    /// Replicas that steps wait for.
    pub(crate) replicas: usize,
}

/// What the URL takes a server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Single,
    /// A primary that Sentinels named.
    Primary,
    /// A primary of a cluster.
    Node,
}

/// Refuses what cannot keep the contract, and notes the rest.
pub(crate) async fn check(
    connection: &mut MultiplexedConnection,
    server: &Server,
    wanted: Wanted,
) -> Result<Findings, StoreError> {
    let Wanted { role, max_body, accept_eviction, replicas } = wanted;
    let info = Info::ask(connection, server).await?;
    let config = |message: String| Err(error(StoreErrorKind::Config, format!("{server}: {message}")));
    match info.get("redis_mode") {
        "sentinel" => {
            return config(
                "is a Sentinel, which holds no records: write redis+sentinel://HOST/?service=NAME".into(),
            );
        }
        "cluster" if role != Role::Node => {
            return config("is a node of a cluster: write redis+cluster:// with its address".into());
        }
        _ => {}
    }
    let version = info.get("redis_version");
    if parse_version(version).is_none_or(|version| version < OLDEST) {
        let (major, minor) = OLDEST;
        return config(format!("is Redis {version}: this store needs {major}.{minor} or later"));
    }
    if info.get("loading") == "1" {
        return Err(error(StoreErrorKind::Unavailable, format!("{server}: is still loading its data")));
    }
    match (info.get("role"), role) {
        ("slave", Role::Single) => return config("is a replica: connect to its primary".into()),
        ("slave", Role::Primary | Role::Node) => {
            let message = format!("{server}: was the primary, and is a replica now");
            return Err(error(StoreErrorKind::Unavailable, message));
        }
        _ => {}
    }
    let mut warnings = Vec::new();
    let policy = info.get("maxmemory_policy");
    if policy != "noeviction" {
        if !accept_eviction {
            return config(format!(
                "its maxmemory-policy is {policy}, which removes records when memory is full, so that their keys run \
                 a second time: set it to noeviction (nothing else will do for `semel`; only a program of your own can \
                 accept this, with `Builder::accept_eviction`)"
            ));
        }
        warnings.push(Warning::Evicts(policy.to_owned()));
    }
    let settings = Settings::ask(connection).await;
    if let Some(largest) = settings.largest_value
        && max_body >= largest
    {
        return config(format!(
            "takes values of {largest} bytes (proto-max-bulk-len), less than bodies of {max_body} bytes need: lower \
             `max_body`, or raise that"
        ));
    }
    let kept = persistence(info.get("aof_enabled") == "1", &settings);
    let there = info.get("connected_slaves").parse().unwrap_or(0);
    let forgets = (role != Role::Single && there > replicas)
        .then_some(Warning::FailoverForgets { replicas: there, waits_for: replicas });
    // What is evicted is not kept, however well it was logged; nor is what only the lost primary had.
    let durable = kept.is_none() && policy == "noeviction" && forgets.is_none();
    warnings.extend(kept);
    warnings.extend(forgets);
    let facts = facts(&info, &settings, server, durable, wanted);
    Ok(Findings { durable, warnings, facts })
}

fn facts(info: &Info, settings: &Settings, server: &Server, durable: bool, wanted: Wanted) -> Vec<Finding> {
    let mut facts = vec![
        Finding::fine("server", format!("Redis {} at {server}", info.get("redis_version"))),
        Finding::fine("rights", "all that the steps need"),
    ];
    let policy = info.get("maxmemory_policy");
    if policy == "noeviction" {
        facts.push(Finding::fine("eviction", "maxmemory-policy is noeviction"));
    }
    if durable {
        facts.push(Finding::fine("durability", "its log is synced before each answer (appendfsync always)"));
    }
    if info.get("aof_enabled") == "1" && !matches!(info.get("aof_last_write_status"), "ok" | "") {
        let what = "the last write to its log failed";
        facts.push(Finding::warning("durability", what, "look into the server's log and at its disk"));
    }
    facts.push(room(info));
    facts.extend(replication(info, wanted));
    if settings.sync.is_none() {
        let what = "CONFIG GET is not allowed: settings are not checked";
        facts.push(Finding::fine("rights", what));
    }
    facts
}

fn room(info: &Info) -> Finding {
    let number = |name| info.get(name).parse::<u64>().unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    if most == 0 {
        return Finding::fine("room", format!("{} MiB of memory are in use, without a limit", used >> 20));
    }
    let what = format!("{} of {} MiB of memory are in use", used >> 20, most >> 20);
    if used.saturating_mul(10) < most.saturating_mul(9) {
        return Finding::fine("room", what);
    }
    Finding::warning("room", format!("{what}: a full server takes no new claims"), "raise maxmemory")
}

/// Replication of Redis is asynchronous; only `WAIT` for every replica makes a failover lose nothing.
fn replication(info: &Info, wanted: Wanted) -> Option<Finding> {
    let replicas = info.get("connected_slaves").parse().unwrap_or(0);
    let waits_for = wanted.replicas;
    match replicas {
        0 => {
            let what = "no replica follows: if the machine is lost, so are its records";
            Some(Finding::fine("replication", what))
        }
        count if count <= waits_for => Some(Finding::fine(
            "replication",
            format!("claims and settlements wait for {waits_for} of {count} replicas"),
        )),
        // Said as a warning of its own.
        count => (wanted.role == Role::Single)
            .then(|| (&Warning::FailoverForgets { replicas: count, waits_for }).into()),
    }
}

/// What is lost in a crash; nothing if the log is synced before each answer.
fn persistence(logs: bool, settings: &Settings) -> Option<Warning> {
    match (logs, settings.sync.as_deref()) {
        (true, Some("always")) => None,
        (true, Some("everysec")) => Some(Warning::SyncedEverySecond),
        (true, Some(_)) => Some(Warning::SyncedByTheSystem),
        (true, None) => Some(Warning::SyncUnknown),
        (false, _) if settings.snapshots == Some(false) => Some(Warning::NotPersistent),
        (false, _) => Some(Warning::SnapshotsOnly),
    }
}

fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

struct Info(HashMap<String, String>);

impl Info {
    async fn ask(connection: &mut MultiplexedConnection, server: &Server) -> Result<Self, StoreError> {
        let answer = connection.send_packed_command(&redis::cmd("INFO")).await;
        let text = match answer.map_err(|error| failed(server, error))? {
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            Value::VerbatimString { text, .. } => text,
            Value::ServerError(error) => return Err(failed(server, error.into())),
            _ => return Err(unexpected(server)),
        };
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// What only `CONFIG` tells, which many hosted servers do not allow.
#[derive(Default)]
struct Settings {
    sync: Option<String>,
    snapshots: Option<bool>,
    largest_value: Option<u64>,
}

impl Settings {
    async fn ask(connection: &mut MultiplexedConnection) -> Self {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg("appendfsync").arg("save").arg("proto-max-bulk-len");
        let answer = connection.send_packed_command(&cmd).await.ok();
        let fields: HashMap<String, String> =
            answer.and_then(|answer| redis::from_redis_value(answer).ok()).unwrap_or_default();
        Self {
            sync: fields.get("appendfsync").cloned(),
            snapshots: fields.get("save").map(|save| !save.is_empty()),
            largest_value: fields.get("proto-max-bulk-len").and_then(|largest| largest.parse().ok()),
        }
    }
}
