//! The transactional level over Rocket: the same commits from another host.

use std::sync::Arc;

use ::rocket::http::{Header, Status};
use ::rocket::local::asynchronous::Client;
use ::rocket::{Config, State, post, routes};
use semel_core::engine::Override;
use semel_core::policy::PolicyBuilder;
use semel_rocket::{IdempotencyFairing, Judged, LaterTx, Run, Steps, StepsFailed, Tx};
use semel_store_postgres::{Isolation, Postgres};
use semel_tower::Idempotency;

use super::{Bank, COMPLETED, RELEASED, write};
use crate::support::test;

/// Where the ledger is.
struct Ledger(Arc<str>);

#[post("/pays")]
async fn pays(mut tx: Tx<Postgres>, ledger: &State<Ledger>) -> (Status, &'static str) {
    write(&mut tx, &ledger.0, "one").await.unwrap();
    (Status::Created, "paid")
}

#[post("/declines")]
async fn declines(mut tx: Tx<Postgres>, ledger: &State<Ledger>) -> (Status, &'static str) {
    write(&mut tx, &ledger.0, "half").await.unwrap();
    (Status::Conflict, "declined")
}

/// Its first run says that it met another one.
#[post("/conflicts", data = "<body>")]
async fn conflicts(
    runs: &State<std::sync::atomic::AtomicUsize>,
    mut tx: Tx<Postgres>,
    ledger: &State<Ledger>,
    body: &str,
) -> Judged<(Status, String)> {
    write(&mut tx, &ledger.0, "line").await.unwrap();
    match runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Judged(Override::new().conflict(), (Status::InternalServerError, "met another".to_owned())),
        _ => Judged(Override::new(), (Status::Created, body.to_owned())),
    }
}

#[post("/charges")]
async fn charges(
    run: Run,
    mut steps: Steps,
    later: LaterTx<Postgres>,
    ledger: &State<Ledger>,
) -> Result<(Status, &'static str), StepsFailed> {
    steps.run("charge", async |_| Ok(run.attempt)).await?;
    let mut tx = later.begin(steps.finish()).await.unwrap();
    write(&mut tx, &ledger.0, "charged").await.unwrap();
    Ok((Status::Created, "paid"))
}

#[post("/both")]
fn both(_steps: Steps, _tx: Tx<Postgres>) -> Status {
    Status::Created
}

async fn shop(bank: &Bank, rules: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Client {
    let store = bank.store().await;
    let transactions = bank.transactions(&store, Isolation::ReadCommitted).await;
    let idempotency = Idempotency::builder(store).build().unwrap();
    let idempotency = idempotency.transactional(transactions, rules).unwrap();
    let quiet = || ::rocket::custom(Config::figment().merge(("log_level", "off")));
    let inside = quiet().manage(Ledger(bank.name())).manage(std::sync::atomic::AtomicUsize::new(0));
    let routes = routes![pays, declines, conflicts, charges, both];
    let guarded = IdempotencyFairing::new(idempotency).around(inside).mount("/", routes);
    Client::untracked(quiet().attach(guarded)).await.unwrap()
}

/// Sends it and gives status, body and whether it is a replay.
async fn send(client: &Client, path: &'static str) -> (u16, String, bool) {
    let request = client.post(path).header(Header::new("host", "shop.test")).body("paid");
    let answer = request.header(Header::new("idempotency-key", "\"k\"")).dispatch().await;
    let (status, replayed) = (answer.status().code, answer.headers().contains("idempotency-replayed"));
    (status, answer.into_string().await.unwrap_or_default(), replayed)
}

#[test]
fn writes_and_answer_are_one_commit_and_the_retry_is_a_replay() {
    test(async || {
        let bank = Bank::open().await;
        let shop = shop(&bank, |policy| policy).await;
        assert_eq!(send(&shop, "/pays").await, (201, "paid".into(), false));
        assert_eq!(send(&shop, "/pays").await, (201, "paid".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
    });
}

// A declined payment is an answer: its retry gets it, and the half of it that was written is gone.
#[test]
fn an_error_status_rolls_the_writes_back_and_is_replayed() {
    test(async || {
        let bank = Bank::open().await;
        let shop = shop(&bank, |policy| policy).await;
        assert_eq!(send(&shop, "/declines").await, (409, "declined".into(), false));
        assert_eq!(send(&shop, "/declines").await, (409, "declined".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (0, 1));
    });
}

// The body that was read for the first run is there for the second.
#[test]
fn a_run_that_met_another_is_run_again_in_place_with_its_body() {
    test(async || {
        let bank = Bank::open().await;
        let shop = shop(&bank, |policy| policy.reruns(1)).await;
        assert_eq!(send(&shop, "/conflicts").await, (201, "paid".into(), false));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
    });
}

// The network first, then the database: also where the guards are Rocket's.
#[test]
fn the_transaction_is_opened_for_what_ends_the_steps_and_not_before() {
    test(async || {
        let bank = Bank::open().await;
        let shop = shop(&bank, PolicyBuilder::steps).await;
        assert_eq!(send(&shop, "/charges").await, (201, "paid".into(), false));
        assert_eq!(send(&shop, "/charges").await, (201, "paid".into(), true));
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await), (1, 1));
        // Another endpoint, and so another request: under a key of its own.
        let request = shop.post("/both").header(Header::new("idempotency-key", "\"both\""));
        assert_eq!(request.dispatch().await.status(), Status::InternalServerError);
        assert_eq!(bank.records(RELEASED).await, 1, "the key is free");
    });
}
