use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use poem::http::StatusCode;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::{Data, Path, RemoteAddr};
use poem::{EndpointExt as _, IntoEndpoint, Response, Route, Server, handler, post as post_to};
use semel::store::Store;
use semel::{Idempotency, MemoryStore, SqliteStore, Whole};
use semel_testkit::client::{Ask, post};

use crate::guard::Guard;

// The README's code: a retry gets the first answer, marked, also after the application was started anew.
#[tokio::test]
async fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    for expected in [None, Some("true")] {
        let base = start(super::app(requiring(SqliteStore::open(&path).unwrap()))).await;
        let answer = post("/orders", "order-1", "").send(base).await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "made by attempt 1\n"));
        assert_eq!(answer.one("content-length"), Some("18"));
        assert_eq!(answer.one("idempotency-replayed"), expected);
    }
}

#[tokio::test]
async fn an_order_without_a_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base =
        start(super::app(requiring(SqliteStore::open(folder.path().join("orders.db")).unwrap()))).await;
    assert_eq!(Ask::new("POST", "/orders", "").send(base).await.unwrap().status(), 400);
}

#[handler]
fn seen(Path(id): Path<String>, from: &RemoteAddr, Data(shop): Data<&&'static str>) -> String {
    format!("{id} {} {shop}", from.as_socket_addr().unwrap().ip())
}

/// None of it has a place in a request of `http`; poem's own adapter for tower services drops it.
#[tokio::test]
async fn a_guarded_handler_sees_path_parameters_and_addresses() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Route::new().at("/orders/:id", post_to(seen).with(guard)).data("shop")).await;
    let answer = post("/orders/7", "order-1", "").send(base).await.unwrap();
    assert_eq!(answer.text(), "7 127.0.0.1 shop");
}

/// Judged by what is left after a nested route cut its prefix off, the two would be one endpoint.
#[tokio::test]
async fn a_key_of_one_nested_route_is_refused_at_another() {
    let idempotency = requiring(MemoryStore::new());
    let nested = || Route::new().at("/orders/:id", post_to(seen).with(Guard(idempotency.clone())));
    let base = start(Route::new().nest("/v1", nested()).nest("/v2", nested()).data("shop")).await;
    assert_eq!(post("/v1/orders/7", "order-1", "").send(base).await.unwrap().status(), 200);
    assert_eq!(post("/v2/orders/7", "order-1", "").send(base).await.unwrap().status(), 422);
}

#[handler]
fn sold_out() -> poem::Result<String> {
    Err(poem::Error::from_string("sold out", StatusCode::CONFLICT))
}

/// Made an answer inside of the layer, and kept by its status. Passed through, it would leave the outcome unknown.
#[tokio::test]
async fn an_error_of_a_handler_is_an_answer_and_is_replayed() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Route::new().at("/orders", post_to(sold_out).with(guard))).await;
    for expected in [None, Some("true")] {
        let answer = post("/orders", "order-1", "").send(base).await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (409, "sold out"));
        assert_eq!(answer.one("idempotency-replayed"), expected);
    }
}

/// The trailer section of an answer is kept, and is a replay's.
#[tokio::test]
async fn trailers_of_an_answer_are_sent_and_replayed() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Route::new().at("/orders", post_to(trailing).with(guard))).await;
    for expected in [None, Some("true")] {
        let answer = post("/orders", "order-1", "").field("TE", "trailers").send(base).await.unwrap();
        assert_eq!((answer.text().as_str(), answer.one("idempotency-replayed")), ("made", expected));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }
}

#[handler]
fn trailing() -> Response {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("1"));
    let body = Whole::new("made".into()).with_trailers(Some(trailers)).map_err(|never| match never {});
    Response::builder().header("trailer", "x-sum").body(body.boxed())
}

fn requiring(store: impl Store) -> Idempotency {
    Idempotency::builder(store).require_key().build().unwrap()
}

async fn start(app: impl IntoEndpoint<Endpoint: 'static> + Send + 'static) -> SocketAddr {
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    let base = *acceptor.local_addr()[0].as_socket_addr().unwrap();
    tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
    base
}
