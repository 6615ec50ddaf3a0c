use axum::http::StatusCode;
use semel::{Idempotency, MemoryStore};

use super::{Orders, app, reconcile, send};

// What was done is not done again, what was not is done once, and neither before somebody knows.
#[tokio::test]
async fn each_order_is_made_once_whatever_was_lost() {
    let orders = Orders::default();
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build().unwrap();
    let app = app(idempotency.clone(), orders.clone());
    for (key, before, after) in [("made", 1, StatusCode::CONFLICT), ("lost", 1, StatusCode::CREATED)] {
        assert_eq!(send(&app, key).await.unwrap(), StatusCode::GATEWAY_TIMEOUT, "{key}");
        assert_eq!(send(&app, key).await.unwrap(), StatusCode::CONFLICT, "{key}: unknown is not repeated");
        assert_eq!(orders.0.lock().unwrap().len(), before, "{key}");
        reconcile(&idempotency, &orders, key).await.unwrap();
        assert_eq!(send(&app, key).await.unwrap(), after, "{key}");
        assert_eq!(orders.0.lock().unwrap().iter().filter(|made| *made == key).count(), 1, "{key}");
    }
}
