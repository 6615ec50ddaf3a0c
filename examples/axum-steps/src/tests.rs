use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use semel::{Idempotency, SqliteStore};
use tower::ServiceExt as _;

use super::Payments;

#[tokio::test]
async fn an_order_is_charged_and_mailed_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("orders.db")).unwrap();
    let idempotency = Idempotency::builder(store).require_key().steps().build().unwrap();
    let payments = Payments::default();
    let app = super::app(idempotency, payments.clone());
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request =
            Request::post("/orders").header("idempotency-key", "order-1").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        answers.push(to_bytes(response.into_body(), 100).await.unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(payments.0.lock().unwrap().len(), 2);
}
