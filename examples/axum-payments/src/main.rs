//! Payments that are booked once. The balance, the ledger and the recorded answer are one commit.
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@127.0.0.1/postgres cargo run -p semel-example-axum-payments
//! curl -i -X POST -H 'Idempotency-Key: "pay-1"' localhost:3000/accounts/alice/payments/30
//! curl -i -X POST -H 'Idempotency-Key: "pay-1"' localhost:3000/accounts/alice/payments/30   # the same answer, replayed
//! curl -i -X POST -H 'Idempotency-Key: "pay-2"' localhost:3000/accounts/alice/payments/90   # 402, and nothing is booked
//! ```

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::post};
use semel::engine::Override;
use semel::postgres::is_conflict;
use semel::{Idempotency, IdempotencyLayer, Postgres, PostgresStore, Tx};
use sqlx::{AssertSqlSafe, PgPool, Row as _};

type BoxError = Box<dyn std::error::Error>;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE IF NOT EXISTS ledger (id bigint GENERATED ALWAYS AS IDENTITY, account text NOT NULL, amount bigint NOT NULL);
INSERT INTO account VALUES ('alice', 100) ON CONFLICT DO NOTHING;";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let url = std::env::var("DATABASE_URL")?;
    let app = app(&url, "semel", PgPool::connect(&url).await?).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).await?)
}

/// The records lie in a schema of their own, beside the application's tables.
async fn app(url: &str, schema: &str, pool: PgPool) -> Result<Router, BoxError> {
    sqlx::raw_sql(AssertSqlSafe(TABLES)).execute(&pool).await?;
    let store = PostgresStore::builder(url).schema(schema).open().await?;
    let transactions = store.transactions(pool).open().await?;
    let idempotency =
        Idempotency::builder(store).require_key().transactional(transactions).reruns(2).build()?;
    Ok(Router::new()
        .route("/accounts/{name}/payments/{amount}", post(pay))
        .layer(IdempotencyLayer::new(idempotency)))
}

/// Writes only through `tx`, so that what it does is done once or not at all.
async fn pay(
    Path((account, amount)): Path<(String, i64)>,
    mut tx: Tx<Postgres>,
) -> Result<(StatusCode, String), Failed> {
    sqlx::query("INSERT INTO ledger (account, amount) VALUES ($1, $2)")
        .bind(&account)
        .bind(amount)
        .execute(&mut *tx)
        .await?;
    let paid = sqlx::query(
        "UPDATE account SET balance = balance - $2 WHERE name = $1 AND balance >= $2 AND $2 > 0 RETURNING balance",
    )
    .bind(&account)
    .bind(amount)
    .fetch_optional(&mut *tx)
    .await?;
    match paid {
        Some(row) => Ok((StatusCode::CREATED, format!("{account} has {} left\n", row.try_get::<i64, _>(0)?))),
        // 400 and above: the line in the ledger is rolled back, and the answer kept.
        None => Ok((StatusCode::PAYMENT_REQUIRED, format!("{account} cannot pay {amount}\n"))),
    }
}

struct Failed(sqlx::Error);

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::INTERNAL_SERVER_ERROR, "the payment failed\n").into_response();
        if is_conflict(&self.0) {
            // Two payments met: run this one again, in a new transaction.
            response.extensions_mut().insert(Override::new().conflict());
        }
        response
    }
}

#[cfg(test)]
mod tests;
