//! What Rocket cannot give: each test observes the lack, so that a version that ends it is noticed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rocket::fairing::{AdHoc, Fairing, Info, Kind};
use rocket::response::{self, Responder};
use rocket::{Data, Request, Response, State, post, routes};
use semel_core::policy::PolicyBuilder;
use semel_driver::Idempotency;
use semel_rocket::IdempotencyFairing;
use semel_testkit::client::{Ask, Client, post};
use tokio::io::{AsyncRead, ReadBuf};

use crate::support::{Effects, Server, bounded, counted, made, memory, quiet};

/// Other hosts refuse a bad key without asking for the body.
#[tokio::test]
async fn a_refused_request_that_expects_100_is_told_to_go_on_before_its_refusal() {
    let effects = Effects::default();
    let fairing = counted(&memory(), &effects).mount("/orders", routes![made]);
    let server = Server::start(quiet().attach(fairing)).await;
    let mut client = Client::connect(server.base).await.unwrap();
    let head = "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"unterminated\r\n\
                Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.head().await.unwrap().status(), 100);
    client.send("12345").await.unwrap();
    assert_eq!((client.answer().await.unwrap().status(), effects.count()), (400, 0));
}

/// `body_within` counts from where Semel reads: Rocket reads the first bytes itself, before anybody is asked.
#[tokio::test]
async fn a_body_whose_first_bytes_do_not_come_is_waited_for_without_a_limit() {
    let effects = Effects::default();
    let tested = Idempotency::test();
    let idempotency = tested.builder.build().unwrap();
    let server =
        Server::start(quiet().attach(counted(&idempotency, &effects).mount("/orders", routes![made]))).await;
    let mut client = Client::connect(server.base).await.unwrap();
    let head = "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"k\"\r\n\
                Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.send(head).await.unwrap();
    // It waits for the body.
    assert_eq!(client.head().await.unwrap().status(), 100);
    tested.clock.advance(Duration::from_hours(1)).await;
    assert_eq!(idempotency.running(), 0);
    client.send("{}").await.unwrap();
    assert_eq!((client.answer().await.unwrap().status(), effects.count()), (200, 1));
}

/// Rocket drops such a field with a line in its log. Other hosts say `key-invalid`.
#[tokio::test]
async fn a_key_that_is_not_utf_8_is_no_key() {
    let effects = Effects::default();
    let server =
        Server::start(quiet().attach(counted(&memory(), &effects).mount("/orders", routes![made]))).await;
    let head =
        b"POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"\xff\"\r\nContent-Length: 0\r\n\r\n";
    for n in ["1", "2"] {
        let mut client = Client::connect(server.base).await.unwrap();
        let seen = client.ask(head).await.unwrap();
        assert_eq!((seen.status(), seen.text().as_str()), (200, n));
    }
}

fn chunked(part: &str) -> String {
    let head = "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"k\"\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{part}\r\n", part.len())
}

#[post("/", data = "<body>")]
fn lengthy(body: &str, effects: &State<Effects>) -> String {
    effects.take();
    body.len().to_string()
}

/// No lack, though it takes care: Rocket peeks at a body, keeps what it read, and forgets that the rest failed.
#[tokio::test]
async fn a_body_that_breaks_off_where_rocket_peeks_claims_nothing() {
    for part in ["", "half", "_method=buy", "exactly 14 by.", "more than fourteen bytes"] {
        let effects = Effects::default();
        let idempotency = memory();
        let fairing = counted(&idempotency, &effects).mount("/orders", routes![lengthy]);
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let answered = AdHoc::on_response("answered", move |_, answer| {
            let (tell, status) = (tell.clone(), answer.status().code);
            Box::pin(async move { tell.send(status).await.unwrap() })
        });
        let server = Server::start(quiet().attach(fairing).attach(answered)).await;
        let mut client = Client::connect(server.base).await.unwrap();
        // A form, whose first bytes Semel looks at again.
        let form = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding";
        let sent = chunked(part).replace("Transfer-Encoding", form);
        // A chunk of nothing would end the body.
        let sent = if part.is_empty() { sent.trim_end_matches("0\r\n\r\n") } else { &sent };
        client.send(sent).await.unwrap();
        drop(client);
        assert_eq!((bounded(told.recv()).await, effects.count()), (Some(400), 0), "{part}");
    }
}

