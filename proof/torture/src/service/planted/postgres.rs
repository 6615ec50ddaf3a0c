//! On PostgreSQL: with the statement of [`ByHand`], changed.

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
use semel_store_postgres::{ByHand, Isolation, PostgresStore, Value};
use semel_tower::{Idempotency, IdempotencyLayer, Run, Tx};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::sleep;

use super::super::LEASE;
use super::super::postgres::{answer, pay, pool};
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
    let store = PostgresStore::builder(url).timeout(Duration::from_secs(1)).open().await?;
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
    State(pool): State<PgPool>,
    headers: HeaderMap,
    Json(transfer): Json<Transfer>,
) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let key = key.trim_matches('"');
    let told = async {
        let mut tx = pool.begin().await?;
        let known = sqlx::query_scalar::<_, String>("SELECT answer FROM claim WHERE key = $1");
        if let Some(known) = known.bind(key).fetch_optional(&mut *tx).await? {
            return Ok((StatusCode::CREATED, known).into_response());
        }
        let Some(line) = pay(&mut tx, key, transfer).await? else { return Ok(answer(Ok(None))) };
        let text = format!("line {line}");
        let claim = sqlx::query("INSERT INTO claim VALUES ($1, $2) ON CONFLICT DO NOTHING");
        claim.bind(key).bind(&text).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok::<_, sqlx::Error>((StatusCode::CREATED, text).into_response())
    };
    told.await.unwrap_or_else(|error| answer(Err(error)))
}

/// Transactions by hand.
struct Faulty {
    pool: PgPool,
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
        let slot = Slot {
            open: Arc::default(),
            pool: self.pool.clone(),
            begin: self.hand.begin(lease, Isolation::ReadCommitted).into(),
        };
        extensions.insert(slot.clone());
        Box::new(Own { slot, lease, hand: self.hand.clone(), mistake: self.mistake })
    }
}

type Open = Option<Transaction<'static, Postgres>>;

#[derive(Clone)]
struct Slot {
    open: Arc<Mutex<Open>>,
    pool: PgPool,
    begin: Arc<str>,
}

/// What `Tx` is made of here.
struct Kind;

impl Lender for Kind {
    type Slot = Slot;
    type Connection = PgConnection;
    type Guard = Guard;

    fn take(slot: &Slot) -> Pending<'_, Result<Guard, LendError>> {
        Box::pin(async move {
            let mut open = Arc::clone(&slot.open).lock_owned().await;
            if open.is_none() {
                let begun = slot.pool.begin_with(AssertSqlSafe(Arc::clone(&slot.begin))).await;
                *open = Some(begun.map_err(|error| LendError::Database(error.into()))?);
            }
            OwnedMutexGuard::try_map(open, Option::as_mut).map(Guard).map_err(|_| LendError::Over)
        })
    }
}

struct Guard(tokio::sync::OwnedMappedMutexGuard<Open, Transaction<'static, Postgres>>);

impl Deref for Guard {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

struct Own {
    slot: Slot,
    lease: LeaseRef,
    hand: ByHand,
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
            let Some(mut tx) = self.slot.open.lock().await.take() else { return Committed::Never };
            let Ok(step) = self.hand.complete(self.lease, completion, keep, Duration::from_secs(1)) else {
                return Committed::Rejected;
            };
            let undo = self.hand.undo();
            let fenced = "r.fence = $2::bigint AND r.state IN (0, 3)";
            let sql = match self.mistake {
                // The parameter stays, so that the statement has as many.
                Mistake::NoFence => step.sql.replace(fenced, "$2::bigint IS NOT NULL"),
                _ => step.sql.to_string(),
            };
            let ends = async move {
                if writes == Writes::RollBack {
                    sqlx::raw_sql(undo).execute(&mut *tx).await?;
                }
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for value in step.values {
                    query = match value {
                        Value::Bytes(bytes) => query.bind(bytes),
                        Value::Long(value) => query.bind(value),
                        Value::Int(value) => query.bind(value),
                        Value::Text(text) => query.bind(text),
                    };
                }
                if query.fetch_optional(&mut *tx).await?.is_none() {
                    return Ok(Committed::Lost);
                }
                tx.commit().await?;
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
            if let Some(tx) = self.slot.open.lock().await.take() {
                drop(tx.rollback().await);
            }
            RolledBack::Undone
        })
    }
}
