use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use semel::{Idempotency, SqliteStore};
use tower::ServiceExt as _;

// The README's code: a retry gets the first answer, marked, also after the application was started anew.
#[tokio::test]
async fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    for expected in [None, Some("true")] {
        let idempotency =
            Idempotency::builder(SqliteStore::open(&path).unwrap()).require_key().build().unwrap();
        let request =
            Request::post("/orders").header("idempotency-key", "order-1").body(Body::empty()).unwrap();
        let response = super::app(idempotency.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let replayed = response.headers().get("idempotency-replayed").map(|value| value.to_str().unwrap());
        assert_eq!(replayed, expected);
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "made by attempt 1\n");
    }
}

#[tokio::test]
async fn an_order_without_a_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("orders.db")).unwrap();
    let idempotency = Idempotency::builder(store).require_key().build().unwrap();
    let request = Request::post("/orders").body(Body::empty()).unwrap();
    let response = super::app(idempotency).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}
