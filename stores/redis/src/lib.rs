//! Semel's records in Redis or Valkey: atomic Lua steps, one multiplexed connection a server, honest about durability.
//!
//! ```no_run
//! # async fn demo() -> Result<(), semel_core::store::StoreError> {
//! use semel_store_redis::RedisStore;
//! let store = RedisStore::open("redis://:password@127.0.0.1:6379/0").await?;
//! for warning in store.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Redis 7.0 or later, or Valkey. Needs a Tokio runtime with timers.
//!
//! # Where
//!
//! | URL | |
//! |---|---|
//! | `redis://[user:password@]host[:6379][/database]` | a single server |
//! | `redis+unix:///path/to/socket` | the same, over a Unix socket |
//! | `redis+sentinel://[user:password@]host[:26379],host…[/database]?service=NAME` | the primary that Sentinels know by this name |
//! | `redis+cluster://[user:password@]host[:6379],host…` | a cluster, of which some nodes are enough |
//! | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | the same over TLS, with the feature `tls` (rustls with aws-lc) |
//!
//! What a URL may say besides: `sentinel_user=` and `sentinel_password=`, by which the Sentinels know us, while those before
//! the `@` are for the data nodes; `replicas=N` and `replicas_ms=1000`, see [`Builder::replicas`]; `tls_ca=FILE`,
//! `tls_cert=FILE` and `tls_key=FILE`, PEM files with whom to trust and what to show. Special characters in a user or
//! password are percent-encoded. A server of another kind than its URL says is refused with the scheme to write.
//!
//! * **Through Sentinels** a majority of those in the URL is asked, as far as they answer, and the newest word wins. They are
//!   asked again when a connection is lost, when a server refuses writes, and every 2 seconds: an old primary that was cut off
//!   from them is left soon after. What it took until then is lost, unless it refuses writes without its replicas
//!   (`min-replicas-to-write 1` and `min-replicas-max-lag 10` at the server).
//! * **In a cluster** each step goes to the node that serves the record's slot. `MOVED`, `ASK`, `TRYAGAIN` and `CLUSTERDOWN`
//!   are followed or waited for, up to eight tries within the [time-out](Builder::timeout). While a slot is being moved
//!   key by key, new claims in it may find nobody in charge until the move is done (`Unavailable`; nothing ran). A
//!   [quota](semel_core::store::Quota) is refused: what one principal keeps is spread over the nodes.
//! * Steps that found no primary, or a demoted one, are told again: they recognise what they did.
//!
//! # What is lost when
//!
//! Redis answers from memory. What its disk knows depends on its settings, and a record that is lost is a key that
//! **runs a second time**. [`Capabilities::durable`] is set only for the first line, and [`RedisStore::warnings`] and
//! the log say the rest at start.
//!
//! | server | a crash of the process | a crash of the machine |
//! |---|---|---|
//! | `appendonly yes`, `appendfsync always` | nothing that was answered | the same, if the disk keeps its word |
//! | `appendfsync everysec` | nothing, as a rule: the system has it | up to two seconds |
//! | `appendfsync no` | nothing, as a rule | what the system had not written yet, some 30 seconds |
//! | snapshots (`save`) | all since the last snapshot | the same |
//! | neither | everything: of 100 keys, 100 ran again (`a_restart_without_persistence_runs_every_key_again`) | the same |
//! | fails over to a replica | what the replica had not received yet, whatever the settings above: of a replica that stood still for 0.3 s, 306 of 526 keys ran again; with `replicas=1`, none of 201 | the same |
//!
//! [`Builder::replicas`] has claims and settlements wait for acknowledgements of replicas (`WAIT`). With as many as there
//! are replicas it closes the last line: whoever is promoted has what was answered. With fewer it narrows it, as the
//! promoted one may be another. A step that waited in vain is `Unavailable`, has taken effect all the same, and finds that
//! when it is sent again. After a failover the new primary has one replica less, and steps are `Unavailable` until there are
//! enough again. A server that was emptied while this process ran gets the store's secret back, and a warning is logged.
//!
//! A policy that removes keys when memory is full is refused, see [`Builder::accept_eviction`]. With `noeviction` a full
//! server refuses new claims ([`Full`]) and has changed nothing, while replays, heartbeats and settlements go on; an
//! answer for which there is no room is completed without its body. It can be opened ([`Warning::Full`]), unless the prefix is a
//! new one.
//!
//! # Steps
//!
//! A step is a Lua script on one record, called by its hash, and told again to a server that forgot it. All keys of a
//! record share the hash tag `{id}`, so they are in one slot. Time is the server's `TIME`, read once in the script; a
//! record's own time never goes back. One connection to each server carries all steps, on a thread of its own; a connection
//! that was lost or fell silent is made again, and what was asked on it is asked once more, since steps are safe to repeat.
//!
//! | step | round trips |
//! |---|---|
//! | claim, release, abandon, note, inspect, resolve, delete | 1 |
//! | complete, with the answer | 1 |
//! | up to 256 renewals | 1 |
//! | replay of a body up to 16 KiB | 1 |
//! | replay of a larger one | 2 |
//! | list, sweep | a pass over the keys with `SCAN`, see [`Store::list`] and [`Store::sweep`] of [`RedisStore`] |
//!
//! Lua's time is the server's, so a fresh pair of claim and completion has a way of its own through the scripts, on which
//! nothing is set up that it does not need, and on which each command, key, argument and byte was weighed: a claim is `TIME`
//! and one `SET NX GET`, a completion `TIME`, `GET`, `SET` and `PUBLISH`
//! (`a_fresh_pair_takes_six_commands_and_a_large_answer_three_more`). Whatever else a record can be goes on to the code that
//! knows all cases, in the same call. A server that refuses the claim's write is asked for the record, so that it still
//! replays what it has.
//!
//! An answer of more than 1 KiB never passes through Lua on its way in: it is written beside the record under a name of
//! its own, and the completion, which follows in the same write, renames it into place. Cut off between the two, the
//! answer is known to no record and ends within an hour; the completion links nothing that is not there. A record and
//! its answer are read in this order, and the record knows the answer's checksum, so that no other answer is taken for it.
//!
//! Only settled records have a time-to-live, and never one below their life. What ends by it is not counted by
//! [`Store::sweep`], whose work is what a time-to-live cannot do: it writes down leases that ran out, frees takeovers that
//! nobody claimed, drops bodies whose life is over, and leaves of a record no more than its last fence. A key per waiter is
//! watched by pub/sub, on a second connection that is made when the first one waits. In a cluster, too, it is one: messages
//! are broadcast between nodes, so that any of them will do. Sharded ones would spare that traffic, and cost a connection to
//! each primary, which a move of slots or a failover elsewhere would break. Both are hints.
//!
//! # Fences
//!
//! There is no counter: it would be in another slot, and would be lost with whatever a failover loses. A claim's fence is
//! the largest of *the record's last fence plus one*, *the server's clock in microseconds*, and the record's own time, which
//! is ahead only of a clock that went back. The last fence stays with the record, and where that is removed, in 10 bytes
//! under its key. These bytes, too, have a time-to-live: at least the record's life, at least a day, counted from the later
//! of the fence and the removal.
//!
//! * **While the key is there** the next fence is higher, whatever clocks do.
//! * **The key ended by its time-to-live**: the server's clock has been at the fence's own instant plus a record's life, so
//!   a fence from the clock is higher, unless the clock has since gone back by more than that life, or a day.
//! * **The key was lost, or its last writes were**, by a restart without persistence, a failover, `FLUSHALL`, eviction or by
//!   hand: the fence is from the clock of the server that is there now, or from what it remembers. It is higher, if that
//!   clock is past what earlier primaries' clocks showed when they handed out this record's fences.
//!
//! So a fence goes back only where a claim that was answered is lost **and** the new primary's clock is behind the old one's by
//! more than the time between the two claims, which is at least the outage. [`Builder::replicas`] with all replicas excludes
//! the first, clocks that are kept together (NTP, which Redis asks for anyway) the second. Fences of *different* records are
//! compared by nobody here; on one server they grow as its clock does. They stay below 2^53, as Lua's numbers must, until
//! the year 2255.
//!
//! # Quotas
//!
//! A quota counts the records that were themselves claimed under a quota
//! ([`Quotas::Limited`](semel_core::store::Quotas::Limited)): a claim without one pays for no index. That index is on another
//! slot than the records, so that a cluster has none, and refuses claims with one (`Config`).
//!
//! # Rights
//!
//! `TIME GET SET EXISTS RENAME PEXPIRE PEXPIREAT UNLINK EVAL EVALSHA SCAN INFO PING`; `PUBLISH SUBSCRIBE UNSUBSCRIBE`,
//! without which waiters look again by themselves; `WAIT` and `ZADD ZREM ZCARD ZRANGE ZRANGEBYSCORE HGET HSET HDEL HINCRBY PERSIST` where
//! replicas and quotas are configured; `CLUSTER INFO`, `CLUSTER SLOTS` and `ASKING` in a cluster, and `SENTINEL MASTER` of the
//! Sentinels; `SCRIPT LOAD` and `CONFIG GET` are used where they are allowed. Keys and channels
//! begin with the [prefix](Builder::prefix). Those of the first list that steps use are tried when the store is opened.
//!
//! # Errors
//!
//! [`StoreError`]: its kind says whether a step may have taken effect, and its text names the
//! setting and the fix, and never the password. What cannot be used as it is, is told when it is opened.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tls` | `rediss://` and its kin, by rustls with aws-lc |
//!
//! [`Full`]: semel_core::store::StoreErrorKind::Full

