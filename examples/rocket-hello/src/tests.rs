use rocket::http::{Header, Status};
use rocket::local::blocking::Client;
use semel_rocket::Idempotency;
use semel_store_sqlite::SqliteStore;

// The README's code: a retry gets the first answer, marked, also after the application was started anew.
#[test]
fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    for expected in [None, Some("true")] {
        let idempotency =
            Idempotency::builder(SqliteStore::open(&path).unwrap()).require_key().build().unwrap();
        let client = Client::untracked(super::shop(idempotency)).unwrap();
        let request = client.post("/orders").header(Header::new("Idempotency-Key", "\"order-1\""));
        let response = request.dispatch();
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(response.headers().get_one("Idempotency-Replayed"), expected);
        assert_eq!(response.into_string().unwrap(), "made by attempt 1\n");
    }
}

#[test]
fn an_order_without_a_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("orders.db")).unwrap();
    let idempotency = Idempotency::builder(store).require_key().build().unwrap();
    let client = Client::untracked(super::shop(idempotency)).unwrap();
    assert_eq!(client.post("/orders").dispatch().status(), Status::BadRequest);
}
