//! On MariaDB: the handler writes through the transaction in which its record is completed.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::StatusCode;
use semel_core::engine::Override;
use semel_store_mysql::{MySql, MySqlStore, is_conflict};
use semel_tower::{Idempotency, IdempotencyLayer, Run, Tx};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, MySqlPool};
use tokio::time::sleep;

use super::LEASE;
use crate::Failure;
use crate::bank::{ACCOUNTS, CENTS, Transfer};

pub(crate) async fn found(url: &str) -> Result<(), Failure> {
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("({n}, {CENTS})")).collect();
    let tables = format!(
        "CREATE TABLE account (n BIGINT PRIMARY KEY, cents BIGINT NOT NULL) ENGINE=InnoDB;
         CREATE TABLE ledger (
             n BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
             payer BIGINT NOT NULL, payee BIGINT NOT NULL, cents BIGINT NOT NULL
         ) ENGINE=InnoDB;
         CREATE TABLE claim (
             name VARCHAR(255) CHARACTER SET utf8mb4 PRIMARY KEY, answer VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL
         ) ENGINE=InnoDB;
         INSERT INTO account VALUES {}",
        accounts.join(", ")
    );
    let mut connection = MySqlConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(tables)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

pub(crate) async fn app(url: &str) -> Result<Router, Failure> {
    // The database may be down, and a service that is started again waits for it.
    loop {
        match open(url).await {
            Ok(app) => return Ok(app),
            Err(error) => crate::say(&format!("waiting for the database: {error}")),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn open(url: &str) -> Result<Router, Failure> {
    let store = MySqlStore::builder(url).timeout(Duration::from_secs(1)).open().await?;
    let transactions = store.transactions(pool(url)?).timeout(Duration::from_secs(1)).open().await?;
    let idempotency = Idempotency::builder(store)
        .namespace("bank")
        .require_key()
        .lease(LEASE)
        .transactional(transactions)
        .reruns(3)
        .build()?;
    Ok(Router::new().route("/transfers", post(transfer)).layer(IdempotencyLayer::new(idempotency)))
}

/// The application's own.
pub(crate) fn pool(url: &str) -> Result<MySqlPool, Failure> {
    let options = MySqlPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(1));
    Ok(options.connect_lazy(url)?)
}

async fn transfer(mut tx: Tx<MySql>, run: Run, Json(transfer): Json<Transfer>) -> Response {
    answer(pay(&mut tx, run.key.as_str(), transfer).await)
}

pub(crate) fn answer(paid: Result<Option<u64>, sqlx::Error>) -> Response {
    match paid {
        Ok(Some(line)) => (StatusCode::CREATED, format!("line {line}")).into_response(),
        Ok(None) => (StatusCode::PAYMENT_REQUIRED, "not enough").into_response(),
        Err(error) if is_conflict(&error) => {
            (StatusCode::SERVICE_UNAVAILABLE, Extension(Override::new().conflict()), "busy").into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the database failed").into_response(),
    }
}

/// The line of the ledger, or `None` for want of money. Slow enough to be hit by something.
pub(crate) async fn pay(
    tx: &mut MySqlConnection,
    key: &str,
    Transfer { from, to, cents }: Transfer,
) -> Result<Option<u64>, sqlx::Error> {
    let (from, to, cents) = (i64::from(from), i64::from(to), i64::from(cents));
    let credit = sqlx::query("UPDATE account SET cents = cents + ? WHERE n = ?").bind(cents).bind(to);
    credit.execute(&mut *tx).await?;
    sleep(Duration::from_millis(fastrand::u64(..20))).await;
    let debit = sqlx::query("UPDATE account SET cents = cents - ? WHERE n = ? AND cents >= ?");
    let debit = debit.bind(cents).bind(from).bind(cents);
    if debit.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let line = sqlx::query("INSERT INTO ledger (name, payer, payee, cents) VALUES (?, ?, ?, ?)");
    let line = line.bind(key).bind(from).bind(to).bind(cents).execute(&mut *tx).await?.last_insert_id();
    sleep(Duration::from_millis(fastrand::u64(..20))).await;
    Ok(Some(line))
}
