//! The Rocket inside, and the one around it.

use rocket::data::{ByteUnit, Data};
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::http::{Header, Status};
use rocket::local::asynchronous::Client;
use rocket::{State, get, post, routes};
use semel_rocket::IdempotencyFairing;
use semel_testkit::client::{Ask, post};

use crate::support::{Effects, Seen, Server, bounded, client, counted, made, memory, order, quiet};

fn stamps(name: &'static str, effects: &Effects) -> AdHoc {
    let effects = effects.clone();
    AdHoc::on_response(name, move |_, answer| {
        let n = effects.take();
        Box::pin(async move {
            answer.set_header(Header::new(name, n.to_string()));
        })
    })
}

/// What is inside is recorded, what is outside sees every request.
#[tokio::test]
async fn fairings_inside_are_part_of_the_answer_and_those_outside_see_replays() {
    let (effects, inside, outside) = (Effects::default(), Effects::default(), Effects::default());
    let app = quiet().manage(effects.clone()).attach(stamps("x-inside", &inside));
    let fairing = IdempotencyFairing::new(memory()).around(app).mount("/orders", routes![made]);
    let outer = quiet().attach(stamps("x-outside", &outside)).attach(fairing);
    let client = Client::untracked(outer).await.unwrap();
    for (replayed, n) in [(false, "1"), (true, "2")] {
        let seen = Seen::of(order(&client, "k")).await;
        let stamp = |name| seen.headers.get(name).collect::<Vec<_>>();
        assert_eq!((stamp("x-inside"), stamp("x-outside")), (vec!["1"], vec![n]));
        assert_eq!((seen.replayed(), stamp("x-content-type-options")), (replayed, vec!["nosniff"]));
    }
    assert_eq!(effects.count(), 1);
}

#[post("/upload", data = "<body>")]
async fn upload(body: Data<'_>) -> String {
    body.open(ByteUnit::max_value()).into_bytes().await.unwrap().len().to_string()
}

/// Whoever mounts a route beside the fairing has Rocket's own, also where its body is over any limit of Semel's.
#[tokio::test]
async fn a_route_beside_the_fairing_is_untouched() {
    let effects = Effects::default();
    let fairing = counted(&memory(), &effects).mount("/orders", routes![made]);
    let server = Server::start(quiet().mount("/", routes![upload]).attach(fairing)).await;
    let body = vec![b'x'; 3 * 1024 * 1024];
    let seen = bounded(post("/upload", "k", body).send(server.base)).await.unwrap();
    assert_eq!((seen.status(), seen.text().as_str()), (200, "3145728"));
    assert_eq!(seen.one("idempotency-replayed"), None);
}

/// The application inside is given bodies that are all here, so those without a key have the route's limit, too.
#[tokio::test]
async fn a_request_without_a_key_is_read_up_to_the_routes_limit() {
    let fairing = IdempotencyFairing::new(memory().route(|policy| policy.body_limit(1000)).unwrap());
    let client = client(fairing.around(quiet()).mount("/", routes![upload])).await;
    for (length, status, text) in [(1000, 200, "1000"), (1001, 413, "")] {
        let seen = Seen::of(client.post("/upload").body(vec![b'x'; length])).await;
        assert_eq!(seen.status, status);
        assert!(seen.text.contains(text), "{}", seen.text);
    }
}

#[get("/")]
fn list() -> &'static str {
    "orders"
}

/// What is safe is not guarded, and comes out as Rocket would send it.
#[tokio::test]
async fn reading_a_guarded_path_is_untouched() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![list]);
    let server = Server::start(quiet().attach(fairing)).await;
    for (method, text) in [("GET", "orders"), ("HEAD", "")] {
        let head = Ask::new(method, "/orders", "").head();
        let mut client = semel_testkit::client::Client::connect(server.base).await.unwrap();
        client.send(head).await.unwrap();
        let answer =
            if text.is_empty() { client.head().await.unwrap() } else { client.answer().await.unwrap() };
        assert_eq!(
            (answer.status(), answer.one("content-length"), answer.text().as_str()),
            (200, Some("6"), text)
        );
    }
}

/// Rocket looks at start whether what guards need is there. It has to look inside.
#[tokio::test]
async fn a_guarded_route_whose_state_nobody_manages_stops_the_launch() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![made]);
    let error = quiet().attach(fairing).ignite().await.err().unwrap();
    let ErrorKind::FailedFairings(failed) = error.kind() else { panic!("{error}") };
    assert_eq!(failed[0].name, "Semel");
}

#[post("/", rank = 1)]
fn never(_nobody: Nobody) -> &'static str {
    "never"
}

struct Nobody;

#[rocket::async_trait]
impl<'r> rocket::request::FromRequest<'r> for Nobody {
    type Error = ();

    async fn from_request(_: &'r rocket::Request<'_>) -> rocket::request::Outcome<Self, ()> {
        rocket::request::Outcome::Forward(Status::Unauthorized)
    }
}

#[post("/", rank = 2)]
fn after(effects: &State<Effects>) -> String {
    format!("after {}", effects.take())
}

/// A guard that forwards hands over to the next route inside.
#[tokio::test]
async fn a_guarded_route_that_forwards_goes_on_with_the_next_one_inside() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![never, after])).await;
    for replayed in [false, true] {
        let seen = Seen::of(order(&client, "k")).await;
        assert_eq!((seen.text.as_str(), seen.replayed()), ("after 1", replayed));
    }
}

#[post("/", format = "json")]
fn by_json() -> &'static str {
    "json"
}

#[post("/", format = "text/plain")]
fn by_text() -> &'static str {
    "text"
}

/// What tells routes apart inside has to tell them apart outside: else Rocket refuses both.
#[tokio::test]
async fn routes_that_differ_by_the_format_of_the_body_are_two_routes() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet());
    let client = client(fairing.mount("/orders", routes![by_json, by_text])).await;
    for (key, kind, text) in [("j", "application/json", "json"), ("t", "text/plain", "text")] {
        let mut request = order(&client, key);
        request.replace_header(Header::new("content-type", kind));
        assert_eq!(Seen::of(request).await.text, text);
    }
    let mut neither = order(&client, "n");
    neither.replace_header(Header::new("content-type", "text/csv"));
    assert_eq!(Seen::of(neither).await.status, 404);
}