struct Peeks;

#[rocket::async_trait]
impl Fairing for Peeks {
    fn info(&self) -> Info {
        Info { name: "peeks", kind: Kind::Request }
    }

    async fn on_request(&self, _: &mut Request<'_>, body: &mut Data<'_>) {
        body.peek(512).await;
    }
}

/// Where a fairing outside peeks further than Rocket does, a body without a length that breaks off there is taken for
/// whole.
#[tokio::test]
async fn a_body_without_a_length_that_breaks_off_while_a_fairing_peeks_is_taken_for_whole() {
    let effects = Effects::default();
    let fairing = counted(&memory(), &effects).mount("/orders", routes![lengthy]);
    let server = Server::start(quiet().attach(Peeks).attach(fairing)).await;
    let mut client = Client::connect(server.base).await.unwrap();
    client.send(chunked("more than fourteen bytes")).await.unwrap();
    drop(client);
    effects.begun().await;
}

#[post("/")]
fn breaks_off() -> Breaks {
    Breaks(2 * 1024 * 1024)
}

/// An answer that fails after this many bytes.
struct Breaks(usize);

impl<'r> Responder<'r, 'static> for Breaks {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build().streamed_body(self).ok()
    }
}

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("broke")));
        }
        let length = self.0.min(into.remaining());
        into.put_slice(&vec![b'x'; length]);
        self.0 -= length;
        Poll::Ready(Ok(()))
    }
}

/// Rocket ends the body of an answer that fails as if it were whole, whoever made it. What fits the limit was read before
/// anything of it is sent, so this is left to what does not.
#[tokio::test]
async fn an_answer_over_the_limit_that_breaks_off_looks_whole() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![breaks_off]);
    let server = Server::start(quiet().attach(fairing)).await;
    let seen = bounded(post("/orders", "k", "{}").send(server.base)).await.unwrap();
    assert_eq!((seen.status(), seen.body.len()), (200, 2 * 1024 * 1024));
    assert_eq!(seen.one("transfer-encoding"), Some("chunked"));
}

#[post("/<id>")]
fn numbered(id: u32) -> String {
    id.to_string()
}

#[post("/<name>", rank = 2)]
fn named(name: &str) -> String {
    name.to_owned()
}

/// A key that one mount requires is not asked for by the rules of another: its routes must not be reached past them.
#[tokio::test]
async fn a_guarded_route_does_not_forward_to_a_mount_whose_rules_have_not_judged_it() {
    let strict = memory().route(PolicyBuilder::require_key).unwrap();
    let fairing = IdempotencyFairing::new(memory()).around(quiet());
    let fairing = fairing.mount("/n", routes![numbered]).mount_by(&strict, "/n", routes![named]);
    let server = Server::start(quiet().attach(fairing)).await;
    assert_eq!(Ask::new("POST", "/n/7", "{}").send(server.base).await.unwrap().text(), "7");
    let unasked = Ask::new("POST", "/n/abc", "{}").send(server.base).await.unwrap();
    assert_eq!(unasked.status(), 500, "{}", unasked.text());
    assert_eq!(post("/n/abc", "k", "{}").send(server.base).await.unwrap().status(), 500);
}

/// What a guarded route's guards pass on is looked for inside, where the routes outside are not.
#[tokio::test]
async fn a_guarded_route_forwards_to_guarded_routes_only() {
    let beside = IdempotencyFairing::new(memory()).around(quiet()).mount("/n", routes![numbered]);
    let beside = Server::start(quiet().attach(beside).mount("/n", routes![named])).await;
    let both = IdempotencyFairing::new(memory()).around(quiet()).mount("/n", routes![numbered, named]);
    let both = Server::start(quiet().attach(both)).await;
    for (base, status) in [(beside.base, 422), (both.base, 200)] {
        assert_eq!(post("/n/7", "k", "{}").send(base).await.unwrap().text(), "7");
        assert_eq!(post("/n/abc", "other", "{}").send(base).await.unwrap().status(), status);
    }
}
