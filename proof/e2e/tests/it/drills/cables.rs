//! The cable between a gateway and its PostgreSQL fails, at the claim and at the completion of a request.

use std::sync::Arc;
use std::time::Duration;

use semel_testkit::cable::{Cable, Fault};
use semel_testkit::client::post;
use semel_testkit::postgres::Server;
use semel_testkit::upstream::{Act, Upstream, answer};
use tokio::task::JoinSet;

use super::support::gateway;
use crate::proxy::support::{assert_problem, once_final};

/// Longer than a step of the store may take.
const TOO_LONG: Duration = Duration::from_secs(6);

const FAULTS: [Fault; 8] = [
    Fault::LateRequest(Duration::from_millis(200)),
    Fault::LateRequest(TOO_LONG),
    Fault::LateAnswer(Duration::from_millis(200)),
    Fault::LateAnswer(TOO_LONG),
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::Swallow,
    Fault::BlackHole,
];

#[derive(Clone, Copy, Debug)]
enum At {
    Claim,
    Completion,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cable_to_postgres_that_fails_at_a_claim_or_a_completion_runs_nothing_twice() {
    let Some(server) = Server::start(&["fsync=off"]).await.unwrap() else { return };
    let server = Arc::new(server);
    let mut drills = JoinSet::new();
    for at in [At::Claim, At::Completion] {
        for fault in FAULTS {
            let server = Arc::clone(&server);
            drills.spawn(async move { one_request(&server, at, fault).await });
        }
    }
    drills.join_all().await;
}

/// With a gateway, a cable and an upstream of its own.
async fn one_request(server: &Server, at: At, fault: Fault) {
    let cable = Arc::new(Cable::to(server.address()).unwrap());
    let at_upstream = Arc::clone(&cable);
    let upstream = Upstream::start(move |_| {
        if matches!(at, At::Completion) {
            // The next that the gateway says to the store is that this has run.
            at_upstream.next(fault);
        }
        Act::Answer(answer(201, "done"))
    })
    .await
    .unwrap();
    let store = format!("postgres://postgres@{}/postgres", cable.address());
    let gateway = gateway(&store, &upstream.url()).await;
    let ask = post("/orders", &format!("{at:?}-{fault:?}-5f1d7e84a6").replace(['(', ')'], "-"), "{}");
    if matches!(at, At::Claim) {
        cable.next(fault);
    }
    let first = ask.send(gateway.address()).await.unwrap();
    assert_eq!(cable.pending(), 0, "{at:?} {fault:?} met nothing");
    let told = format!("{at:?} {fault:?}: {} {}", first.start, first.text());
    let retry = once_final(gateway.address(), &ask).await;
    match upstream.count() {
        0 => panic!("{told}: never ran"),
        1 => {}
        more => panic!("{told}: ran {more} times"),
    }
    if first.status() == 201 {
        assert_eq!((retry.status(), retry.one("idempotency-replayed")), (201, Some("true")), "{told}");
    } else if retry.status() != 201 {
        assert_problem(&retry, 409, "outcome-unknown", "reconcile");
    }
}
