//! The guard over a store that fails. Time is Tokio's, paused: it jumps to the next alarm.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{ClaimId, Retention, State};
use semel_core::store::{
    AnyStore, Begin, Begun, Delete, Deleted, ReleaseAs, ReleaseBy, Settled, StoreErrorKind,
};
use semel_store_layers::{Guard, Layers, Tier};
use semel_store_memory::MemoryStore;
use semel_testkit::faulty::{Fault, Faults, Faulty, Step};

use crate::support::{answer, ask, claim, complete, id, replay, retry};

fn guarded(guard: Guard) -> (AnyStore, Faults) {
    let (failing, faults) = Faulty::new(MemoryStore::new());
    (Layers::new(failing).guard(guard).build().unwrap(), faults)
}

fn open_for() -> Duration {
    Duration::from_secs(2)
}

/// Fails ten claims.
async fn trip(store: &AnyStore, faults: &Faults) {
    faults.always(Step::Begin, Fault::Refused);
    for n in 0..4 {
        assert!(store.begin(&ask(100 + n)).await.is_err());
    }
    assert_eq!(faults.calls(Step::Begin), 10, "three claims of three tries, and one that is the tenth");
}

// A claim whose answer is lost must find itself, and one that was refused must be sent again.
#[tokio::test(start_paused = true)]
async fn a_claim_survives_two_faults_of_any_kind() {
    for fault in Fault::ALL {
        let (store, faults) = guarded(Guard::new());
        faults.next(Step::Begin, fault);
        faults.next(Step::Begin, fault);
        let Begun::Acquired(acquired) = store.begin(&ask(1)).await.unwrap() else { panic!("{fault:?}") };
        assert_eq!(acquired.attempt, 1, "{fault:?}: it took itself for another");
        assert_eq!(faults.calls(Step::Begin), 3);
        let (done, keep) = (answer("done").into(), Retention::default());
        let settled = store.complete(acquired.lease.as_ref(), &done, &keep).await.unwrap();
        assert_eq!(settled, Settled::Applied);
    }
}

// Tries without end are load that keeps the store down.
#[tokio::test(start_paused = true)]
async fn tries_and_time_are_bounded() {
    let guard = Guard::new();
    for fault in [Fault::Refused, Fault::NeverApplied] {
        let (store, faults) = guarded(guard);
        faults.always(Step::Complete, fault);
        let lease = claim(&store, &ask(1)).await;
        let start = tokio::time::Instant::now();
        let error = store.complete(lease, &answer("done").into(), &Retention::default()).await.unwrap_err();
        let kind =
            if fault == Fault::Refused { StoreErrorKind::Unavailable } else { StoreErrorKind::Timeout };
        assert_eq!((error.kind(), faults.calls(Step::Complete)), (kind, 3));
        // Tokio's alarms go by whole milliseconds, rounded up.
        assert!(start.elapsed() <= guard.longest() + Duration::from_millis(5), "{:?}", start.elapsed());
    }
}

// A second try of a deletion would remove whoever claimed the key after the first.
#[tokio::test(start_paused = true)]
async fn a_deletion_is_not_repeated() {
    let (store, faults) = guarded(Guard::new());
    complete(&store, 1, answer("done")).await;
    faults.next(Step::Other, Fault::AnswerLost);
    assert!(store.delete(&id(1), Delete::Settled).await.is_err());
    assert_eq!(faults.calls(Step::Other), 1);
    assert_eq!(store.delete(&id(1), Delete::Settled).await.unwrap(), Deleted::Absent);
}

// An error that says "your fault" does not get better.
#[tokio::test(start_paused = true)]
async fn what_no_retry_mends_is_sent_once() {
    let memory = MemoryStore::builder().max_entries(1).build();
    let (failing, faults) = Faulty::new(memory);
    let store = Layers::new(failing).guard(Guard::new()).build().unwrap();
    claim(&store, &ask(1)).await;
    for n in 2..30 {
        assert_eq!(store.begin(&ask(n)).await.unwrap_err().kind(), StoreErrorKind::Full);
    }
    assert_eq!(faults.calls(Step::Begin), 29, "nor does it open the breaker: the store is there");
}

/// Lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// Payments are refused while the store is up again, and nothing in the log says why.
#[tokio::test(start_paused = true)]
async fn the_log_says_once_that_the_breaker_opens_and_once_that_it_closes() {
    let log = Log::default();
    let (store, faults) = guarded(Guard::new());
    let writer = log.clone();
    let logger = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(logger);
    trip(&store, &faults).await;
    tokio::time::advance(open_for()).await;
    assert!(store.begin(&ask(1)).await.is_err(), "the probe fails");
    tokio::time::advance(open_for()).await;
    faults.heal();
    claim(&store, &ask(2)).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("opens") && lines[0].contains("store=\"memory\""),
        "{text}"
    );
    assert!(lines[1].contains("INFO") && lines[1].contains("closes"), "{text}");
}

