//! The life of a run: leases, `max_run`, takeover, panics, clients that hang up, tickets that are dropped.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use semel_core::observe::Event;
use semel_core::record::{Recovery, State};
use semel_driver::{Admitted, Claimed};
use semel_testkit::faulty::{Fault, Step};

use crate::support::{App, Handler, order, rig, send, settle, text};

const SECOND: Duration = Duration::from_secs(1);

// A lease protects bookkeeping only while it is renewed: without renewal a long run becomes unknown.
#[tokio::test]
async fn a_run_longer_than_its_lease_keeps_it() {
    let rig = rig(|b| b);
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    rig.clock.advance(SECOND * 95).await;
    assert_eq!(rig.state("k").await, Some(State::InFlight));
    let retry = send(rig.idem.clone(), order("k", "{}"), app.handler()).await;
    assert_eq!((retry.status.as_u16(), retry.code()), (409, "in-flight"));
    app.gate.add_permits(1);
    assert_eq!(first.await.unwrap().body, "order 1");
    assert_eq!(rig.state("k").await, Some(State::Completed));
    // Nothing goes on renewing what is settled.
    let calls = rig.faults.calls(Step::Renew);
    assert!(calls >= 8, "renewed every third of the lease: {calls}");
    rig.clock.advance(SECOND * 60).await;
    assert_eq!(rig.faults.calls(Step::Renew), calls);
}

#[tokio::test]
async fn past_max_run_the_client_is_told_and_the_late_completion_still_wins() {
    let rig = rig(|b| b.max_run(SECOND * 60));
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    rig.clock.advance(SECOND * 62).await;
    let got = first.await.unwrap();
    assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"));
    assert_eq!(got.headers["idempotency-outcome"], "unknown");
    assert_eq!(rig.state("k").await, Some(State::Unknown));
    let retry = send(rig.idem.clone(), order("k", "{}"), app.handler()).await;
    assert_eq!((retry.status.as_u16(), retry.code()), (409, "outcome-unknown"));
    app.gate.add_permits(1);
    rig.idem.drain(SECOND).await.unwrap();
    let retry = send(rig.idem.clone(), order("k", "{}"), app.handler()).await;
    assert_eq!((retry.body.as_str(), retry.replayed()), ("order 1", true));
    assert_eq!(app.runs(), 1);
}

// A run that lost its lease was forgotten by the clock, and its client waited for as long as the handler hung.
#[tokio::test]
async fn a_client_is_told_at_max_run_also_when_the_lease_was_lost_before() {
    let rig = rig(|b| b.max_run(SECOND * 60));
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    rig.faults.always(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 35).await;
    rig.faults.heal();
    rig.clock.advance(SECOND * 30).await;
    settle().await;
    assert!(first.is_finished());
    assert_eq!(first.await.unwrap().code(), "outcome-unknown");
    app.gate.add_permits(1);
    rig.idem.drain(SECOND).await.unwrap();
    assert_eq!(rig.state("k").await, Some(State::Completed), "the late truth");
}

// Edge case 3: a worker paused past its lease, a successor completes, the worker resumes.
#[tokio::test]
async fn under_takeover_the_late_worker_is_superseded_and_its_client_gets_the_successors_answer() {
    let rig = rig(|b| b.recovery(Recovery::Takeover));
    let (late, next) = (App::gated(), App::open());
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), late.handler()));
    late.called(1).await;
    let before = rig.view("k").await.unwrap();
    rig.faults.always(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 31).await;
    let second = next.answering(|_, parts| {
        text(201, format!("attempt {}", parts.headers["idempotency-attempt"].to_str().unwrap()))
    });
    let got = send(rig.idem.clone(), order("k", "{}"), second).await;
    assert_eq!((got.body.as_str(), got.replayed()), ("attempt 2", false));
    assert!(rig.view("k").await.unwrap().fence > before.fence);
    late.gate.add_permits(1);
    let got = first.await.unwrap();
    assert_eq!((got.body.as_str(), got.replayed()), ("attempt 2", true));
}

#[tokio::test]
async fn a_superseded_worker_whose_successor_still_runs_tells_its_client_to_wait() {
    let rig = rig(|b| b.recovery(Recovery::Takeover));
    let (late, next) = (App::gated(), App::gated());
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), late.handler()));
    late.called(1).await;
    rig.faults.always(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 31).await;
    rig.faults.heal();
    let second = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), next.handler()));
    next.called(1).await;
    late.gate.add_permits(1);
    let got = first.await.unwrap();
    assert_eq!((got.status.as_u16(), got.code()), (409, "in-flight"));
    next.gate.add_permits(1);
    assert_eq!(second.await.unwrap().status, StatusCode::CREATED);
}

// Edge case 23.
#[tokio::test]
async fn a_panic_and_an_error_leave_the_outcome_unknown() {
    let rig = rig(|b| b);
    let panics: Handler = Arc::new(|_, _| Box::pin(async { panic!("a handler's own fault") }));
    let fails: Handler = Arc::new(|_, _| Box::pin(async { Err("broken") }));
    assert!(send(rig.idem.clone(), order("p", "{}"), panics).await.panicked);
    assert_eq!(send(rig.idem.clone(), order("e", "{}"), fails).await.code(), "outcome-unknown");
    for key in ["p", "e"] {
        assert_eq!(rig.state(key).await, Some(State::Unknown), "{key}");
        let app = App::open();
        let retry = send(rig.idem.clone(), order(key, "{}"), app.handler()).await;
        assert_eq!((retry.code(), app.runs()), ("outcome-unknown", 0));
    }
    assert_eq!(rig.idem.running(), 0);
}

