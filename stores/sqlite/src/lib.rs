//! Semel's records in a SQLite file: one writer thread, group commit, full durability.
//!
//! ```
//! use semel_store_sqlite::SqliteStore;
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("semel.db");
//! let store = SqliteStore::open(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Durability
//!
//! With [`Synchronous::Full`], the default, a step is answered after its commit was synced to the disk; an answer,
//! also that of a read, is not taken back by a crash of the process, of the system, or of the power. Steps that
//! queue while a commit runs share the next one, so that many callers share one sync. A commit that fails is not
//! guessed at: the transaction is rolled back, the file is opened anew where the disk failed, what readers can
//! see is brought to the disk, and each step is asked again. When the disk is full, steps that need room are
//! answered [`Full`](semel_core::store::StoreErrorKind::Full), and have changed nothing.
//!
//! # Several processes
//!
//! Processes on one machine may share a file. They wait for each other up to the
//! [busy timeout](Builder::busy_timeout), then a step is
//! [`Contended`](semel_core::store::StoreErrorKind::Contended). [`Store::watch`] wakes for changes of the same
//! process only; those who wait look again by themselves.
//!
//! Network file systems are refused, since SQLite's locks and shared memory do not work on them
//! (<https://www.sqlite.org/wal.html>). FUSE is refused too, since sshfs is one;
//! [`Builder::allow_network_file_system`] is for those who know that theirs is local. Only Linux can tell.
//!
//! # Time
//!
//! On Linux a file's clock runs with the time since boot (`CLOCK_BOOTTIME`), which nobody steps and which all
//! processes of a machine share; the wall clock is read once a boot, when the file is first used in it. So a step
//! of the wall clock, an hour either way, moves no lease and no life until the next boot, and a machine that
//! started with a wrong wall clock keeps the file's clock wrong for that boot. Elsewhere the clock is the wall
//! clock: a step forward ends leases and lives early, and after a step backwards the file's time stands still
//! until the wall clock has caught up. In both the file's time never runs backwards, also across boots and when
//! the file is moved to another machine.
//!
//! # The file
//!
//! A new file is readable by its owner alone. It holds answers as they are, and the secret of its identities
//! unless one is [configured](Builder::secret). Beside it are `-wal` and `-shm`, which belong to it: copy all three,
//! or none while it is open. While the file is removed or replaced under it, a store answers
//! [`Unavailable`](semel_core::store::StoreErrorKind::Unavailable) and nothing else. Room of removed records is used again; the file does not shrink by itself.
//!
//! # Errors
//!
//! [`StoreError`]: its kind says whether a step may have taken effect, and its text names the file
//! and the fix. A damaged record is [`Undecodable`](semel_core::store::StoreErrorKind::Undecodable), never an absent one.

mod checkpoint;
mod clock;
mod error;
mod exam;
mod file;
mod network;
mod ops;
mod row;
mod sweep;
mod tx;
mod within;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::identity::Secret;
use semel_core::record::{Completion, Record, RecordId, RecordView, Retention, codec};
use semel_core::store::{
    Acquired, Begin, Begun, Capabilities, Delete, Deleted, Ended, Finding, LeaseRef, Migrated, Migration,
    Page, Query, ReleaseAs, ReleaseBy, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind,
    Swept, Transact, Transacted, Verdict, Watch,
};
use semel_store_kit::{Encoded, Watchers};

pub use clock::Clock;
pub use within::Effects;

use checkpoint::Checkpointer;
use error::{Fault, NAME};
use file::File;
use ops::{Claimed, Ruling};
use tx::{Access, Tx};
use within::Took;
use writer::{Desk, Writer};

/// SQLite takes rows of a thousand million bytes; this leaves room for the rest of the row.
const LARGEST_BODY: u64 = 900_000_000;
const DEFAULT_BODY: u64 = 64 << 20;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are SQLite's own")]
pub enum Synchronous {
    /// After its log was synced to the disk: survives loss of power, if the disk keeps its word.
    #[default]
    Full,
    /// When the system has it: survives a crash of the process, but loss of power may take back the last
    /// commits, and a request whose record is lost **may run a second time**.
    Normal,
    /// As `Normal`, and loss of power may damage the whole file. For tests.
    Off,
}

impl Synchronous {
    const fn word(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
            Self::Off => "OFF",
        }
    }
}

