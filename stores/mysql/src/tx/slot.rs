//! Where a run's transaction lies while nobody holds it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use semel_core::store::{LeaseRef, LendError, Lender, Opened, Pending};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Database, MySqlConnection, SqlSafeStr as _, SqlStr};
use sqlx_core::transaction::TransactionManager as _;

use super::Shared;
use super::texts::Mark;

/// MariaDB and MySQL by sqlx: `Tx<MySql>` is a run's transaction, and derefs to [`MySqlConnection`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for a type")]
pub struct MySql;

impl Lender for MySql {
    type Slot = TxSlot;
    type Connection = MySqlConnection;
    type Guard = Lent;

    fn take(slot: &TxSlot) -> Pending<'_, Result<Lent, LendError>> {
        Box::pin(slot.take())
    }
}

/// A request extension: the place of its run's transaction. Clones are the same place.
#[derive(Clone)]
pub struct TxSlot(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    lease: LeaseRef,
    place: Mutex<Place>,
}

enum Place {
    /// Not opened yet.
    Fresh,
    /// Opened, and here.
    Here(Held),
    /// Being opened, or in somebody's hands.
    Away,
    /// The run is over.
    Closed,
}

impl std::fmt::Debug for TxSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxSlot").field("lease", &self.0.lease).finish_non_exhaustive()
    }
}

/// A connection with an open transaction. Unless it was ended it is closed when it is dropped: a pool would hand it on as
/// it is.
pub(super) struct Held {
    connection: Option<PoolConnection<sqlx::MySql>>,
    pub(super) mark: Mark,
}

impl Held {
    /// The transaction has ended, and the pool may have its connection again.
    pub(super) fn ended(mut self) {
        drop(self.connection.take());
    }

    pub(super) fn connection(&mut self) -> Option<&mut MySqlConnection> {
        self.connection.as_deref_mut()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

impl TxSlot {
    pub(super) fn new(shared: Arc<Shared>, lease: LeaseRef) -> Self {
        Self(Arc::new(Inner { shared, lease, place: Mutex::new(Place::Fresh) }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Result<Lent, LendError> {
        let found = {
            let mut place = self.place();
            match std::mem::replace(&mut *place, Place::Away) {
                Place::Fresh => None,
                Place::Here(held) => Some(held),
                Place::Away => return Err(LendError::Taken),
                Place::Closed => {
                    *place = Place::Closed;
                    return Err(LendError::Over);
                }
            }
        };
        if let Some(held) = found {
            return Ok(Lent { slot: self.clone(), held: Some(held) });
        }
        // Whoever stops waiting leaves the place as it was.
        let mut opening = Opening(Some(self));
        let held = self.open().await?;
        opening.0 = None;
        Ok(Lent { slot: self.clone(), held: Some(held) })
    }

    async fn open(&self) -> Result<Held, LendError> {
        let Shared { pool, isolation, hand, .. } = self.shared();
        let connection = pool.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => LendError::Exhausted,
            error => LendError::Database(Box::new(error)),
        })?;
        let (mark, text) = hand.begin(*isolation);
        let mut held = Held { connection: Some(connection), mark };
        let text = AssertSqlSafe(text).into_sql_str();
        if let Some(connection) = held.connection() {
            begin::<sqlx::MySql>(connection, text)
                .await
                .map_err(|error| LendError::Database(Box::new(error)))?;
        }
        Ok(held)
    }

    /// What became of it, and the transaction if it is here. Nobody can take it any more.
    pub(super) fn close(&self) -> (Opened, Option<Held>) {
        match std::mem::replace(&mut *self.place(), Place::Closed) {
            Place::Fresh | Place::Closed => (Opened::Never, None),
            Place::Here(held) => (Opened::Back, Some(held)),
            Place::Away => (Opened::Lent, None),
        }
    }

    fn give_back(&self, held: Held) {
        let late = {
            let mut place = self.place();
            match &*place {
                // The run is over, and what it wrote was rolled back.
                Place::Closed => Some(held),
                _ => std::mem::replace(&mut *place, Place::Here(held)).into_held(),
            }
        };
        // Closed with nothing locked.
        drop(late);
    }
}

impl Place {
    fn into_held(self) -> Option<Held> {
        match self {
            Self::Here(held) => Some(held),
            Self::Fresh | Self::Away | Self::Closed => None,
        }
    }
}

/// Whoever is opening it.
struct Opening<'a>(Option<&'a TxSlot>);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.0 else { return };
        let mut place = slot.place();
        if matches!(*place, Place::Away) {
            *place = Place::Fresh;
        }
    }
}

/// As sqlx's own transactions begin, so that a nested one is a savepoint.
async fn begin<D: Database>(connection: &mut D::Connection, text: SqlStr) -> Result<(), sqlx::Error> {
    D::TransactionManager::begin(connection, Some(text)).await
}

/// A run's transaction, on loan. Dropping it gives it back; it is committed with the answer, by nobody else.
pub struct Lent {
    slot: TxSlot,
    held: Option<Held>,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("lease", &self.slot.0.lease).finish_non_exhaustive()
    }
}

/// Why the connection is there: it is taken out in `drop` alone.
const HELD: &str = "it is given back when it is dropped";

impl Deref for Lent {
    type Target = MySqlConnection;

    #[expect(clippy::expect_used, reason = "see HELD")]
    fn deref(&self) -> &MySqlConnection {
        self.held.as_ref().and_then(|held| held.connection.as_deref()).expect(HELD)
    }
}

impl DerefMut for Lent {
    #[expect(clippy::expect_used, reason = "see HELD")]
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.held.as_mut().and_then(Held::connection).expect(HELD)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.slot.give_back(held);
        }
    }
}