#[tokio::test]
async fn a_500_frees_the_key_and_the_rerun_is_attempt_2() {
    let rig = rig(|b| b);
    let app = App::open();
    let handler = app.answering(|n, parts| {
        let attempt = parts.headers["idempotency-attempt"].to_str().unwrap().to_owned();
        text(if n == 1 { 500 } else { 201 }, attempt)
    });
    let first = send(rig.idem.clone(), order("k", "{}"), handler.clone()).await;
    assert_eq!((first.status.as_u16(), first.body.as_str()), (500, "1"));
    assert_eq!(rig.state("k").await, Some(State::Released));
    let second = send(rig.idem.clone(), order("k", "{}"), handler).await;
    assert_eq!((second.status.as_u16(), second.body.as_str(), app.runs()), (201, "2", 2));
}

/// Every way a client can be gone before the answer to its claim: nothing stays in flight.
#[tokio::test]
async fn a_client_that_hangs_up_while_its_claim_is_asked_leaves_nothing_in_flight() {
    for fault in [Fault::NeverApplied, Fault::NeverAnswered] {
        let rig = rig(|b| b);
        let app = App::open();
        rig.faults.next(Step::Begin, fault);
        let asked = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
        settle().await;
        assert_eq!(rig.idem.running(), 1);
        asked.abort();
        settle().await;
        let state = rig.state("k").await;
        assert!(matches!(state, None | Some(State::Released)), "{fault:?}: {state:?}");
        assert_eq!(rig.idem.running(), 0, "{fault:?}");
        let retry = send(rig.idem.clone(), order("k", "{}"), app.handler()).await;
        assert_eq!((retry.status.as_u16(), app.runs()), (201, 1), "{fault:?}");
    }
}

// The packet of a first try was lost; the second was told "somebody else's". When the packet arrived at last,
// nobody was left to run what it claimed, and the key was stuck.
#[tokio::test]
async fn a_lost_packet_that_claims_after_its_client_was_answered_is_released() {
    let rig = rig(|b| b);
    let app = App::gated();
    let first =
        tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.answering(|_, _| text(503, "busy"))));
    app.called(1).await;
    rig.faults.hold_late();
    rig.faults.next(Step::Begin, Fault::Late);
    let duplicate = rig.patient(order("k", "{}"), &app.handler()).await;
    assert_eq!(duplicate.code(), "in-flight");
    app.gate.add_permits(1);
    assert_eq!(first.await.unwrap().status.as_u16(), 503);
    rig.faults.deliver().await;
    assert_eq!(rig.state("k").await, Some(State::InFlight), "claimed by nobody who is left");
    rig.clock.advance(SECOND * 6).await;
    assert_eq!(rig.state("k").await, Some(State::Released));
    rig.clock.advance(SECOND * 40).await;
    assert_eq!(rig.idem.running(), 0);
}

#[tokio::test]
async fn a_ticket_dropped_before_dispatch_is_released_and_after_it_abandoned() {
    for (dispatched, left) in [(false, State::Released), (true, State::Unknown)] {
        let rig = rig(|b| b);
        let (mut parts, body) = order("k", "{}").into_parts();
        let Admitted::Guarded(guarded) = rig.idem.admit(&mut parts) else { panic!("guarded") };
        let Claimed::Run(mut ticket, _) = guarded.claim(&parts, body).await else { panic!("ours") };
        if dispatched {
            ticket.dispatch(&mut parts);
        }
        drop(ticket);
        settle().await;
        assert_eq!(rig.state("k").await, Some(left));
        assert_eq!(rig.idem.running(), 0);
    }
}

#[tokio::test]
async fn a_ticket_dropped_while_the_answer_is_read_is_unknown() {
    let rig = rig(|b| b);
    let (mut parts, body) = order("k", "{}").into_parts();
    let Admitted::Guarded(guarded) = rig.idem.admit(&mut parts) else { panic!("guarded") };
    let Claimed::Run(mut ticket, _) = guarded.claim(&parts, body).await else { panic!("ours") };
    ticket.dispatch(&mut parts);
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<bytes::Bytes>, &'static str>,
    >());
    let reading = tokio::spawn(ticket.respond(http::Response::new(Box::pin(never))));
    settle().await;
    reading.abort();
    settle().await;
    assert_eq!(rig.state("k").await, Some(State::Unknown));
    assert_eq!(rig.idem.running(), 0);
}

// Edge case 1.
#[tokio::test]
async fn a_client_that_hangs_up_mid_run_is_counted_and_its_retry_replays() {
    let counted = Arc::new(Mutex::new(0));
    let seen = counted.clone();
    let rig = rig(|b| {
        b.observer(move |event: &Event<'_>| {
            if let Event::DetachedRun { running, .. } = event {
                *seen.lock().unwrap() = *running;
            }
        })
        .observer(|_: &Event<'_>| panic!("an observer's own fault"))
    });
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    first.abort();
    settle().await;
    assert_eq!(*counted.lock().unwrap(), 1);
    let drained = tokio::spawn({
        let idem = rig.idem.clone();
        async move { idem.drain(SECOND).await }
    });
    settle().await;
    rig.clock.advance(SECOND * 2).await;
    assert_eq!(drained.await.unwrap().unwrap_err().running, 1);
    app.gate.add_permits(1);
    rig.idem.drain(SECOND).await.unwrap();
    let retry = send(rig.idem.clone(), order("k", "{}"), app.handler()).await;
    assert_eq!((retry.body.as_str(), retry.replayed(), app.ran.load(Ordering::SeqCst)), ("order 1", true, 1));
}
