//! Watches: a waiter learns that its record may have changed.
//!
//! A wake-up is a hint, so the record itself is asked in every law; where the fixture says that its store
//! notifies, the hint has to come as well.

use std::time::Duration;

use semel_core::record::State;
use semel_core::store::{Delete, Deleted, LeaseRef, Resolved, Verdict, Watch};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, id, ok, resolution};

/// Long enough for a busy machine; no law waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(5);

async fn woken<F: Fixture>(lab: &Lab<F>, watch: Watch, now: Option<State>) {
    assert_eq!(lab.state(1).await, now);
    if lab.fixture.notifies() {
        assert!(tokio::time::timeout(PATIENCE, watch).await.is_ok(), "the waiter was not woken");
    }
}

async fn watched<F: Fixture>(lab: &Lab<F>) -> (LeaseRef, Watch) {
    let lease = lab.claim(&ask(1)).await;
    (lease, ok(lab.store.watch(&id(1)).await))
}

/// The duplicate that waits gets its answer when there is one, not when it next looks.
pub async fn completion_wakes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (lease, watch) = watched(&lab).await;
    applied(&lab.complete(lease, "done").await);
    woken(&lab, watch, Some(State::Completed)).await;
}

/// And it runs itself when the first was released.
pub async fn release_wakes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (lease, watch) = watched(&lab).await;
    applied(&lab.release(lease).await);
    woken(&lab, watch, Some(State::Released)).await;
}

/// Or is told that nobody knows.
pub async fn abandonment_wakes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (lease, watch) = watched(&lab).await;
    applied(&lab.abandon(lease).await);
    woken(&lab, watch, Some(State::Unknown)).await;
}

/// An operator's word reaches those who wait for it.
pub async fn resolution_wakes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    let watch = ok(lab.store.watch(&id(1)).await);
    let resolved = ok(lab.store.resolve(&id(1), &resolution(7, Verdict::NotApplied)).await);
    assert!(matches!(resolved, Resolved::Applied(_)), "{resolved:?}");
    woken(&lab, watch, Some(State::Released)).await;
}

/// A record that is gone is nobody's to wait for.
pub async fn deletion_wakes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (_, watch) = watched(&lab).await;
    assert_eq!(ok(lab.store.delete(&id(1), Delete::Any).await), Deleted::Gone);
    woken(&lab, watch, None).await;
}

/// All who wait are woken, those already asleep in a task of their own included.
pub async fn every_waiter_is_woken<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    let mut waiters = Vec::new();
    for _ in 0..16 {
        waiters.push(tokio::spawn(ok(lab.store.watch(&id(1)).await)));
    }
    applied(&lab.complete(lease, "done").await);
    assert_eq!(lab.state(1).await, Some(State::Completed));
    if lab.fixture.notifies() {
        for waiter in waiters {
            assert!(tokio::time::timeout(PATIENCE, waiter).await.is_ok(), "a waiter was not woken");
        }
    } else {
        waiters.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