mod address;
mod answer;
mod builder;
mod clock;
mod cluster;
mod dial;
mod error;
mod keys;
mod link;
mod open;
mod preflight;
mod row;
mod scan;
mod scripts;
mod secret;
mod sentinel;
mod servers;
mod slot;
mod steps;
mod tls;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention};
use semel_core::store::{
    Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolution, Resolved, Settled, Store, StoreError, Swept, Watch,
};

pub use builder::Builder;
pub use clock::Clock;
pub use preflight::Warning;

use link::Bookkeeping;
use open::Plan;
use preflight::Wanted;
use scan::Cursor;
use steps::Steps;
use watch::Watchers;

/// Records in Redis.
pub struct RedisStore {
    steps: Arc<Steps>,
    watchers: Arc<Watchers>,
    cursor: Cursor,
    secret: Secret,
    capabilities: Capabilities,
    warnings: Vec<Warning>,
    plan: Plan,
    wanted: Wanted,
    bookkeeping: Bookkeeping,
}

impl RedisStore {
    /// Connects with the defaults: see [`Builder::open`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// To open a store with other settings. The forms of its URL are in the [crate's documentation](crate#where).
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// What the server's operator should know, as found when it was opened.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &format_args!("{}", self.plan.server()))
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        self.steps.begin(ask).await
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        self.steps.renew(leases, lease_for).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        self.steps.complete(lease, completion, keep).await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        self.steps.release(by, how, keep).await
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.steps.abandon(lease).await
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        self.steps.note(lease, progress).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        Ok(self.watchers.watch(*id).await)
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        self.steps.inspect(id).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.steps.read(id).await
    }

    /// Redis has no order of keys and no index by state, so each page is a pass of `SCAN` over the whole database of every
    /// primary, and a look at up to 4,096 records: for operators, not for requests. A page may hold fewer records than asked
    /// for and still have a next one. Where a cluster's slots have other primaries at its end than at its beginning, a pass
    /// is made again; keys that are on their way between two nodes just then may be missing from a page.
    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.steps.list(query).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        self.steps.resolve(id, resolution).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        self.steps.delete(id, which).await
    }

    /// Records end by Redis' own time-to-live. A sweep passes over the keys with `SCAN`, up to 65,536 a call, and goes on
    /// where the last one stopped: it writes down leases that ran out, frees takeovers, and drops bodies.
    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.steps.sweep_some(&self.cursor, limit).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.steps.health().await
    }

    /// Asks on connections of its own, one to each primary.
    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        let plan = self.plan.clone();
        let wanted = Wanted { accept_eviction: true, ..self.wanted };
        let looking = async move { plan.look(wanted).await };
        Ok(self.bookkeeping.run(looking).await?.all())
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }
}
