//! Runs that end badly, or without their client.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service as _;
use actix_web::test::{call_service, init_service};
use actix_web::{App, HttpResponse, web};
use semel_actix::IdempotencyMiddleware;
use semel_driver::{Address, Idempotency};
use semel_testkit::client::{Client, post};
use tokio::sync::Semaphore;

use crate::support::{Effects, Seen, Server, bounded, memory, order};

/// `/orders`, which waits at the gate after its effect.
fn held(idempotency: &Idempotency, effects: &Effects, gate: &Arc<Semaphore>) -> Server {
    let (idempotency, effects, gate) = (idempotency.clone(), effects.clone(), Arc::clone(gate));
    Server::start(move |app| {
        let (effects, gate) = (effects.clone(), Arc::clone(&gate));
        let make = move || {
            let (effects, gate) = (effects.clone(), Arc::clone(&gate));
            async move {
                let n = effects.take();
                gate.acquire().await.unwrap().forget();
                HttpResponse::Created().body(n.to_string())
            }
        };
        let guard = IdempotencyMiddleware::new(idempotency.clone());
        app.service(web::resource("/orders").wrap(guard).route(web::post().to(make)));
    })
}

/// Over a socket. Actix-web may keep a request of HTTP/1.1 whose client has gone: the next test drops one for sure.
#[tokio::test]
async fn a_client_that_hangs_up_finds_its_answer_on_retry() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let idempotency = memory();
    let server = held(&idempotency, &effects, &gate);
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
        (201, Some("true"), "1")
    );
    assert_eq!(effects.count(), 1);
}

/// Whatever drops a request, a time-out outside or a stream that is reset, must not drop its run.
#[actix_web::test]
async fn a_request_that_is_dropped_does_not_drop_its_run() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let (ran, held) = (effects.clone(), Arc::clone(&gate));
    let make = move || {
        let (ran, held) = (ran.clone(), Arc::clone(&held));
        async move {
            ran.take();
            held.acquire().await.unwrap().forget();
            "done"
        }
    };
    let idempotency = memory();
    let guard = IdempotencyMiddleware::new(idempotency.clone());
    let app = init_service(App::new().wrap(guard).route("/orders", web::post().to(make))).await;
    let mut call = Box::pin(app.call(order("k").to_request()));
    tokio::select! {
        _ = &mut call => panic!("it answered before it was let go"),
        () = effects.begun() => drop(call),
    }
    gate.add_permits(1);
    bounded(idempotency.drain(Duration::from_secs(20))).await.unwrap();
    let again = Seen::of(call_service(&app, order("k").to_request()).await).await;
    assert_eq!((again.text.as_str(), again.replayed(), effects.count()), ("done", true, 1));
}

#[tokio::test]
async fn a_panic_ends_the_connection_and_leaves_the_outcome_unknown() {
    let effects = Effects::default();
    let (idempotency, ran) = (memory(), effects.clone());
    let server = Server::start(move |app| {
        let ran = ran.clone();
        let panics = move || {
            ran.take();
            async { if ran_out() { panic!("out of stock") } else { "made" } }
        };
        app.service(
            web::resource("/orders")
                .wrap(IdempotencyMiddleware::new(idempotency.clone()))
                .route(web::post().to(panics)),
        );
    });
    assert!(bounded(post("/orders", "k", "{}").send(server.base)).await.is_err());
    let again = post("/orders", "k", "{}").send(server.base).await.unwrap();
    assert_eq!(again.status(), 409);
    assert!(again.text().contains("outcome-unknown"), "{}", again.text());
    assert_eq!(effects.count(), 1);
}

/// The lack: a worker that ends takes its runs with it. What they did is unknown, and nobody repeats it.
#[tokio::test]
async fn a_run_whose_client_has_gone_ends_with_its_worker_and_its_outcome_is_unknown() {
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let idempotency = memory();
    let server = held(&idempotency, &effects, &gate);
    let mut client = Client::connect(server.base).await.unwrap();
    client.send(post("/orders", "k", "{}").bytes()).await.unwrap();
    effects.begun().await;
    drop(client);
    // At once: what a graceful stop does when its time-out is over.
    bounded(server.handle.stop(false)).await;
    bounded(idempotency.drain(Duration::from_secs(20))).await.unwrap();
    let address = Address::key("k");
    let record = idempotency.inspect(&address).await.unwrap().unwrap();
    assert_eq!(record.state, semel_core::record::State::Unknown);
    assert_eq!(gate.available_permits(), 0);
}

fn ran_out() -> bool {
    true
}
