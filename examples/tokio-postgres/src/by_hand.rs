//! The transaction of a run, by tokio-postgres: the steps of [`ByHand`], in their order.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Extensions;
use semel::PostgresStore;
use semel::postgres::{ByHand, Isolation, Statement, Value};
use semel::record::{Completion, RecordId, Retention};
use semel::store::{
    Committed, LeaseRef, LendError, Lender, Opened, Pending, RolledBack, Transactions, Undertaking, Writes,
};
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls};

/// How long each of completion, commit and rollback may take, and the wait for a connection.
const WITHIN: Duration = Duration::from_secs(5);
/// Transactions at once.
const MOST: usize = 4;

/// A small pool, and the completion's SQL. With a pool of yours, give back what has [ended](Connection) and close the rest.
#[derive(Clone)]
pub(crate) struct TokioTransactions(Arc<Shared>);

struct Shared {
    hand: ByHand,
    config: Config,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl TokioTransactions {
    /// `config` has to lead to the store's database.
    pub(crate) fn new(store: &PostgresStore, config: Config) -> Self {
        let (free, idle) = (Arc::new(Semaphore::new(MOST)), Mutex::default());
        Self(Arc::new(Shared { hand: store.by_hand(), config, free, idle }))
    }

    /// Statements outside any run.
    pub(crate) async fn script(&self, text: &str) -> Result<(), Error> {
        self.0.connect().await?.batch_execute(text).await
    }
}

impl fmt::Debug for TokioTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokioTransactions")
    }
}

impl Transactions for TokioTransactions {
    fn origin(&self) -> &RecordId {
        self.0.hand.origin()
    }

    fn tolerates_renewals(&self) -> bool {
        // It is at READ COMMITTED.
        true
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = Slot { shared: Arc::clone(&self.0), lease, place: Arc::default(), over: Arc::default() };
        extensions.insert(slot.clone());
        Box::new(Run { slot, held: None })
    }
}

impl Shared {
    async fn begin(&self, lease: LeaseRef) -> Result<Held, LendError> {
        let permit = timeout(WITHIN, Arc::clone(&self.free).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(LendError::Exhausted) };
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = std::iter::from_fn(idle).find(|connection| !connection.is_closed());
        let open = async {
            let connection = match connection.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            connection.batch_execute(&self.hand.begin(lease, Isolation::ReadCommitted)).await?;
            Ok(connection)
        };
        let connection = open.await.map_err(|error: Error| LendError::Database(error.into()))?;
        Ok(Held { connection, _permit: permit })
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let (client, wire) = self.config.connect(NoTls).await?;
        // Its errors come to the client too.
        let task = tokio::spawn(async { drop(wire.await) });
        Ok(Connection { client, task })
    }

    /// The transaction has ended: the next run may have its connection.
    fn ended(&self, held: Held) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(held.connection);
    }
}

/// Dropping it closes it, and with it a transaction that is open: a client alone would first have its answers.
struct Connection {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// An open transaction.
struct Held {
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

/// In the request's extensions. The lock is held by whoever has the transaction.
#[derive(Clone)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    lease: LeaseRef,
    place: Arc<tokio::sync::Mutex<Option<Held>>>,
    over: Arc<AtomicBool>,
}

/// `Tx<TokioPostgres>` derefs to tokio-postgres's `Client`. Its `transaction()` is not for handlers: it ends the
/// transaction that it is in, which is found out. Write `SAVEPOINT` instead.
pub(crate) struct TokioPostgres;

impl Lender for TokioPostgres {
    type Slot = Slot;
    type Connection = Client;
    type Guard = Lent;

    fn take(slot: &Slot) -> Pending<'_, Result<Lent, LendError>> {
        Box::pin(async move {
            let mut place = Arc::clone(&slot.place).try_lock_owned().map_err(|_| LendError::Taken)?;
            if slot.over.load(Ordering::SeqCst) {
                return Err(LendError::Over);
            }
            if place.is_none() {
                *place = Some(slot.shared.begin(slot.lease).await?);
            }
            // It has just been put there.
            OwnedMutexGuard::try_map(place, client_of).map(Lent).map_err(|_| LendError::Over)
        })
    }
}

fn client_of(held: &mut Option<Held>) -> Option<&mut Client> {
    held.as_mut().map(|held| &mut held.connection.client)
}

/// The transaction, on loan. Dropping it gives it back.
pub(crate) struct Lent(OwnedMappedMutexGuard<Option<Held>, Client>);

impl Deref for Lent {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}

/// The end of a run.
struct Run {
    slot: Slot,
    held: Option<Held>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("lease", &self.slot.lease).finish_non_exhaustive()
    }
}

