use std::net::SocketAddr;

use semel::store::Store;
use semel::{Idempotency, MemoryStore, SqliteStore};
use semel_testkit::client::{Ask, get, post};
use tokio::net::TcpListener;
use warp::Filter as _;
use warp::filters::BoxedFilter;

// The README's code: a retry gets the first answer, marked, also after the application was started anew.
#[tokio::test]
async fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    for expected in [None, Some("true")] {
        let base = start(SqliteStore::open(&path).unwrap(), super::routes()).await;
        let answer = post("/orders", "order-1", "").send(base).await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "made by attempt 1\n"));
        assert_eq!(answer.one("content-length"), Some("18"));
        assert_eq!(answer.one("idempotency-replayed"), expected);
    }
}

#[tokio::test]
async fn an_order_without_a_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = start(SqliteStore::open(folder.path().join("orders.db")).unwrap(), super::routes()).await;
    assert_eq!(Ask::new("POST", "/orders", "").send(base).await.unwrap().status(), 400);
}

/// Only warp's own server can tell its filters where a request comes from.
#[tokio::test]
async fn the_clients_address_is_an_extension_and_unknown_to_warps_own_filter() {
    let seen = warp::path!("seen").and(warp::addr::remote()).and(warp::ext::get());
    let seen = seen.map(|own: Option<SocketAddr>, told: SocketAddr| format!("{own:?} {}", told.ip())).boxed();
    let base = start(MemoryStore::new(), seen).await;
    assert_eq!(get("/seen").send(base).await.unwrap().text(), "None 127.0.0.1");
}

/// Warp answers rejections inside of the layer: they are kept like any answer of that status.
#[tokio::test]
async fn a_rejection_is_an_answer_and_is_replayed() {
    let missing = warp::path!("orders").and(warp::header::<String>("x-item")).boxed();
    let base = start(MemoryStore::new(), missing).await;
    for expected in [None, Some("true")] {
        let answer = post("/orders", "order-1", "").send(base).await.unwrap();
        assert_eq!((answer.status(), answer.one("idempotency-replayed")), (400, expected));
        assert_eq!(answer.text(), "Missing request header \"x-item\"");
    }
}

async fn start(store: impl Store, routes: BoxedFilter<(String,)>) -> SocketAddr {
    let idempotency = Idempotency::builder(store).require_key().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = listener.local_addr().unwrap();
    tokio::spawn(super::serve(listener, idempotency, routes));
    base
}
