//! Services that make a mistake each.

mod mysql;
mod postgres;
mod sqlite;

use axum::Router;

use super::Mistake;
use crate::Failure;
use crate::bank::Database;

pub(crate) async fn app(url: &str, mistake: Mistake) -> Result<Router, Failure> {
    match url.split_once(':') {
        Some(("sqlite", path)) => sqlite::app(path, mistake),
        Some(("mysql", _)) => mysql::app(url, mistake).await,
        _ => postgres::app(url, mistake).await,
    }
}

/// Why a mistake cannot be made on a database; `None` where it can.
pub(crate) const fn cannot(database: Database, mistake: Mistake) -> Option<&'static str> {
    match (database, mistake) {
        (Database::Sqlite, Mistake::NoFence) => Some(
            "on sqlite there is no completion without its claim: both are in one commit, and nobody else can claim between them",
        ),
        (Database::Sqlite, Mistake::ClaimUnfenced) => Some(
            "on sqlite a transaction that has read what another one has changed since cannot write: there the database looks",
        ),
        (Database::Sqlite, Mistake::AnswerFirst) | (Database::MySql | Database::Postgres, _) => None,
    }
}
