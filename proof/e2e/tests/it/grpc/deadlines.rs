//! What a deadline ends depends on where it is kept: a client's wait, or the run itself.

use std::time::Duration;

use super::call::Call;
use super::hosts::{gateway, tonic};

/// Tonic keeps `grpc-timeout` outside of its server's layers: it ends the waiting and not the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_of_tonics_server_ends_the_waiting_and_not_the_run() {
    let host = tonic::HOST.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let call = Call::place("a book").key("order-1").with("x-hold", "1");
    let late = host.send(&call.clone().with("grpc-timeout", "200m")).await;
    assert_eq!((late.number(), late.status().unwrap().message()), (1, "Timeout expired"));
    let retry = host.start(&call);
    host.shop.let_go(1);
    let retry = retry.await.unwrap();
    assert_eq!((retry.replayed(), retry.number(), host.effects()), (true, 0, 1));
}

/// Behind a gateway it cancels the run, and nobody knows how far that came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_of_the_application_behind_a_gateway_leaves_the_outcome_unknown() {
    let host = gateway::HOST.start().await;
    let call = Call::place("a book").key("order-1").with("x-hold", "1");
    let late = host.send(&call.clone().with("grpc-timeout", "200m")).await;
    assert_eq!((late.number(), late.headers["idempotency-outcome"].as_bytes()), (1, b"unknown".as_slice()));
    let retry = host.send(&call).await;
    assert_eq!(retry.refusal(), (2, "outcome-unknown".into(), "reconcile".into()));
    assert_eq!(host.effects(), 1);
}
