use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use salvo::conn::{Listener as _, TcpListener};
use salvo::http::body::ResBody;
use salvo::http::{Method, StatusError, Version};
use salvo::{Depot, FlowCtrl, Handler as _, Request, Response, Router, Server, handler};
use semel::store::Store;
use semel::{Idempotency, MemoryStore, SqliteStore, Whole};
use semel_testkit::client::{Ask, Client, get, post};
use semel_testkit::wire::Message;

use crate::guard::Guard;

mod adapter;

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

/// What hoops outside see and leave: their fields are on each answer, and nothing of theirs is lost in the run.
#[handler]
async fn outside(request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
    depot.insert("shop", "semel");
    response.headers_mut().insert("x-outside", "1".parse().unwrap());
    flow.call_next(request, depot, response).await;
    let kept = depot.get::<&str>("shop").is_ok() && request.param::<u32>("id") == Some(7);
    response.headers_mut().insert("x-kept", kept.to_string().parse().unwrap());
}

#[handler]
async fn seen(request: &Request, depot: &Depot) -> String {
    let ip = request.remote_addr().ip().unwrap();
    format!("{} {ip} {}", request.param::<u32>("id").unwrap(), depot.get::<&str>("shop").unwrap())
}

#[tokio::test]
async fn a_guarded_handler_and_the_hoops_outside_keep_what_is_theirs() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Router::with_path("orders/{id}").hoop(outside).hoop(guard).post(seen)).await;
    for expected in [None, Some("true")] {
        let answer = post("/orders/7", "order-1", "").send(base).await.unwrap();
        assert_eq!(answer.text(), "7 127.0.0.1 semel");
        assert_eq!(answer.one("idempotency-replayed"), expected);
        assert_eq!((answer.one("x-outside"), answer.one("x-kept")), (Some("1"), Some("true")));
    }
}

#[handler]
async fn sold_out() -> StatusError {
    StatusError::conflict().brief(format!("sold out at {:?}", std::time::Instant::now()))
}

/// Salvo makes the page of an error outside of all hoops, where a retry's would be another one.
#[tokio::test]
async fn the_page_of_an_error_is_a_part_of_the_answer_and_is_replayed() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Router::with_path("orders").hoop(guard).post(sold_out)).await;
    let first = post("/orders", "order-1", "").send(base).await.unwrap();
    assert!(first.status() == 409 && first.text().contains("sold out"), "{first:?}");
    let again = post("/orders", "order-1", "").send(base).await.unwrap();
    assert_eq!((again.status(), again.one("idempotency-replayed")), (409, Some("true")));
    assert_eq!((again.text(), again.one("content-type")), (first.text(), first.one("content-type")));
}

#[handler]
async fn reads(request: &mut Request) {
    request.payload().await.unwrap();
}

#[handler]
async fn parses(request: &mut Request) {
    request.form_data().await.unwrap();
}

#[handler]
async fn echo(request: &mut Request) -> String {
    String::from_utf8(request.payload().await.unwrap().to_vec()).unwrap()
}

/// Taken for empty, the bodies of two requests would be the same, and the second would get the answer of the first.
#[tokio::test]
async fn a_body_that_a_hoop_outside_has_read_is_compared_or_refused() {
    let guarded =
        |hoop| Router::with_path("read").hoop(hoop).hoop(Guard(requiring(MemoryStore::new()))).post(echo);
    let parsed =
        Router::with_path("parsed").hoop(parses).hoop(Guard(requiring(MemoryStore::new()))).post(echo);
    let base = start(Router::new().push(guarded(reads)).push(parsed)).await;
    assert_eq!(post("/read", "order-1", "{\"item\":1}").send(base).await.unwrap().text(), "{\"item\":1}");
    assert_eq!(post("/read", "order-1", "{\"item\":2}").send(base).await.unwrap().status(), 422);
    let form = Ask::new("POST", "/parsed", "item=1").field("Idempotency-Key", "order-1");
    let form = form.field("Content-Type", "application/x-www-form-urlencoded");
    let refused = form.send(base).await.unwrap();
    assert!(refused.status() == 500 && refused.text().contains("read before the guard"), "{refused:?}");
}

/// Whoever goes on without a body that it could not read.
#[handler]
async fn tries(request: &mut Request) {
    assert!(request.payload().await.is_err());
}

fn chunked(path: &str, kind: &str, body: &str) -> Vec<u8> {
    let ask = Ask::new("POST", path, "").field("Idempotency-Key", "order-1").field("Content-Type", kind);
    let mut bytes = ask.field("Transfer-Encoding", "chunked").bytes();
    bytes.extend(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes());
    bytes
}

