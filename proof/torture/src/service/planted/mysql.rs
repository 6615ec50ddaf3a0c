//! On MariaDB: with the texts of [`ByHand`], changed.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{Extensions, HeaderMap, StatusCode};
use semel_core::record::{Completion, RecordId, Retention};
use semel_core::store::{
    Committed, LeaseRef, LendError, Lender, Opened, Pending, RolledBack, Transactions, Undertaking, Writes,
};
use semel_store_mysql::{ByHand, Isolation, Mark, MySqlStore};
use semel_tower::{Idempotency, IdempotencyLayer, Run, Tx};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, MySqlPool};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::sleep;

use super::super::LEASE;
use super::super::mysql::{answer, pay, pool};
use super::Mistake;
use crate::Failure;
use crate::bank::Transfer;

pub(super) async fn app(url: &str, mistake: Mistake) -> Result<Router, Failure> {
    if mistake == Mistake::ClaimUnfenced {
        return Ok(Router::new().route("/transfers", post(unfenced)).with_state(pool(url)?));
    }
    loop {
        match open(url, mistake).await {
            Ok(app) => return Ok(app),
            Err(error) => crate::say(&format!("waiting for the database: {error}")),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn open(url: &str, mistake: Mistake) -> Result<Router, Failure> {
    let store = MySqlStore::builder(url).timeout(Duration::from_secs(1)).open().await?;
    let transactions = Faulty { pool: pool(url)?, hand: store.by_hand(), mistake };
    let idempotency = Idempotency::builder(store)
        .namespace("bank")
        .require_key()
        .lease(LEASE)
        .transactional(transactions)
        .build()?;
    Ok(Router::new().route("/transfers", post(transfer)).layer(IdempotencyLayer::new(idempotency)))
}

async fn transfer(mut tx: Tx<Kind>, run: Run, Json(transfer): Json<Transfer>) -> Response {
    answer(pay(&mut tx, run.key.as_str(), transfer).await)
}

/// The key is written beside its effect: so it is there if the effect is. But nobody looks whether somebody else has
/// written it meanwhile.
async fn unfenced(
    State(pool): State<MySqlPool>,
    headers: HeaderMap,
    Json(transfer): Json<Transfer>,
) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let key = key.trim_matches('"');
    let told = async {
        let mut tx = pool.begin().await?;
        let known = sqlx::query_scalar::<_, String>("SELECT answer FROM claim WHERE name = ?");
        if let Some(known) = known.bind(key).fetch_optional(&mut *tx).await? {
            return Ok((StatusCode::CREATED, known).into_response());
        }
        let Some(line) = pay(&mut tx, key, transfer).await? else { return Ok(answer(Ok(None))) };
        let text = format!("line {line}");
        let claim =
            sqlx::query("INSERT INTO claim (name, answer) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name");
        claim.bind(key).bind(&text).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok::<_, sqlx::Error>((StatusCode::CREATED, text).into_response())
    };
    told.await.unwrap_or_else(|error| answer(Err(error)))
}

/// Transactions by hand.
struct Faulty {
    pool: MySqlPool,
    hand: ByHand,
    mistake: Mistake,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Transactions for Faulty {
    fn origin(&self) -> &RecordId {
        self.hand.origin()
    }

    fn tolerates_renewals(&self) -> bool {
        true
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = Slot { open: Arc::default(), pool: self.pool.clone(), hand: self.hand.clone() };
        extensions.insert(slot.clone());
        Box::new(Own { slot, lease, mistake: self.mistake })
    }
}

/// A connection that is closed unless its transaction was ended.
struct Begun {
    connection: PoolConnection<MySql>,
    mark: Mark,
    ended: bool,
}

impl Begun {
    async fn send(&mut self, text: String) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *self.connection).await.map(|_| ())
    }

    /// The next one may have its connection.
    fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

type Open = Option<Begun>;

#[derive(Clone)]
struct Slot {
    open: Arc<Mutex<Open>>,
    pool: MySqlPool,
    hand: ByHand,
}

/// What `Tx` is made of here.
struct Kind;

impl Lender for Kind {
    type Slot = Slot;
    type Connection = MySqlConnection;
    type Guard = Guard;

    fn take(slot: &Slot) -> Pending<'_, Result<Guard, LendError>> {
        Box::pin(async move {
            let mut open = Arc::clone(&slot.open).lock_owned().await;
            if open.is_none() {
                let failed = |error: sqlx::Error| LendError::Database(error.into());
                let connection = slot.pool.acquire().await.map_err(failed)?;
                let (mark, text) = slot.hand.begin(Isolation::ReadCommitted);
                let mut begun = Begun { connection, mark, ended: false };
                begun.send(text).await.map_err(failed)?;
                *open = Some(begun);
            }
            OwnedMutexGuard::try_map(open, Option::as_mut).map(Guard).map_err(|_| LendError::Over)
        })
    }
}

struct Guard(tokio::sync::OwnedMappedMutexGuard<Open, Begun>);

impl Deref for Guard {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.0.connection
    }
}

impl DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.0.connection
    }
}

struct Own {
    slot: Slot,
    lease: LeaseRef,
    mistake: Mistake,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl Undertaking for Own {
    fn opened(&mut self) -> Opened {
        match self.slot.open.try_lock() {
            Ok(open) if open.is_some() => Opened::Back,
            Ok(_) => Opened::Never,
            Err(_) => Opened::Lent,
        }
    }

    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed> {
        Box::pin(async move {
            let Some(mut begun) = self.slot.open.lock().await.take() else { return Committed::Never };
            // Answers here are short enough for one message.
            let Ok(end) = self.slot.hand.end(begun.mark, self.lease, completion, keep, writes) else {
                return Committed::Rejected;
            };
            let text = match self.mistake {
                Mistake::NoFence => unchecked(&end.sql, self.lease),
                _ => end.sql,
            };
            let ends = async move {
                begun.send(text).await?;
                begun.end();
                Ok::<_, sqlx::Error>(Committed::Applied)
            };
            if self.mistake == Mistake::AnswerFirst {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(30)).await;
                    drop(ends.await);
                });
                return Committed::Applied;
            }
            ends.await.unwrap_or(Committed::Unheard)
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            if let Some(mut begun) = self.slot.open.lock().await.take()
                && begun.send(self.slot.hand.undo(begun.mark)).await.is_ok()
            {
                begun.end();
            }
            RolledBack::Undone
        })
    }
}

/// The end without its condition.
fn unchecked(end: &str, lease: LeaseRef) -> String {
    end.replace(&format!(" AND fence = {} AND state IN (0, 3)", lease.fence.get()), "")
}
