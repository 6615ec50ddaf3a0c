//! On SQLite: of the mistakes only the answer before its commit can be made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Router, body};
use bytes::Bytes;
use http::StatusCode;
use semel_store_sqlite::Effects;
use semel_tower::OneCommitService;
use tokio::sync::oneshot;
use tower_service::Service as _;

use super::super::sqlite::{one_commit, transfer};
use super::Mistake;
use crate::Failure;

/// Where the answer is heard before the commit. A run may be called again; the first call is believed.
#[derive(Clone)]
struct Early(Arc<Mutex<Option<Say>>>);

type Say = oneshot::Sender<(StatusCode, Bytes)>;

pub(super) fn app(path: &str, mistake: Mistake) -> Result<Router, Failure> {
    if mistake != Mistake::AnswerFirst {
        return Err("this mistake cannot be made on sqlite".into());
    }
    let service = OneCommitService::new(&one_commit(path)?, hasty);
    let answer = async move |mut request: Request| {
        let (say, heard) = oneshot::channel();
        request.extensions_mut().insert(Early(Arc::new(Mutex::new(Some(say)))));
        let mut service = service.clone();
        let done = tokio::spawn(async move { service.call(request).await });
        match heard.await {
            Ok((status, text)) => (status, text).into_response(),
            // It did not run: a replay, or a refusal.
            Err(_) => match done.await {
                Ok(Ok(response)) => response.map(body::Body::new),
                Ok(Err(never)) => match never {},
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            },
        }
    };
    Ok(Router::new().route("/transfers", post(answer)))
}

/// The answer leaves, and the commit follows.
fn hasty(tx: &Effects<'_>, request: &http::Request<Bytes>) -> Result<http::Response<Bytes>, Failure> {
    let answer = transfer(tx, request)?;
    let early = request.extensions().get::<Early>().ok_or("nobody listens")?;
    if let Some(say) = early.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A client that has gone hears nothing.
        let _gone = say.send((answer.status(), answer.body().clone()));
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rusqlite::{Connection, ErrorCode};

    // Why the unfenced claim of other databases is no mistake here.
    #[test]
    fn what_was_read_before_anothers_commit_cannot_be_followed_by_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("bank.db")).unwrap();
        let (one, other) = (open(), open());
        one.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE claim (key TEXT PRIMARY KEY)").unwrap();
        for file in [&one, &other] {
            file.execute_batch("BEGIN").unwrap();
            let known: i64 = file.query_row("SELECT count(*) FROM claim", (), |row| row.get(0)).unwrap();
            assert_eq!(known, 0, "both find no key");
        }
        one.execute_batch("INSERT INTO claim VALUES ('k'); COMMIT").unwrap();
        let refused = other.execute_batch("INSERT OR IGNORE INTO claim VALUES ('k')").unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    }
}