/// How to open a file.
#[derive(Clone, Debug)]
pub struct Builder {
    path: PathBuf,
    busy_timeout: Duration,
    synchronous: Synchronous,
    max_body: u64,
    max_file: Option<u64>,
    clock: Clock,
    secret: Option<Secret>,
    network: bool,
    migrate: bool,
}

impl Builder {
    /// How long a step waits for other processes before it is `Contended`. Default 5 seconds.
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.busy_timeout = wait;
        self
    }

    /// When a commit counts as done. Default [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// The largest body it keeps, in bytes; larger ones are `TooLarge`. Default 64 MiB, at most 900,000,000.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// The largest size of the database file, in bytes, to a page of 4 KiB; beyond it steps that need room are
    /// `Full`. The log beside it is not counted. Default: what the disk takes.
    pub fn max_file(mut self, bytes: u64) -> Self {
        self.max_file = Some(bytes);
        self
    }

    /// Where the time comes from. Default [`Clock::machine`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The secret of the file's identities. By default one is made when the file is made, and kept in it. A
    /// configured one is not written to the file; a file opens only with the one that it was made with.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Takes the file also on a network file system, where a lost lock **may run a request a second time**.
    pub fn allow_network_file_system(mut self) -> Self {
        self.network = true;
        self
    }

    /// Whether to make the schema and bring it up to date. Default yes.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Makes the file, or brings its schema up to date, and says what was done. Blocks as [`open`](Self::open) does.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn bring_up_to_date(self) -> Result<Migrated, StoreError> {
        let mut file = File::new(&self.path)?;
        file.busy_timeout = self.busy_timeout;
        file.bring_up_to_date(self.secret.as_ref(), &self.clock, self.network)
    }

    /// Opens the file, or makes it. Blocks on the disk, and up to the busy timeout on other processes.
    ///
    /// The error is `Config` for what is not a file of ours or cannot be written, and `NewerSchema` for a file
    /// of a newer version; nothing is written to such a file. Its text names the file and what to do.
    pub fn open(self) -> Result<SqliteStore, StoreError> {
        if self.max_body > LARGEST_BODY {
            let message = format!("bodies of {} bytes do not fit: at most {LARGEST_BODY}", self.max_body);
            return Err(StoreError::new(NAME, StoreErrorKind::Config, message));
        }
        let mut file = File::new(&self.path)?;
        file.busy_timeout = self.busy_timeout;
        file.synchronous = self.synchronous;
        file.most_bytes = self.max_file;
        file.migrates = self.migrate;
        let (connection, secret) = file.open(self.secret.as_ref(), &self.clock, self.network)?;
        let side = file.another()?;
        let (checkpointer, pressure) = Checkpointer::start(side).map_err(|error| {
            StoreError::new(NAME, StoreErrorKind::Unavailable, "no thread for checkpoints").with_source(error)
        })?;
        let seen_as = file.clone();
        let watchers = Arc::<Watchers>::default();
        let desk = Desk { file, clock: self.clock, watchers: Arc::clone(&watchers), pressure };
        let writer = Writer::start(connection, desk)?;
        let mut capabilities = Capabilities::new(NAME);
        capabilities.durable = self.synchronous == Synchronous::Full;
        capabilities.shared = true;
        capabilities.max_body = Some(self.max_body);
        capabilities.quotas = semel_core::store::Quotas::All;
        Ok(SqliteStore { writer, _checkpointer: checkpointer, watchers, file: seen_as, secret, capabilities })
    }
}

/// Records in a SQLite file.
///
/// Dropping it finishes what is in line, which blocks, and closes the file.
pub struct SqliteStore {
    // Dropped in this order: the writer tells the checkpointer.
    writer: Writer,
    _checkpointer: Checkpointer,
    watchers: Arc<Watchers>,
    file: File,
    secret: Secret,
    capabilities: Capabilities,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens a file with the defaults, or makes it: see [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open()
    }

