//! Runs that end badly, or without their client, and servers that end.

use std::sync::Arc;
use std::time::Duration;

use rocket::fairing::AdHoc;
use rocket::{Shutdown, State, post, routes};
use semel_driver::{Address, Idempotency};
use semel_rocket::IdempotencyFairing;
use semel_testkit::client::{Client, post};
use tokio::sync::Semaphore;

use crate::support::{Effects, Gate, Seen, Server, bounded, client, counted, held, memory, order, quiet};

/// `/orders`, which waits at the gate after its effect.
fn guarded(idempotency: &Idempotency, effects: &Effects, gate: &Gate) -> IdempotencyFairing {
    let inside = quiet().manage(effects.clone()).manage(Arc::clone(gate));
    IdempotencyFairing::new(idempotency.clone()).around(inside).mount("/orders", routes![held])
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_its_answer_on_retry() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let idempotency = memory();
    let server = Server::start(quiet().attach(guarded(&idempotency, &effects, &gate))).await;
    let mut client = Client::connect(server.base).await.unwrap();
    client.send(post("/orders", "k", "{}").bytes()).await.unwrap();
    effects.begun().await;
    drop(client);
    let conflict = post("/orders", "k", "{}").send(server.base).await.unwrap();
    assert_eq!(conflict.status(), 409);
    gate.add_permits(1);
    idempotency.drain(Duration::from_secs(20)).await.unwrap();
    let again = post("/orders", "k", "{}").send(server.base).await.unwrap();
    assert_eq!(
        (again.status(), again.one("idempotency-replayed"), again.text().as_str()),
        (200, Some("true"), "1")
    );
    assert_eq!(effects.count(), 1);
}

/// Rocket drops no request of its own. Whoever does must not drop the run.
#[tokio::test]
async fn a_request_that_is_dropped_does_not_drop_its_run() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let idempotency = memory();
    let client = client(guarded(&idempotency, &effects, &gate)).await;
    let mut call = Box::pin(order(&client, "k").dispatch());
    tokio::select! {
        _ = &mut call => panic!("it answered before it was let go"),
        () = effects.begun() => drop(call),
    }
    gate.add_permits(1);
    bounded(idempotency.drain(Duration::from_secs(20))).await.unwrap();
    let again = Seen::of(order(&client, "k")).await;
    assert_eq!((again.text.as_str(), again.replayed(), effects.count()), ("1", true, 1));
}

#[post("/")]
fn panics(effects: &State<Effects>) -> String {
    assert!(effects.take() == 0, "out of stock");
    "made".to_owned()
}

/// Rocket makes a 500 of a panic, and a 500 would free the key: what it did would be done again.
#[tokio::test]
async fn a_panic_leaves_the_outcome_unknown_and_its_client_is_told_so() {
    let effects = Effects::default();
    let client = client(counted(&memory(), &effects).mount("/orders", routes![panics])).await;
    for status in [500, 409] {
        let seen = Seen::of(order(&client, "k")).await;
        assert_eq!((seen.status, seen.code()), (status, "outcome-unknown"));
    }
    assert_eq!(effects.count(), 1);
}

/// A fairing's panic is one that Rocket catches nowhere.
#[tokio::test]
async fn a_panic_of_a_fairing_inside_leaves_the_outcome_unknown() {
    let effects = Effects::default();
    let breaks = AdHoc::on_response("breaks", |_, _| Box::pin(async { panic!("as the test asks") }));
    let inside = quiet().manage(effects.clone()).attach(breaks);
    let idempotency = memory();
    let fairing = IdempotencyFairing::new(idempotency.clone());
    let client = client(fairing.around(inside).mount("/orders", routes![crate::support::made])).await;
    assert_eq!(Seen::of(order(&client, "k")).await.status, 500);
    let again = Seen::of(order(&client, "k")).await;
    assert_eq!((again.status, again.code(), effects.count()), (409, "outcome-unknown", 1));
}

/// The client is told in time, and the late answer still counts.
#[tokio::test]
async fn a_run_over_its_time_is_told_so_and_its_late_answer_is_kept() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let tested = Idempotency::test();
    let idempotency = tested.builder.build().unwrap();
    let idempotency = idempotency.route(|policy| policy.max_run(Duration::from_mins(1))).unwrap();
    let client = client(guarded(&idempotency, &effects, &gate)).await;
    let mut call = Box::pin(Seen::of(order(&client, "k")));
    tokio::select! {
        seen = &mut call => panic!("{seen:?}"),
        () = effects.begun() => {}
    }
    let (told, ()) =
        bounded(async { tokio::join!(call, tested.clock.advance(Duration::from_secs(61))) }).await;
    assert_eq!(told.code(), "outcome-unknown");
    gate.add_permits(1);
    bounded(idempotency.drain(Duration::from_secs(20))).await.unwrap();
    let again = Seen::of(order(&client, "k")).await;
    assert_eq!((again.text.as_str(), again.replayed(), effects.count()), ("1", true, 1));
}

/// A deploy that cuts runs off leaves records that somebody has to look at.
#[tokio::test]
async fn a_shutdown_waits_for_a_run_whose_client_has_gone_and_tells_the_fairings_inside() {
    let (effects, ended, gate) = (Effects::default(), Effects::default(), Arc::new(Semaphore::new(0)));
    let idempotency = memory();
    let told = ended.clone();
    let listens = AdHoc::on_shutdown("listens", |_| {
        Box::pin(async move {
            told.take();
        })
    });
    let inside = quiet().manage(effects.clone()).manage(Arc::clone(&gate)).attach(listens);
    let fairing = IdempotencyFairing::new(idempotency.clone()).around(inside).mount("/orders", routes![held]);
    // Rocket has its shutdown fairings run side by side.
    let (begins, mut begun) = tokio::sync::mpsc::channel(1);
    let beside = AdHoc::on_shutdown("beside", |_| Box::pin(async move { begins.send(()).await.unwrap() }));
    let mut server = Server::start(quiet().attach(fairing).attach(beside)).await;
    let mut client = Client::connect(server.base).await.unwrap();
    client.send(post("/orders", "k", "{}").bytes()).await.unwrap();
    effects.begun().await;
    drop(client);
    server.shutdown.clone().notify();
    bounded(begun.recv()).await.unwrap();
    assert_eq!((server.ended.is_finished(), ended.count()), (false, 0));
    gate.add_permits(1);
    let rocket = bounded(&mut server.ended).await.unwrap();
    assert!(rocket.is_ok() && ended.count() == 1);
    let record = idempotency.inspect(&Address::key("k")).await.unwrap().unwrap();
    assert_eq!(record.state, semel_core::record::State::Completed);
}

#[post("/")]
fn ends(shutdown: Shutdown) -> &'static str {
    shutdown.notify();
    "bye"
}

/// The handler's Rocket is not the one that listens.
#[tokio::test]
async fn a_handler_that_asks_for_a_shutdown_ends_the_server() {
    let fairing = IdempotencyFairing::new(memory()).around(quiet()).mount("/orders", routes![ends]);
    let mut server = Server::start(quiet().attach(fairing)).await;
    let seen = bounded(post("/orders", "k", "{}").send(server.base)).await.unwrap();
    assert_eq!(seen.text(), "bye");
    assert!(bounded(&mut server.ended).await.unwrap().is_ok());
}