/// Nobody opens the transaction of a run that was given up.
impl Drop for Run {
    fn drop(&mut self) {
        self.slot.over.store(true, Ordering::SeqCst);
    }
}

impl Undertaking for Run {
    fn opened(&mut self) -> Opened {
        self.slot.over.store(true, Ordering::SeqCst);
        let Ok(mut place) = self.slot.place.try_lock() else { return Opened::Lent };
        self.held = place.take();
        if self.held.is_some() { Opened::Back } else { Opened::Never }
    }

    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed> {
        Box::pin(async move {
            let Some(held) = self.held.take() else { return Committed::Never };
            let (shared, lease) = (&self.slot.shared, self.slot.lease);
            let Ok(step) = shared.hand.complete(lease, completion, keep, WITHIN) else {
                return shared.refused(held, Committed::Rejected).await;
            };
            match timeout(WITHIN, shared.complete(&held, &step, writes)).await {
                Ok(Completed::Done) => {}
                Ok(Completed::Refused(why)) => return shared.refused(held, why).await,
                Ok(Completed::Torn) => return Committed::Torn,
                // Nothing was asked to commit, and dropping it closes the connection.
                Ok(Completed::Gone) | Err(_) => return Committed::Never,
            }
            match timeout(WITHIN, held.connection.batch_execute("COMMIT")).await {
                Ok(Ok(())) => {
                    shared.ended(held);
                    shared.hand.wake(&lease.id);
                    Committed::Applied
                }
                Ok(Err(error)) => meaning(&error).unwrap_or(Committed::Unheard),
                Err(_) => Committed::Unheard,
            }
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            let Some(held) = self.held.take() else { return RolledBack::Undone };
            match self.slot.shared.refused(held, Committed::Never).await {
                Committed::Torn => RolledBack::Torn,
                _ => RolledBack::Undone,
            }
        })
    }
}

/// What became of the completion's statement.
enum Completed {
    Done,
    /// The server refused it, and the connection is as good as before.
    Refused(Committed),
    Torn,
    Gone,
}

impl Shared {
    async fn complete(&self, held: &Held, step: &Statement, writes: Writes) -> Completed {
        if writes == Writes::RollBack {
            match self.undo(held).await {
                Undo::Done => {}
                Undo::Torn => return Completed::Torn,
                Undo::Gone => return Completed::Gone,
            }
        }
        let values: Vec<_> = step.values.iter().map(typed).collect();
        match held.connection.query_typed_opt(&step.sql, &values).await {
            Ok(Some(_)) => Completed::Done,
            Ok(None) => Completed::Refused(Committed::Lost),
            Err(error) => meaning(&error).map_or(Completed::Gone, Completed::Refused),
        }
    }

    /// Rolls back. By the savepoint it is known whether the transaction is still the one that was begun: if the handler
    /// ended that, this says so instead of `why`.
    async fn refused(&self, held: Held, why: Committed) -> Committed {
        match timeout(WITHIN, self.undo(&held)).await {
            Ok(Undo::Done) => {
                if let Ok(Ok(())) = timeout(WITHIN, held.connection.batch_execute("ROLLBACK")).await {
                    self.ended(held);
                }
                why
            }
            Ok(Undo::Torn) => Committed::Torn,
            Ok(Undo::Gone) | Err(_) => why,
        }
    }

    async fn undo(&self, held: &Held) -> Undo {
        match held.connection.batch_execute(self.hand.undo()).await {
            Ok(()) => Undo::Done,
            Err(error) => match error.code().map(SqlState::code) {
                Some("3B001" | "25P01") => Undo::Torn,
                _ => Undo::Gone,
            },
        }
    }
}

enum Undo {
    Done,
    /// There is no such savepoint: the handler ended the transaction that it was in.
    Torn,
    Gone,
}

fn typed(value: &Value) -> (&(dyn ToSql + Sync), Type) {
    match value {
        Value::Bytes(bytes) => (bytes, Type::BYTEA),
        Value::Long(number) => (number, Type::INT8),
        Value::Int(number) => (number, Type::INT4),
        Value::Text(text) => (text, Type::TEXT),
    }
}

/// What an error says of a transaction that was rolled back; nothing where it may have been committed.
fn meaning(error: &Error) -> Option<Committed> {
    let error = error.as_db_error()?;
    // One that is FATAL may follow a commit.
    if error.parsed_severity() != Some(Severity::Error) {
        return None;
    }
    match error.code().code() {
        "40001" | "40P01" | "55P03" => Some(Committed::Conflict),
        "40003" => None,
        // Those of poolers, and of servers that go away.
        code if ["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => None,
        _ => Some(Committed::Rejected),
    }
}
