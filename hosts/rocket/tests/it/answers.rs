//! What is recorded, and what a retry gets.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rocket::http::{Cookie, CookieJar, Header, Status};
use rocket::response::stream::{ByteStream, ReaderStream};
use rocket::response::{self, Responder};
use rocket::{Request, Response, State, catch, catchers, post, routes};
use semel_core::engine::Override;
use semel_core::policy::keep::Outcome;
use semel_rocket::{IdempotencyFairing, Judged};

use crate::support::{Effects, Seen, client, counted, memory, order, quiet};

#[post("/", data = "<body>")]
fn measured(body: &[u8], effects: &State<Effects>) -> (Status, String) {
    (Status::Created, format!("{}: {} bytes", effects.take(), body.len()))
}

/// The handler sees the bytes that were compared, whole, and the retry gets what it said of them.
#[tokio::test]
async fn the_handler_reads_the_body_and_the_retry_gets_its_answer() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![measured])).await;
    for (key, replayed, text) in
        [("k1", false, "1: 2 bytes"), ("k1", true, "1: 2 bytes"), ("k2", false, "2: 2 bytes")]
    {
        let seen = Seen::of(order(&client, key)).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (201, text, replayed));
    }
    let reused = Seen::of(order(&client, "k1").body("[]")).await;
    assert_eq!((reused.status, reused.code(), effects.count()), (422, "key-reused", 2));
}

/// Rocket lets nobody look at more than 512 bytes of a body that a handler is to read. All of it is compared.
#[tokio::test]
async fn bodies_that_differ_in_their_last_byte_only_are_two_requests() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![measured])).await;
    let (one, mut other) = (vec![b'x'; 8000], vec![b'x'; 8000]);
    *other.last_mut().unwrap() = b'y';
    for replayed in [false, true] {
        let seen = Seen::of(order(&client, "k").body(&one)).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), ("1: 8000 bytes", replayed));
    }
    let reused = Seen::of(order(&client, "k").body(&other)).await;
    assert_eq!((reused.status, reused.code(), effects.count()), (422, "key-reused", 1));
}

struct Tags;

impl<'r> Responder<'r, 'static> for Tags {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build()
            .header_adjoin(Header::new("x-tag", "b"))
            .header_adjoin(Header::new("x-tag", "a"))
            .header(Header::new("x-text", "é"))
            .ok()
    }
}

#[post("/")]
fn tagged() -> Tags {
    Tags
}

#[tokio::test]
async fn repeated_fields_keep_their_order_and_their_text() {
    let client =
        client(IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![tagged])).await;
    for replayed in [false, true] {
        let seen = Seen::of(order(&client, "k")).await;
        let tags: Vec<_> = seen.headers.get("x-tag").collect();
        assert_eq!((tags, seen.headers.get_one("x-text")), (vec!["b", "a"], Some("é")));
        assert_eq!((seen.replayed(), seen.headers.get_one("content-length")), (replayed, None));
    }
}

#[post("/")]
fn signed(cookies: &CookieJar<'_>, effects: &State<Effects>) -> String {
    cookies.add(Cookie::new("basket", effects.take().to_string()));
    let from = cookies.get("from").map_or("nowhere", |cookie| cookie.value());
    format!("from {from}")
}

/// Rocket has cookies beside the fields of a request. Those that are set are in no record, as in any host.
#[tokio::test]
async fn a_handler_finds_the_clients_cookies_and_sets_its_own() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![signed])).await;
    for replayed in [false, true] {
        // Beside a cookie, which says who calls but not lastingly, a key has to be hard to guess.
        let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        let request = order(&client, key).header(Header::new("cookie", "theme=dark; from=Ulm"));
        let seen = Seen::of(request).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), ("from Ulm", replayed));
        let set = (!replayed).then_some("basket=1");
        assert_eq!(seen.headers.get_one("set-cookie").and_then(|set| set.split(';').next()), set);
    }
}

#[post("/")]
fn sold_out(effects: &State<Effects>) -> Result<String, Status> {
    effects.take();
    Err(Status::Conflict)
}

#[catch(409)]
fn told(request: &Request<'_>) -> String {
    format!("sold out {}", request.rocket().state::<Effects>().unwrap().count())
}