    /// To open a file with other settings.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder {
            path: path.as_ref().to_owned(),
            busy_timeout: Duration::from_secs(5),
            synchronous: Synchronous::default(),
            max_body: DEFAULT_BODY,
            max_file: None,
            clock: Clock::default(),
            secret: None,
            network: false,
            migrate: true,
        }
    }

    /// The file, as an absolute path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The steps of a file's schema, in their order: what [`Builder::open`] and [`Builder::bring_up_to_date`] run. They
    /// leave out the one row of settings, whose secret is random: to read, not to make a file with.
    pub fn migrations() -> Vec<Migration> {
        file::migrations()
    }

    /// Makes or changes tables of an application that keeps its data in this file, to write to them with
    /// [`transact`](Transact::transact): any number of statements, in one transaction. Foreign keys are enforced.
    ///
    /// Reading them needs no help: any connection to the file will do. Writing from elsewhere is not part of a request's
    /// commit, and makes steps wait.
    ///
    /// # Errors
    ///
    /// `Config` with the words of SQLite for statements that it refuses, and for those that end the transaction; nothing is
    /// changed then. The kinds of every step for a file that cannot be written.
    pub async fn tables(&self, statements: &str) -> Result<(), StoreError> {
        let statements = statements.to_owned();
        self.write(move |tx| within::tables(tx, &statements)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Tx<'_, '_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.ask(Access::Write, step).await
    }

    async fn look<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Tx<'_, '_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.ask(Access::Read, step).await
    }

    /// Encoded on the caller's time, not the writer's.
    fn encode(&self, completion: &Completion) -> Result<Encoded, StoreError> {
        Encoded::new(completion, NAME, self.capabilities.max_body)
    }
}

impl Store for SqliteStore {
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let mut ask = ask.clone();
        let request = ask.request.take().map(|request| codec::encode_request(&request));
        match self.write(move |tx| ops::begin(tx, &ask, request.as_deref())).await? {
            Claimed::Settled(sealed) => Ok(Begun::Settled(sealed.open(NAME)?)),
            Claimed::Begun(begun) => Ok(begun),
        }
    }

    async fn renew(&self, leases: &[LeaseRef], lease_for: Duration) -> Result<Vec<Settled>, StoreError> {
        let leases = leases.to_vec();
        self.write(move |tx| ops::renew(tx, &leases, lease_for)).await
    }

    async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let (answer, keep) = (self.encode(completion)?, *keep);
        self.write(move |tx| ops::complete(tx, lease, &answer, &keep)).await
    }

    async fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Result<Settled, StoreError> {
        let keep = *keep;
        self.write(move |tx| ops::release(tx, by, how, &keep)).await
    }

    async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        self.write(move |tx| ops::abandon(tx, lease)).await
    }

    async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        let progress = progress.clone();
        self.write(move |tx| ops::note(tx, lease, &progress)).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Watch, StoreError> {
        Ok(self.watchers.watch(*id))
    }

    async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        let id = *id;
        self.look(move |tx| Ok(tx.live(&id)?.map(|row| row.record.view(tx.now)))).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = *id;
        self.look(move |tx| ops::read(tx, &id)).await?.map(|sealed| sealed.open(NAME)).transpose()
    }

    async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        let query = query.clone();
        self.look(move |tx| ops::list(tx, &query)).await
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let id = *id;
        let done = match &resolution.verdict {
            Verdict::Applied(completion) => Some(self.encode(completion)?),
            Verdict::NotApplied => None,
        };
        let Resolution { op, expect, retention, .. } = *resolution;
        let ruling = Ruling { op, expect, retention, done };
        self.write(move |tx| ops::resolve(tx, &id, &ruling)).await
    }

    async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        let id = *id;
        self.write(move |tx| ops::delete(tx, &id, which)).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.write(move |tx| sweep::sweep(tx, limit)).await
    }

    /// Commits, so that a full or broken disk is seen here and not by the first claim.
    async fn health(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.touch();
            Ok(())
        })
        .await
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        let seen = self.look(|tx| Ok(exam::Seen::read(tx.connection())?)).await?;
        Ok(exam::findings(&seen, &self.file))
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// For an application whose tables lie in the same file: what it writes for a request is one commit with the claim and
/// the answer.
///
/// ```
/// # async fn demo(store: semel_store_sqlite::SqliteStore) -> Result<(), semel_core::store::StoreError> {
/// store.tables("CREATE TABLE IF NOT EXISTS payment (n INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT").await?;
/// # Ok(())
/// # }
/// ```
impl Transact for SqliteStore {
    type Effects<'t> = Effects<'t>;

