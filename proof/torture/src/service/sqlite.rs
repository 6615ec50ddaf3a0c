//! On SQLite: claim, writes and answer are one commit.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use semel_store_sqlite::{Effects, SqliteStore};
use semel_tower::{Idempotent, OneCommit, OneCommitService};

use super::LEASE;
use crate::Failure;
use crate::bank::{ACCOUNTS, CENTS, Transfer};

pub(crate) async fn found(path: &str) -> Result<(), Failure> {
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("({n}, {CENTS})")).collect();
    let tables = format!(
        "CREATE TABLE account (n INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
         CREATE TABLE ledger (
             n INTEGER PRIMARY KEY, key TEXT NOT NULL, payer INTEGER NOT NULL, payee INTEGER NOT NULL,
             cents INTEGER NOT NULL
         ) STRICT;
         INSERT INTO account VALUES {}",
        accounts.join(", ")
    );
    Ok(SqliteStore::open(path)?.tables(&tables).await?)
}

pub(crate) fn app(path: &str) -> Result<Router, Failure> {
    let service = OneCommitService::new(&one_commit(path)?, transfer);
    Ok(Router::new().route_service("/transfers", service))
}

pub(crate) fn one_commit(path: &str) -> Result<Arc<OneCommit<SqliteStore>>, Failure> {
    let store = SqliteStore::builder(path).busy_timeout(Duration::from_secs(2)).open()?;
    Ok(Arc::new(OneCommit::build(Arc::new(store), |rules| rules.namespace("bank").lease(LEASE))?))
}

pub(crate) fn transfer(tx: &Effects<'_>, request: &Request<Bytes>) -> Result<Response<Bytes>, Failure> {
    let Transfer { from, to, cents } = serde_json::from_slice(request.body())?;
    let key = request.extensions().get::<Idempotent>().ok_or("not guarded")?.key.as_str().to_owned();
    tx.execute("UPDATE account SET cents = cents + ?1 WHERE n = ?2", (cents, to))?;
    let paid = "UPDATE account SET cents = cents - ?1 WHERE n = ?2 AND cents >= ?1";
    if tx.execute(paid, (cents, from))? == 0 {
        return Ok(answer(StatusCode::PAYMENT_REQUIRED, "not enough".into()));
    }
    let line = "INSERT INTO ledger (key, payer, payee, cents) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(line, (key, from, to, cents))?;
    Ok(answer(StatusCode::CREATED, format!("line {}", tx.last_insert_rowid())))
}

fn answer(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}