/// What a catcher says is what the client sees, so it is the answer.
#[tokio::test]
async fn a_handlers_error_is_rendered_by_its_catcher_and_kept() {
    let effects = Effects::default();
    let inside = quiet().manage(effects.clone()).register("/", catchers![told]);
    let guarded = IdempotencyFairing::new(memory()).around(inside).mount("/orders", routes![sold_out]);
    let client = client(guarded).await;
    for replayed in [false, true] {
        let seen = Seen::of(order(&client, "k")).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (409, "sold out 1", replayed));
    }
    assert_eq!(effects.count(), 1);
}

#[post("/")]
fn long(effects: &State<Effects>) -> Big {
    effects.take();
    Big
}

struct Big;

impl<'r> Responder<'r, 'static> for Big {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let chunks = stream::iter((0..4).map(|_| vec![b'x'; 500 * 1024]));
        let body = ReaderStream::from(chunks.map(io::Cursor::new));
        let location = Header::new("location", "/orders/1");
        Response::build().status(Status::Created).header(location).streamed_body(body).ok()
    }
}

/// What does not fit is sent whole, and never made again.
#[tokio::test]
async fn an_answer_over_the_limit_flows_whole_and_its_retry_does_not_run() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![long])).await;
    let first = Seen::of(order(&client, "k")).await;
    assert_eq!((first.status, first.text.len()), (201, 4 * 500 * 1024));
    let again = Seen::of(order(&client, "k")).await;
    assert_eq!((again.status, again.code(), effects.count()), (409, "replay-unavailable", 1));
    assert_eq!(again.headers.get_one("location"), Some("/orders/1"));
}

#[post("/broken")]
fn broken() -> Broken {
    Broken
}

struct Broken;

impl<'r> Responder<'r, 'static> for Broken {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build().streamed_body(Halves(Some("half"))).ok()
    }
}

/// A reader that fails after its first bytes.
struct Halves(Option<&'static str>);

impl tokio::io::AsyncRead for Halves {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(match self.0.take() {
            Some(half) => {
                into.put_slice(half.as_bytes());
                Ok(())
            }
            None => Err(io::Error::other("broke")),
        })
    }
}

#[post("/panics")]
fn panics_later() -> ByteStream<stream::BoxStream<'static, Bytes>> {
    let chunks = stream::iter(["half", "no"]).map(|text| {
        assert_eq!(text, "half", "out of paper");
        Bytes::from(text)
    });
    ByteStream(chunks.boxed())
}

/// Half an answer is none.
#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_outcome_unknown_and_none_of_it_is_sent() {
    let guarded = IdempotencyFairing::new(memory()).around(quiet());
    let client = client(guarded.mount("/orders", routes![broken, panics_later])).await;
    for path in ["/orders/broken", "/orders/panics"] {
        for status in [500, 409] {
            let mut request = order(&client, path);
            request.set_uri(rocket::http::uri::Origin::parse(path).unwrap());
            let seen = Seen::of(request).await;
            assert_eq!((seen.status, seen.code()), (status, "outcome-unknown"));
        }
    }
}

#[post("/")]
fn applied(effects: &State<Effects>) -> Judged<(Status, String)> {
    let answer = (Status::InternalServerError, effects.take().to_string());
    Judged(Override::new().outcome(Outcome::Applied), answer)
}

/// Rocket's answers have no extensions: the application's last word goes beside them.
#[tokio::test]
async fn what_a_handler_says_of_its_outcome_counts() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![applied])).await;
    for replayed in [false, true] {
        let seen = Seen::of(order(&client, "k")).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.replayed()), (500, "1", replayed));
    }
}

#[post("/")]
fn torn() -> Torn {
    Torn
}

struct Torn;

impl<'r> Responder<'r, 'static> for Torn {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build().raw_header("x-note", "two\r\nlines").ok()
    }
}

/// Rocket would break the connection off. The run had its effect, and nobody was told.
#[tokio::test]
async fn an_answer_that_is_no_http_leaves_the_outcome_unknown() {
    let guarded = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![torn]);
    let client = client(guarded).await;
    for status in [500, 409] {
        let seen = Seen::of(order(&client, "k")).await;
        assert_eq!((seen.status, seen.code()), (status, "outcome-unknown"));
    }
}