    async fn transact<T, F>(&self, ask: &Begin, mut run: F) -> Result<Transacted<T>, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnMut(&Effects<'t>, Acquired) -> Ended<T> + Send + 'static,
    {
        let mut ask = ask.clone();
        let request = ask.request.take().map(|request| codec::encode_request(&request));
        let most = self.capabilities.max_body;
        let took = self
            .write(move |tx| {
                let encode =
                    |completion: &Completion| Encoded::new(completion, NAME, most).map_err(Fault::Refused);
                within::transact(tx, &ask, request.as_deref(), encode, &mut run)
            })
            .await?;
        match took {
            Took::Ran(with) => Ok(Transacted::Ran(with)),
            Took::Not(claimed) => Ok(Transacted::Answered(match *claimed {
                Claimed::Settled(sealed) => Begun::Settled(sealed.open(NAME)?),
                Claimed::Begun(begun) => begun,
            })),
            Took::Panicked(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> StoreErrorKind {
        answer.unwrap_err().kind()
    }

    // A caller that waits for a dead thread waits for ever.
    #[tokio::test]
    async fn when_the_writer_dies_everybody_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("semel.db")).unwrap();
        let died = store.write(|_| -> Result<(), Fault> { panic!("a bug in a step") }).await;
        assert_eq!(kind(died), StoreErrorKind::Unavailable);
        assert_eq!(kind(store.health().await), StoreErrorKind::Unavailable);
        assert_eq!(kind(store.inspect(&RecordId::from_bytes([1; 32])).await), StoreErrorKind::Unavailable);
    }

    // One caller's bad step, half done, must neither take its neighbours down nor leave its half behind.
    #[tokio::test]
    async fn a_step_that_sqlite_refuses_half_way_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("semel.db")).unwrap();
        let asks: Vec<_> = (0..8).map(ask).collect();
        let half_done = ask(100);
        let bad = store.write(move |tx| {
            let _ = ops::begin(tx, &half_done, None)?;
            Err::<(), _>(Fault::Sqlite(rusqlite::Error::InvalidQuery))
        });
        let good = async {
            let (a, b, c, d) = tokio::join!(
                store.begin(&asks[0]),
                store.begin(&asks[1]),
                store.begin(&asks[2]),
                store.begin(&asks[3])
            );
            for begun in [a, b, c, d] {
                assert!(matches!(begun, Ok(Begun::Acquired(_))), "{begun:?}");
            }
        };
        let (bad, ()) = tokio::join!(bad, good);
        assert_eq!(kind(bad), StoreErrorKind::Internal);
        assert_eq!(store.inspect(&ask(100).id).await.unwrap(), None);
    }

    // A transaction that the disk failed under is run again on a file that was looked at first.
    #[tokio::test]
    async fn a_step_is_run_again_after_the_disk_failed_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("semel.db")).unwrap();
        let (claim, mut failed) = (ask(1), false);
        let begun = store
            .write(move |tx| {
                let claimed = ops::begin(tx, &claim, None)?;
                if !std::mem::replace(&mut failed, true) {
                    return Err(Fault::Sqlite(io_error()));
                }
                match claimed {
                    Claimed::Begun(begun) => Ok(begun),
                    Claimed::Settled(_) => panic!("nobody completed it"),
                }
            })
            .await
            .unwrap();
        let Begun::Acquired(acquired) = begun else { panic!("{begun:?}") };
        let seen = store.inspect(&ask(1).id).await.unwrap().unwrap();
        assert_eq!((acquired.attempt, seen.fence), (1, acquired.lease.fence()));

        let always = store.write(|_| Err::<(), _>(Fault::Sqlite(io_error()))).await;
        assert_eq!(kind(always), StoreErrorKind::Unavailable);
        assert!(store.inspect(&ask(1).id).await.unwrap().is_some());
    }

    fn io_error() -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some("disk I/O error".into()),
        )
    }

    fn ask(n: u8) -> Begin {
        Begin {
            id: RecordId::from_bytes([n; 32]),
            fingerprint: semel_core::record::Fingerprint::from_bytes([n; 32]),
            settings: "".into(),
            principal: None,
            claim: semel_core::record::ClaimId::from_u128(n.into()),
            lease_for: Duration::from_secs(30),
            recovery: semel_core::record::Recovery::Hold,
            retention: Retention::default(),
            minted: None,
            quota: None,
            request: None,
        }
    }
}
