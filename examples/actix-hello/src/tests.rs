use actix_web::App;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use semel_actix::Idempotency;
use semel_store_sqlite::SqliteStore;

// The README's code: a retry gets the first answer, marked, also after the application was started anew.
#[actix_web::test]
async fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    for expected in [None, Some("true")] {
        let idempotency =
            Idempotency::builder(SqliteStore::open(&path).unwrap()).require_key().build().unwrap();
        let app = init_service(App::new().configure(super::routes(&idempotency))).await;
        let request = TestRequest::post().uri("/orders").insert_header(("idempotency-key", "order-1"));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let replayed = response.headers().get("idempotency-replayed").map(|value| value.to_str().unwrap());
        assert_eq!(replayed, expected);
        assert_eq!(read_body(response).await, "made by attempt 1\n");
    }
}

#[actix_web::test]
async fn an_order_without_a_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("orders.db")).unwrap();
    let idempotency = Idempotency::builder(store).require_key().build().unwrap();
    let app = init_service(App::new().configure(super::routes(&idempotency))).await;
    let response = call_service(&app, TestRequest::post().uri("/orders").to_request()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}