// The breaker's whole point, and its whole danger: a run that took effect has to be recorded.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_stops_claims_and_nothing_that_settles() {
    let (store, faults) = guarded(Guard::new());
    let completed = claim(&store, &ask(1)).await;
    let released = claim(&store, &ask(2)).await;
    let abandoned = claim(&store, &ask(3)).await;
    let running = claim(&store, &ask(4)).await;
    for n in 0..50 {
        complete(&store, 10 + n, answer("done")).await;
    }
    faults.always(Step::Begin, Fault::Refused);
    while faults.calls(Step::Begin) < 108 {
        assert!(store.begin(&ask(200)).await.is_err());
    }
    faults.heal();
    let sent = faults.calls(Step::Begin);
    let error = store.begin(&ask(201)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("breaker"), "{error}");
    assert_eq!(faults.calls(Step::Begin), sent, "a claim was sent");

    let keep = Retention::default();
    assert_eq!(store.complete(completed, &answer("done").into(), &keep).await.unwrap(), Settled::Applied);
    let release = store.release(ReleaseBy::Lease(released), ReleaseAs::Retry, &keep).await.unwrap();
    assert_eq!(release, Settled::Applied);
    assert_eq!(store.abandon(abandoned).await.unwrap(), Settled::Applied);
    assert_eq!(store.note(running, &Bytes::from_static(b"one")).await.unwrap(), Settled::Applied);
    assert_eq!(store.renew(&[running], open_for()).await.unwrap(), [Settled::Applied]);
    assert!(store.read(&id(1)).await.unwrap().is_some());
}

// Half-open: one probe, not the herd that was waiting for it.
#[tokio::test(start_paused = true)]
async fn after_two_seconds_one_probe_decides() {
    let (store, faults) = guarded(Guard::new());
    trip(&store, &faults).await;
    tokio::time::advance(Duration::from_millis(1_900)).await;
    assert!(store.begin(&ask(1)).await.is_err());
    assert_eq!(faults.calls(Step::Begin), 10, "too early");
    tokio::time::advance(Duration::from_millis(100)).await;
    // It fails: open for as long again, and not tried thrice.
    assert!(store.begin(&ask(1)).await.is_err());
    assert_eq!(faults.calls(Step::Begin), 11);
    assert!(store.begin(&ask(1)).await.is_err());
    assert_eq!(faults.calls(Step::Begin), 11);

    tokio::time::advance(open_for()).await;
    faults.heal();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    faults.before(Step::Begin, move || {
        let held = Arc::clone(&held);
        async move { drop(held.acquire().await.unwrap()) }
    });
    let probing = store.clone();
    let probe = tokio::spawn(async move { probing.begin(&ask(1)).await });
    while faults.calls(Step::Begin) < 12 {
        tokio::task::yield_now().await;
    }
    for n in 2..20 {
        assert!(store.begin(&ask(n)).await.is_err(), "a second probe");
    }
    assert_eq!(faults.calls(Step::Begin), 12);
    gate.add_permits(100);
    assert!(matches!(probe.await.unwrap().unwrap(), Begun::Acquired(_)));
    for n in 2..20 {
        claim(&store, &ask(n)).await;
    }
}

// Replays from memory go on while the store is away: what the order of these two layers is for.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_below_the_cache_keeps_no_replay_back() {
    let (failing, faults) = Faulty::new(MemoryStore::new());
    let store = Layers::new(failing)
        .tier(Tier::new().max_age(Duration::from_mins(10)))
        .guard(Guard::new())
        .build()
        .unwrap();
    complete(&store, 1, answer("done")).await;
    replay(&store, 1).await;
    faults.always(Step::Begin, Fault::Refused);
    for n in 0..10 {
        assert!(store.begin(&ask(50 + n)).await.is_err());
    }
    replay(&store, 1).await;
}

// The claim was given up here, and arrived there: its caller can still free the key.
#[tokio::test(start_paused = true)]
async fn a_claim_that_failed_here_can_be_released_by_its_number() {
    let (store, faults) = guarded(Guard::new().tries(1));
    faults.next(Step::Begin, Fault::NeverAnswered);
    assert_eq!(store.begin(&ask(1)).await.unwrap_err().kind(), StoreErrorKind::Timeout);
    assert!(matches!(store.begin(&retry(1)).await.unwrap(), Begun::Held { .. }));
    let by = ReleaseBy::Claim(id(1), ask(1).claim);
    assert_eq!(store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap(), Settled::Applied);
    let again = Begin { claim: ClaimId::from_u128(77), ..ask(1) };
    claim(&store, &again).await;
    assert_eq!(store.inspect(&id(1)).await.unwrap().unwrap().state, State::InFlight);
}
