//! An Express 5 application from npm, unchanged and unaware, behind `semel proxy`. Orders are counted by asking the
//! application itself, past the proxy.

use std::net::SocketAddr;
use std::process::Stdio;

use semel_testkit::client::{Ask, get, in_time, post};
use semel_testkit::program::Proxy;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::npm;
use super::support::{Place, assert_problem, assert_replay, code, until};

#[tokio::test]
async fn fifty_duplicates_make_one_order() {
    let Some(shop) = Express::start("fifty_duplicates_make_one_order").await else { return };
    let (_place, proxy) = shop.behind(&[]).await;
    let order = post("/orders", "\"order-77-f3ab90\"", r#"{"item":"book","quantity":2}"#);
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (order, to) = (order.clone(), proxy.address());
        callers.spawn(async move { order.send(to).await.unwrap() });
    }
    let answers = callers.join_all().await;
    assert_eq!(shop.orders().await.len(), 1);
    let first =
        answers.iter().find(|answer| answer.status() == 201 && answer.one("idempotency-replayed").is_none());
    let first = first.expect("one that ran");
    for answer in &answers {
        match answer.status() {
            201 => assert_eq!(answer.body, first.body),
            _ => assert_problem(answer, 409, "in-flight", "same-key"),
        }
    }
    // What Express said, byte for byte, but for its cookie, which was for the first caller.
    let again = order.send(proxy.address()).await.unwrap();
    assert_eq!(again.one("set-cookie"), None);
    let mut kept = first.clone();
    kept.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("set-cookie"));
    assert_replay(&kept, &again);
    assert_eq!(again.one("x-powered-by"), Some("Express"));
}

#[tokio::test]
async fn fifty_waiting_duplicates_all_get_the_one_order() {
    let Some(shop) = Express::start("fifty_waiting_duplicates_all_get_the_one_order").await else { return };
    let (_place, proxy) = shop.behind(&["--wait", "10s"]).await;
    let order = post("/orders", "order-78-a41f77", r#"{"item":"pen"}"#);
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (order, to) = (order.clone(), proxy.address());
        callers.spawn(async move { order.send(to).await.unwrap() });
    }
    let answers = callers.join_all().await;
    assert!(answers.iter().all(|answer| answer.status() == 201 && answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| answer.one("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(shop.orders().await.len(), 1);
}

#[tokio::test]
async fn keys_and_bodies_tell_orders_apart() {
    let Some(shop) = Express::start("keys_and_bodies_tell_orders_apart").await else { return };
    let (_place, proxy) = shop.behind(&[]).await;
    let send = async |ask: &Ask| ask.send(proxy.address()).await.unwrap();

    // As many orders as keys.
    for number in 0..10 {
        let order = post("/orders", &format!("key-{number}-b77c10"), r#"{"item":"cup"}"#);
        assert_eq!((send(&order).await.status(), send(&order).await.status()), (201, 201));
    }
    assert_eq!(shop.orders().await.len(), 10);

    // The same order, written otherwise; then another under its key.
    let same = post("/orders", "key-0-b77c10", "{ \"item\" : \"c\\u0075p\" }");
    assert_eq!(send(&same).await.one("idempotency-replayed"), Some("true"));
    let other = post("/orders", "key-0-b77c10", r#"{"item":"cup","quantity":2}"#);
    assert_problem(&send(&other).await, 422, "key-reused", "stop");
    assert_eq!(shop.orders().await.len(), 10);

    // Express's own refusal is an answer like any other.
    let empty = post("/orders", "key-empty-0a1b2c", "{}");
    let first = send(&empty).await;
    assert_eq!((first.status(), code(&first).as_str()), (422, ""));
    assert_replay(&first, &send(&empty).await);

    // A change that adds is made once.
    let add = Ask::new("PATCH", "/orders/1", r#"{"add":5}"#)
        .field("Content-Type", "application/json")
        .field("Idempotency-Key", "add-five-c0ffee");
    let first = send(&add).await;
    assert_eq!(first.status(), 200);
    assert_replay(&first, &send(&add).await);
    let changed = shop.orders().await.into_iter().find(|order| order["id"] == 1).unwrap();
    assert_eq!((&changed["quantity"], &changed["changes"]), (&json!(6), &json!(1)));

    // Without a key, and with a method that is not guarded, nothing is changed.
    let plain = Ask::new("POST", "/orders", r#"{"item":"cup"}"#).field("Content-Type", "application/json");
    send(&plain).await;
    send(&plain).await;
    assert_eq!(shop.orders().await.len(), 12);
    assert_eq!(send(&get("/orders/1").field("Idempotency-Key", "unused-aa11bb")).await.status(), 200);
}

/// An error before the effect frees the key, a connection that breaks after it leaves the outcome unknown, and a
/// caller that hangs up finds its answer.
#[tokio::test]
async fn an_application_that_fails_is_not_asked_twice() {
    let Some(shop) = Express::start("an_application_that_fails_is_not_asked_twice").await else { return };
    let (place, proxy) = shop.behind(&[]).await;
    let send = async |ask: &Ask| ask.send(proxy.address()).await.unwrap();

    let busy = post("/orders/busy", "busy-5d0b1e", "{}");
    for _ in 0..2 {
        let answer = send(&busy).await;
        assert_eq!((answer.status(), answer.one("idempotency-replayed")), (500, None));
    }

    let crash = post("/orders/crash", "crash-81d2aa", "{}");
    assert_problem(&send(&crash).await, 502, "outcome-unknown", "reconcile");
    assert_problem(&send(&crash).await, 409, "outcome-unknown", "reconcile");
    assert_eq!(shop.orders().await.len(), 1);
    assert_eq!(place.listed("unknown").await.len(), 1);

    let slow = post("/orders/slow?ms=300", "slow-19a3bd", "{}");
    let leaving = tokio::spawn({
        let (slow, to) = (slow.clone(), proxy.address());
        async move { slow.send(to).await }
    });
    until(async || (shop.orders().await.len() == 2).then_some(())).await;
    leaving.abort();
    let answer = until(async || Some(send(&slow).await).filter(|answer| code(answer) != "in-flight")).await;
    assert_eq!((answer.status(), answer.one("idempotency-replayed")), (201, Some("true")));
    assert_eq!(shop.orders().await.len(), 2);
}

/// The application's process. It ends when it is dropped.
struct Express {
    address: SocketAddr,
    _process: Child,
}

impl Express {
    /// Nothing where Node is missing, and a note of it.
    async fn start(test: &str) -> Option<Self> {
        let folder = npm::installed(test, "express", "server.js").await?;
        let mut process = Command::new("node")
            .arg("server.js")
            .current_dir(folder)
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        in_time(stdout.read_line(&mut said)).await.unwrap();
        let port: u16 = said.trim().rsplit(' ').next().unwrap().parse().expect("a port");
        Some(Self { address: ([127, 0, 0, 1], port).into(), _process: process })
    }

    async fn behind(&self, flags: &[&str]) -> (Place, Proxy) {
        let place = Place::new(&format!("http://{}", self.address), flags);
        let proxy = place.proxy().await;
        (place, proxy)
    }

    /// The orders that the application has.
    async fn orders(&self) -> Vec<Value> {
        let answer = get("/orders").send(self.address).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }
}