async fn send(base: SocketAddr, bytes: Vec<u8>) -> Message {
    Client::connect(base).await.unwrap().ask(bytes).await.unwrap()
}

/// No length says that there was a body: one that is gone would look like one that is empty.
#[tokio::test]
async fn a_body_sent_in_chunks_that_is_gone_is_refused_and_claims_nothing() {
    let form = "application/x-www-form-urlencoded";
    let guard = || Guard(requiring(MemoryStore::new()));
    let (lost, read) = (guard(), guard());
    let later = Router::with_path("lost/later").hoop(Guard(lost.0.clone())).post(echo);
    let lost = Router::with_path("lost").hoop(tries).hoop(lost).post(echo);
    let parsed = Router::with_path("parsed").hoop(parses).hoop(guard()).post(echo);
    let read = Router::with_path("read").hoop(reads).hoop(read).post(echo);
    let base = start(Router::new().push(later).push(lost).push(parsed).push(read)).await;
    // Salvo's `payload` reads 64 KiB.
    let large = "x".repeat(64 * 1024 + 1);
    for (path, body) in [("/lost", large.as_str()), ("/parsed", "item=1"), ("/parsed", "item=2")] {
        let refused = send(base, chunked(path, form, body)).await;
        assert!(refused.status() == 500 && refused.text().contains("read before the guard"), "{refused:?}");
    }
    let later = send(base, chunked("/lost/later", form, "item=1")).await;
    assert_eq!((later.status(), later.text().as_str()), (200, "item=1"));
    for (body, status) in [("item=1", 200), ("item=1", 200), ("item=2", 422)] {
        assert_eq!(send(base, chunked("/read", form, body)).await.status(), status, "{body}");
    }
}

/// From HTTP/2 on no field has to say that there is a body.
#[tokio::test]
async fn a_body_without_a_length_that_is_gone_is_refused_in_http_2() {
    for (method, length, status) in [
        (Method::POST, None, Some(500)),
        (Method::POST, Some("0"), Some(400)),
        // Never guarded.
        (Method::GET, None, Some(404)),
    ] {
        let mut request = Request::new();
        (*request.version_mut(), *request.method_mut()) = (Version::HTTP_2, method.clone());
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let (mut depot, mut response) = (Depot::new(), Response::new());
        let guard = Guard(requiring(MemoryStore::new()));
        guard.handle(&mut request, &mut depot, &mut response, &mut FlowCtrl::new(vec![])).await;
        assert_eq!(response.status_code.map(|status| status.as_u16()), status, "{method} {length:?}");
    }
}

/// The trailer section of an answer is kept, and is a replay's.
#[tokio::test]
async fn trailers_of_an_answer_are_sent_and_replayed() {
    let guard = Guard(requiring(MemoryStore::new()));
    let base = start(Router::with_path("orders").hoop(guard).post(trailing)).await;
    for expected in [None, Some("true")] {
        let answer = post("/orders", "order-1", "").field("TE", "trailers").send(base).await.unwrap();
        assert_eq!((answer.text().as_str(), answer.one("idempotency-replayed")), ("made", expected));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }
}

#[handler]
async fn trailing(response: &mut Response) {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("1"));
    response.headers_mut().insert("trailer", http::HeaderValue::from_static("x-sum"));
    let body = Whole::new("made".into()).with_trailers(Some(trailers));
    response.body(ResBody::Boxed(Box::pin(body.map_err(Into::into))));
}

/// Salvo takes the body of such an answer away before hyper could count it.
#[tokio::test]
async fn a_head_request_is_told_no_length_with_and_without_a_guard() {
    let guard = Guard(requiring(MemoryStore::new()));
    let alone = Router::with_path("alone").goal(hello);
    let base =
        start(Router::new().push(alone).push(Router::with_path("guarded").hoop(guard).goal(hello))).await;
    for path in ["/alone", "/guarded"] {
        let mut client = Client::connect(base).await.unwrap();
        client.send(Ask::new("HEAD", path, "").bytes()).await.unwrap();
        assert_eq!(client.head().await.unwrap().one("content-length"), None, "{path}");
        assert_eq!(get(path).send(base).await.unwrap().one("content-length"), Some("5"), "{path}");
    }
}

#[handler]
async fn hello() -> &'static str {
    "hello"
}

fn requiring(store: impl Store) -> Idempotency {
    Idempotency::builder(store).require_key().build().unwrap()
}

async fn start(app: Router) -> SocketAddr {
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let base = acceptor.inner().local_addr().unwrap();
    tokio::spawn(Server::new(acceptor).serve(app));
    base
}
