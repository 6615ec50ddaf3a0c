//! Duplicates that wait: woken, not woken, woken for nothing; and the seats they take.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::State;
use semel_driver::Idempotency;
use semel_store_memory::MemoryStore;
use semel_testkit::faulty::{Step, Watching};

use crate::support::{App, order, rig, send, settle, text};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_waiter_gets_the_originals_answer_without_a_clock_moving() {
    let rig = rig(|b| b.wait(SECOND * 5));
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    let second = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    settle().await;
    app.gate.add_permits(1);
    assert_eq!(first.await.unwrap().body, "order 1");
    let got = second.await.unwrap();
    assert_eq!((got.body.as_str(), got.replayed(), app.runs()), ("order 1", true, 1));
}

// Edge case 25, and a store that cries wolf: neither may cost a waiter its answer.
#[tokio::test]
async fn waiters_finish_with_every_wake_up_lost_or_false() {
    for watching in [Watching::Deaf, Watching::Wolf] {
        let rig = rig(|b| b.wait(SECOND * 5));
        rig.faults.watching(watching);
        let app = App::gated();
        let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
        app.called(1).await;
        let waiters: Vec<_> =
            (0..8).map(|_| tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()))).collect();
        rig.clock.advance(SECOND * 2).await;
        let asked = rig.faults.calls(Step::Begin);
        assert!(asked < 8 * 200, "{watching:?}: the store is not asked in a tight loop: {asked}");
        app.gate.add_permits(1);
        assert_eq!(first.await.unwrap().body, "order 1");
        rig.clock.advance(SECOND).await;
        for waiter in waiters {
            assert!(waiter.is_finished(), "{watching:?}");
            let got = waiter.await.unwrap();
            assert_eq!((got.body.as_str(), got.replayed()), ("order 1", true), "{watching:?}");
        }
        assert_eq!(app.runs(), 1);
    }
}

// The wake-up is sent after the claim was answered and before the subscription is there.
#[tokio::test]
async fn a_wake_up_between_asking_and_subscribing_is_not_missed() {
    let rig = rig(|b| b.wait(SECOND * 5));
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    let gate = Arc::clone(&app.gate);
    rig.faults.before(Step::Watch, move || {
        gate.add_permits(1);
        settle()
    });
    // The clock stands still: only asking again at once can find it.
    let second = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    settle().await;
    settle().await;
    assert!(second.is_finished());
    assert!(second.await.unwrap().replayed());
    assert_eq!(first.await.unwrap().body, "order 1");
}

#[tokio::test]
async fn waiting_ends_with_409_when_its_time_is_over() {
    let rig = rig(|b| b.wait(SECOND * 3));
    let app = App::gated();
    let _first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    app.called(1).await;
    let second = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
    rig.clock.advance(Duration::from_millis(2_900)).await;
    assert!(!second.is_finished());
    rig.clock.advance(Duration::from_millis(200)).await;
    assert!(second.is_finished());
    let got = second.await.unwrap();
    assert_eq!((got.status.as_u16(), got.code()), (409, "in-flight"));
    assert!(got.headers.contains_key("retry-after"));
}

// Seats were given up between two looks, so that a newcomer took the place of one who had waited.
#[tokio::test]
async fn seats_are_capped_per_key_and_in_all_and_come_back_from_clients_that_hang_up() {
    for (per_key, total) in [(2, 100), (100, 2)] {
        let rig = rig(|b| {
            let b = b.max_waiters(total);
            let mut policy = semel_core::policy::Policy::builder().wait(SECOND * 20);
            policy.wait.per_key = per_key;
            b.policy(policy)
        });
        let app = App::gated();
        let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
        app.called(1).await;
        let start = || tokio::spawn(send(rig.idem.clone(), order("k", "{}"), app.handler()));
        let seated = [start(), start()];
        settle().await;
        for _ in 0..5 {
            let refused = start();
            rig.clock.advance(Duration::from_millis(700)).await;
            assert!(refused.is_finished(), "no seat: told at once");
            assert_eq!(refused.await.unwrap().code(), "in-flight");
            assert!(seated.iter().all(|waiter| !waiter.is_finished()), "who sits keeps the seat");
        }
        let [one, other] = seated;
        one.abort();
        settle().await;
        let third = start();
        settle().await;
        assert!(!third.is_finished(), "the seat of who hung up is free");
        app.gate.add_permits(1);
        assert_eq!(first.await.unwrap().body, "order 1");
        rig.clock.advance(SECOND).await;
        assert!(other.await.unwrap().replayed());
        assert!(third.await.unwrap().replayed());
        assert_eq!(rig.idem.running(), 0);
    }
}

// Edge case 4, with real threads: one waiter runs, the others get its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_before_64_waiters_lets_exactly_one_run() {
    let idem = Idempotency::builder(MemoryStore::new()).wait(SECOND * 20).build().unwrap();
    let app = App::gated();
    let handler = app.answering(|n, _| text(if n == 1 { 503 } else { 201 }, format!("order {n}")));
    let first = tokio::spawn(send(idem.clone(), order("k", "{}"), handler.clone()));
    app.called(1).await;
    let waiters: Vec<_> =
        (0..64).map(|_| tokio::spawn(send(idem.clone(), order("k", "{}"), handler.clone()))).collect();
    while idem.running() < 65 {
        tokio::task::yield_now().await;
    }
    app.gate.add_permits(65);
    assert_eq!(first.await.unwrap().status.as_u16(), 503);
    let mut fresh = 0;
    for waiter in waiters {
        let got = tokio::time::timeout(SECOND * 20, waiter).await.expect("a waiter hangs").unwrap();
        assert_eq!(got.body, "order 2");
        fresh += usize::from(!got.replayed());
    }
    assert_eq!((fresh, app.runs()), (1, 2));
    let view = idem.inspect(&semel_driver::Address::key("k")).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempt), (State::Completed, 2));
}
