//! Payments that are booked once, through tokio-postgres: what Semel has ready for sqlx, made of
//! `PostgresStore::by_hand()` for another driver. [`by_hand`] is what such an application adds.
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@127.0.0.1/postgres cargo run -p semel-example-tokio-postgres
//! curl -i -X POST -H 'Idempotency-Key: "pay-1"' localhost:3000/accounts/alice/payments/30
//! curl -i -X POST -H 'Idempotency-Key: "pay-1"' localhost:3000/accounts/alice/payments/30   # the same answer, replayed
//! curl -i -X POST -H 'Idempotency-Key: "pay-2"' localhost:3000/accounts/alice/payments/90   # 402, and nothing is booked
//! ```

mod by_hand;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::post};
use semel::engine::Override;
use semel::{Idempotency, IdempotencyLayer, PostgresStore, Tx};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::by_hand::{TokioPostgres, TokioTransactions};

type BoxError = Box<dyn std::error::Error>;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE IF NOT EXISTS ledger (id bigint GENERATED ALWAYS AS IDENTITY, account text NOT NULL, amount bigint NOT NULL);
INSERT INTO account VALUES ('alice', 100) ON CONFLICT DO NOTHING;";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let url = std::env::var("DATABASE_URL")?;
    let store = PostgresStore::open(&url).await?;
    let transactions = TokioTransactions::new(&store, url.parse()?);
    transactions.script(TABLES).await?;
    let app = guarded(store, transactions, Router::new().route(PAY, post(pay)))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).await?)
}

const PAY: &str = "/accounts/{name}/payments/{amount}";

/// Both lead to one database: what the one completes is what the other has claimed.
fn guarded(
    store: PostgresStore,
    transactions: TokioTransactions,
    routes: Router,
) -> Result<Router, BoxError> {
    let idempotency =
        Idempotency::builder(store).require_key().transactional(transactions).reruns(2).build()?;
    Ok(routes.layer(IdempotencyLayer::new(idempotency)))
}

/// Writes only through `tx`, so that what it does is done once or not at all.
async fn pay(
    Path((account, amount)): Path<(String, i64)>,
    tx: Tx<TokioPostgres>,
) -> Result<(StatusCode, String), Failed> {
    tx.execute("INSERT INTO ledger (account, amount) VALUES ($1, $2)", &[&account, &amount]).await?;
    let paid = tx
        .query_opt(
            "UPDATE account SET balance = balance - $2 WHERE name = $1 AND balance >= $2 AND $2 > 0 RETURNING balance",
            &[&account, &amount],
        )
        .await?;
    match paid {
        Some(row) => Ok((StatusCode::CREATED, format!("{account} has {} left\n", row.try_get::<_, i64>(0)?))),
        // 400 and above: the line in the ledger is rolled back, and the answer kept.
        None => Ok((StatusCode::PAYMENT_REQUIRED, format!("{account} cannot pay {amount}\n"))),
    }
}

struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::INTERNAL_SERVER_ERROR, "the payment failed\n").into_response();
        let met = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        if self.0.code().is_some_and(|code| met.contains(code)) {
            // Two payments met: run this one again, in a new transaction.
            response.extensions_mut().insert(Override::new().conflict());
        }
        response
    }
}

#[cfg(test)]
mod tests;
