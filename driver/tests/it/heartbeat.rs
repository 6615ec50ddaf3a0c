//! Renewals: not starved by handlers, in time for a lease that came late, ended with the last handle.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use semel_core::policy::Policy;
use semel_core::record::{Recovery, State};
use semel_core::store::AnyStore;
use semel_driver::{Address, Idempotency};
use semel_store_memory::MemoryStore;
use semel_testkit::faulty::{Fault, Faulty, Step};

use crate::support::{App, Handler, order, rig, send, settle, text};

const SECOND: Duration = Duration::from_secs(1);

// Edge case 28: the runtime's one thread is busy for three leases.
#[tokio::test]
async fn a_handler_that_keeps_the_only_thread_busy_keeps_its_lease() {
    let store = MemoryStore::new();
    let idem = Idempotency::builder(store)
        .lease(Duration::from_millis(300))
        .recovery(Recovery::Takeover)
        .build()
        .unwrap();
    let busy: Handler = Arc::new(|_, _| {
        Box::pin(async {
            let until = Instant::now() + SECOND;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            Ok(text(201, "done"))
        })
    });
    let other = idem.clone();
    // A thread of its own plays another process that would take over.
    let watcher = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let app = App::open();
            let mut taken = 0;
            let until = Instant::now() + Duration::from_millis(900);
            tokio::time::sleep(Duration::from_millis(50)).await;
            while Instant::now() < until {
                drop(send(other.clone(), order("k", "{}"), app.handler()).await);
                taken = app.ran.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            taken
        })
    });
    let got = send(idem.clone(), order("k", "{}"), busy).await;
    assert_eq!((got.body.as_str(), got.replayed()), ("done", false));
    assert_eq!(watcher.join().unwrap(), 0, "taken over from a live run");
}

// The heart slept for a second over a lease of 300 ms that a request brought along.
#[tokio::test]
async fn a_short_lease_that_comes_with_a_request_or_a_late_route_is_renewed_in_time() {
    let rig = rig(|b| b);
    rig.clock.advance(Duration::from_millis(100)).await;
    let short = Policy::builder().lease(Duration::from_millis(300)).build().unwrap();
    let app = App::gated();
    let mut request = order("k", "{}");
    request.extensions_mut().insert(short);
    let first = tokio::spawn(send(rig.idem.clone(), request, app.handler()));
    app.called(1).await;
    rig.clock.advance(SECOND * 2).await;
    assert_eq!(rig.state("k").await, Some(State::InFlight));
    app.gate.add_permits(1);
    assert_eq!(first.await.unwrap().status.as_u16(), 201);
}

#[tokio::test]
async fn a_batch_is_sorted_and_a_failed_one_is_tried_at_the_next_tick() {
    let rig = rig(|b| b);
    let app = App::gated();
    for n in 0..20 {
        tokio::spawn(send(rig.idem.clone(), order(&format!("k{n}"), "{}"), app.handler()));
    }
    app.called(20).await;
    rig.faults.next(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 12).await;
    let renewed = rig.faults.renewed();
    assert_eq!(renewed.len(), 2, "tried again at the next tick: {}", renewed.len());
    for batch in &renewed {
        assert_eq!(batch.len(), 20);
        assert!(batch.is_sorted());
    }
    rig.clock.advance(SECOND * 20).await;
    assert_eq!(rig.state("k0").await, Some(State::InFlight));
    app.gate.add_permits(20);
    rig.idem.drain(SECOND).await.unwrap();
}

// One record the store cannot get at: giving it up must not cost the others their leases.
#[tokio::test]
async fn an_abandon_that_hangs_does_not_stop_the_renewals() {
    let rig = rig(|b| b.max_run(SECOND * 60));
    let app = App::gated();
    for n in 0..8 {
        tokio::spawn(send(rig.idem.clone(), order(&format!("old{n}"), "{}"), app.handler()));
    }
    app.called(8).await;
    rig.clock.advance(SECOND * 45).await;
    tokio::spawn(send(rig.idem.clone(), order("young", "{}"), app.handler()));
    app.called(9).await;
    rig.faults.always(Step::Abandon, Fault::NeverApplied);
    rig.clock.advance(SECOND * 55).await;
    assert_eq!(rig.state("young").await, Some(State::InFlight));
}

#[tokio::test]
async fn the_bookkeeping_thread_ends_with_the_last_handle() {
    let threads = || {
        std::fs::read_dir("/proc/self/task").map_or(0, |tasks| {
            tasks
                .flatten()
                .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
                .filter(|name| name.starts_with("semel-bookkeepi"))
                .count()
        })
    };
    // Other tests of this process have threads of their own: many are made here, and few may be left.
    let before = threads();
    for _ in 0..40 {
        let (store, _) = Faulty::new(MemoryStore::new());
        let idem = Idempotency::builder_any(AnyStore::new(store)).build().unwrap();
        assert_eq!(send(idem.clone(), order("k", "{}"), App::open().handler()).await.status.as_u16(), 201);
        assert!(idem.inspect(&Address::key("k")).await.unwrap().is_some());
    }
    let until = Instant::now() + SECOND * 10;
    while threads() > before + 10 {
        assert!(Instant::now() < until, "{} threads, {before} before", threads());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    settle().await;
}
