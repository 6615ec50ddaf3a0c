use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use rusqlite::Connection;
use semel::SqliteStore;
use tower::ServiceExt as _;

async fn send(app: &Router, key: &str, order: &str) -> (StatusCode, bool, String) {
    let request =
        Request::post("/transfers").header("idempotency-key", key).body(Body::from(order.to_owned()));
    let response = app.clone().oneshot(request.unwrap()).await.unwrap();
    let (status, replayed) = (response.status(), response.headers().contains_key("idempotency-replayed"));
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, replayed, String::from_utf8(body.into()).unwrap())
}

fn books(path: &std::path::Path) -> (i64, i64, i64) {
    let file = Connection::open(path).unwrap();
    let one = |sql: &str| file.query_row(sql, (), |row| row.get(0)).unwrap();
    (
        one("SELECT cents FROM account WHERE name = 'ada'"),
        one("SELECT cents FROM account WHERE name = 'bob'"),
        one("SELECT count(*) FROM ledger"),
    )
}

// A retry moves nothing, also after the application was started anew; another transfer under the key is refused.
#[tokio::test]
async fn a_retry_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transfers.db");
    let order = r#"{"from":"ada","to":"bob","cents":500}"#;
    for replayed in [false, true] {
        let app = super::app(SqliteStore::open(&path).unwrap()).await.unwrap();
        let line = "line 1 of the ledger\n".to_owned();
        assert_eq!(send(&app, "\"t-1\"", order).await, (StatusCode::CREATED, replayed, line));
        let other = send(&app, "\"t-1\"", r#"{"from":"ada","to":"bob","cents":501}"#).await;
        assert_eq!(other.0, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(other.2.contains("key-reused"), "{}", other.2);
        assert_eq!(books(&path), (9500, 500, 1));
    }
}

// The payee was credited before the payer turned out to be poor: that is undone, and the answer is kept.
#[tokio::test]
async fn a_refusal_is_kept_and_what_it_wrote_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transfers.db");
    let app = super::app(SqliteStore::open(&path).unwrap()).await.unwrap();
    let order = r#"{"from":"bob","to":"ada","cents":1}"#;
    for replayed in [false, true] {
        let told = send(&app, "\"t-2\"", order).await;
        assert_eq!((told.0, told.1), (StatusCode::UNPROCESSABLE_ENTITY, replayed));
        assert!(told.2.contains("not enough"), "{}", told.2);
    }
    assert_eq!(books(&path), (10_000, 0, 0));
}

// An error of the database is not "done": everything is undone, and the same key may try again.
#[tokio::test]
async fn an_error_undoes_everything_and_frees_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transfers.db");
    let app = super::app(SqliteStore::open(&path).unwrap()).await.unwrap();
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "CREATE TRIGGER closed BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'closed'); END",
    )
    .unwrap();
    let order = r#"{"from":"ada","to":"bob","cents":500}"#;
    let told = send(&app, "\"t-3\"", order).await;
    assert_eq!(told.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(told.2.contains("rolled-back") && !told.2.contains("closed"), "{}", told.2);
    assert_eq!(books(&path), (10_000, 0, 0));
    file.execute_batch("DROP TRIGGER closed").unwrap();
    assert_eq!(send(&app, "\"t-3\"", order).await.0, StatusCode::CREATED);
    assert_eq!(books(&path), (9500, 500, 1));
}

#[tokio::test]
async fn there_is_no_transfer_without_a_key_or_by_another_method() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("transfers.db")).unwrap();
    let app = super::app(store).await.unwrap();
    let bare = Request::post("/transfers").body(Body::empty()).unwrap();
    assert_eq!(app.clone().oneshot(bare).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let read = Request::get("/transfers").header("idempotency-key", "k").body(Body::empty()).unwrap();
    let told = app.oneshot(read).await.unwrap();
    assert_eq!(told.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(told.headers()["allow"], "POST, PATCH");
}

// Fifty clients send the same transfer at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_one_moves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transfers.db");
    let app = super::app(SqliteStore::open(&path).unwrap()).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let app = app.clone();
        clients.push(tokio::spawn(async move {
            send(&app, "\"t-4\"", r#"{"from":"ada","to":"bob","cents":7}"#).await
        }));
    }
    let mut first = 0;
    for client in clients {
        let (status, replayed, line) = client.await.unwrap();
        assert_eq!((status, line.as_str()), (StatusCode::CREATED, "line 1 of the ledger\n"));
        first += u32::from(!replayed);
    }
    assert_eq!((first, books(&path)), (1, (9993, 7, 1)));
}
