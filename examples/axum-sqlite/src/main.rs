//! Transfers in a SQLite file: the claim, the ledger and the answer are one commit.
//!
//! ```console
//! $ cargo run -p semel-example-axum-sqlite
//! $ curl -i 127.0.0.1:3000/transfers -H 'Idempotency-Key: "t-1"' -d '{"from":"ada","to":"bob","cents":500}'
//! ```
//!
//! Sent again, it is answered again, and nothing moves. Killed at any moment, it moved and is answered, or neither.

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use semel::{Effects, OneCommit, OneCommitService, SqliteStore};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS account (
        name TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS ledger (
        n INTEGER PRIMARY KEY, payer TEXT NOT NULL REFERENCES account, payee TEXT NOT NULL REFERENCES account,
        cents INTEGER NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO account VALUES ('ada', 10000), ('bob', 0);";

#[derive(serde::Deserialize)]
struct Transfer {
    from: String,
    to: String,
    cents: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("transfers.db")?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(store).await?).await?)
}

async fn app(store: SqliteStore) -> Result<Router, Box<dyn std::error::Error>> {
    store.tables(TABLES).await?;
    let one = Arc::new(OneCommit::build(Arc::new(store), |rules| rules.namespace("transfers"))?);
    Ok(Router::new().route_service("/transfers", OneCommitService::new(&one, transfer)))
}

/// Inside the transaction. From status 400 on, what it wrote is undone.
fn transfer(tx: &Effects<'_>, request: &Request<Bytes>) -> Result<Response<Bytes>, rusqlite::Error> {
    let Ok(Transfer { from, to, cents }) = serde_json::from_slice(request.body()) else {
        return Ok(answer(StatusCode::BAD_REQUEST, "not a transfer\n".into()));
    };
    let credited = tx.execute("UPDATE account SET cents = cents + ?1 WHERE name = ?2", (cents, &to))?;
    let paid = "UPDATE account SET cents = cents - ?1 WHERE name = ?2 AND cents >= ?1";
    if credited == 0 || tx.execute(paid, (cents, &from))? == 0 {
        return Ok(answer(StatusCode::UNPROCESSABLE_ENTITY, "no such account, or not enough in it\n".into()));
    }
    tx.execute("INSERT INTO ledger (payer, payee, cents) VALUES (?1, ?2, ?3)", (&from, &to, cents))?;
    Ok(answer(StatusCode::CREATED, format!("line {} of the ledger\n", tx.last_insert_rowid())))
}

fn answer(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
