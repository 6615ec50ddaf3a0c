//! When a replay comes from memory, and when it must not.

use std::time::Duration;

use semel_core::record::{ClaimId, Fingerprint, PrincipalTag, Retention, State};
use semel_core::store::{
    AnyStore, Begin, Begun, Delete, Deleted, ReleaseAs, ReleaseBy, Resolution, Settled, Verdict,
};
use semel_store_layers::{Layers, Tier};
use semel_store_memory::{ManualClock, MemoryStore};
use semel_testkit::faulty::{Fault, Faults, Faulty, Step};

use crate::support::{ManualTimer, answer, ask, bytes, claim, complete, id, replay, retry};

struct Rig {
    /// What another process sees.
    remote: AnyStore,
    store: AnyStore,
    faults: Faults,
    clock: ManualClock,
    timer: ManualTimer,
}

impl Rig {
    fn new(settings: Tier) -> Self {
        let clock = ManualClock::new();
        let timer = ManualTimer::default();
        let memory = MemoryStore::builder().clock(clock.clone()).build();
        let remote = AnyStore::new(memory.clone());
        let (failing, faults) = Faulty::new(memory);
        let store = Layers::new(failing).timer(timer.clone()).tier(settings).build().unwrap();
        Self { remote, store, faults, clock, timer }
    }

    /// With record 1 completed and in the cache.
    async fn warm(settings: Tier) -> Self {
        let rig = Self::new(settings);
        complete(&rig.store, 1, answer("done")).await;
        replay(&rig.store, 1).await;
        rig
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.timer.advance(by);
    }

    fn asked(&self) -> usize {
        self.faults.calls(Step::Begin)
    }
}

const SECOND: Duration = Duration::from_secs(1);

// The reason for the layer: the round trips of a burst of retries, counted.
#[tokio::test]
async fn replays_after_the_first_need_no_round_trip() {
    let rig = Rig::warm(Tier::new()).await;
    let asked = rig.asked();
    for _ in 0..100 {
        assert_eq!(bytes(&replay(&rig.store, 1).await.completion), "done");
    }
    assert_eq!(rig.asked(), asked);
}

// "Applied" may mean that an earlier answer is the stored one: the driver sends a lesser one when the first got lost.
#[tokio::test]
async fn a_replay_is_the_stored_answer_not_the_last_one_sent() {
    let rig = Rig::new(Tier::new());
    let lease = claim(&rig.store, &ask(1)).await;
    rig.faults.next(Step::Complete, Fault::AnswerLost);
    let keep = Retention::default();
    assert!(rig.store.complete(lease, &answer("first").into(), &keep).await.is_err());
    assert_eq!(rig.store.complete(lease, &answer("second").into(), &keep).await.unwrap(), Settled::Applied);
    for _ in 0..3 {
        assert_eq!(bytes(&replay(&rig.store, 1).await.completion), "first");
    }
}

// The begin table holds here as at the store: nobody gets anybody else's answer, and no other request this one's.
#[tokio::test]
async fn another_request_or_principal_gets_nothing_from_the_cache() {
    let rig = Rig::warm(Tier::new()).await;
    let others = [
        Begin { fingerprint: Fingerprint::from_bytes([9; 32]), ..retry(1) },
        Begin { principal: Some(PrincipalTag::from_bytes([9; 32])), ..retry(1) },
        Begin { principal: None, ..retry(1) },
    ];
    for other in others {
        let asked = rig.asked();
        let begun = rig.store.begin(&other).await.unwrap();
        assert!(matches!(begun, Begun::Differs(_)), "{begun:?}");
        assert_eq!(rig.asked(), asked + 1, "the store judges a mismatch");
    }
}

// Only what is settled for good is kept: a run that goes on, or may run again, is asked for each time.
#[tokio::test]
async fn every_other_state_goes_to_the_store() {
    let rig = Rig::new(Tier::new());
    let keep = Retention::default();
    let running = claim(&rig.store, &ask(1)).await;
    for (n, state) in [(2, State::Released), (3, State::Unknown)] {
        let lease = claim(&rig.store, &ask(n)).await;
        let settled = match state {
            State::Released => rig.store.release(ReleaseBy::Lease(lease), ReleaseAs::Retry, &keep).await,
            _ => rig.store.abandon(lease).await,
        };
        assert_eq!(settled.unwrap(), Settled::Applied);
    }
    for _ in 0..2 {
        let asked = rig.asked();
        assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Held { .. }));
        assert!(matches!(rig.store.begin(&ask(2)).await.unwrap(), Begun::Stale));
        assert!(matches!(rig.store.begin(&retry(3)).await.unwrap(), Begun::Unknown(_)));
        assert_eq!(rig.asked(), asked + 3);
    }
    assert_eq!(rig.store.complete(running, &answer("done").into(), &keep).await.unwrap(), Settled::Applied);
    replay(&rig.store, 1).await;
}

// What this process did, this process sees.
#[tokio::test]
async fn a_local_deletion_is_seen_at_once() {
    let rig = Rig::warm(Tier::new()).await;
    assert_eq!(rig.store.delete(&id(1), Delete::Settled).await.unwrap(), Deleted::Gone);
    assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Acquired(_)));

    // Also where the answer to it was lost, or nobody waited for it.
    for fault in [Fault::AnswerLost, Fault::NeverAnswered] {
        let rig = Rig::warm(Tier::new()).await;
        rig.faults.next(Step::Other, fault);
        let one = id(1);
        let deletion = rig.store.delete(&one, Delete::Settled);
        tokio::select! {
            biased;
            answer = deletion => assert!(answer.is_err()),
            () = tokio::task::yield_now() => {}
        }
        assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Acquired(_)), "{fault:?}");
    }
}

// The bound that the docs state, from both sides, by a clock that is moved.
#[tokio::test]
async fn a_remote_deletion_is_seen_within_max_age() {
    let rig = Rig::warm(Tier::new().max_age(3 * SECOND)).await;
    assert_eq!(rig.remote.delete(&id(1), Delete::Settled).await.unwrap(), Deleted::Gone);
    rig.advance(Duration::from_millis(2999));
    replay(&rig.store, 1).await;
    rig.advance(Duration::from_millis(1));
    assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Acquired(_)));
}

// A replay from memory must not keep itself young: the bound counts from the store's answer.
#[tokio::test]
async fn a_replay_does_not_prolong_its_stay() {
    let rig = Rig::warm(Tier::new()).await;
    let asked = rig.asked();
    for _ in 0..4 {
        rig.advance(SECOND);
        replay(&rig.store, 1).await;
    }
    assert_eq!(rig.asked(), asked);
    rig.advance(SECOND);
    replay(&rig.store, 1).await;
    assert_eq!(rig.asked(), asked + 1);
}

// After its life the key is free at the store, and an answer from memory would be the last life's.
#[tokio::test]
async fn a_record_is_forgotten_before_the_store_forgets_it() {
    let rig = Rig::new(Tier::new().max_age(Duration::from_hours(1)));
    let lease = claim(&rig.store, &ask(1)).await;
    let keep = Retention { record: 10 * SECOND, body: 10 * SECOND, ..Retention::default() };
    assert_eq!(rig.store.complete(lease, &answer("done").into(), &keep).await.unwrap(), Settled::Applied);
    rig.advance(4 * SECOND);
    replay(&rig.store, 1).await;
    let asked = rig.asked();
    rig.advance(Duration::from_millis(5749));
    replay(&rig.store, 1).await;
    assert_eq!(rig.asked(), asked);
    rig.advance(Duration::from_millis(1));
    replay(&rig.store, 1).await;
    assert_eq!(rig.asked(), asked + 1, "within the margin the store is asked");
    rig.advance(Duration::from_millis(250));
    assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Acquired(_)));
}

// A resolution's answer is what clients get next; a cached one from before would contradict it.
#[tokio::test]
async fn a_local_resolution_is_seen_at_once() {
    let rig = Rig::new(Tier::new());
    let lease = claim(&rig.store, &ask(1)).await;
    assert_eq!(rig.store.abandon(lease).await.unwrap(), Settled::Applied);
    assert!(matches!(rig.store.begin(&retry(1)).await.unwrap(), Begun::Unknown(_)));
    let verdict = Verdict::Applied(answer("resolved").into());
    let op = ClaimId::from_u128(1);
    let resolution = Resolution { op, expect: None, verdict, retention: Retention::default() };
    let _resolved = rig.store.resolve(&id(1), &resolution).await.unwrap();
    assert_eq!(bytes(&replay(&rig.store, 1).await.completion), "resolved");
    assert_eq!(bytes(&replay(&rig.store, 1).await.completion), "resolved");
}

// Views are what operators decide by: always the store's word.
#[tokio::test]
async fn views_are_never_cached() {
    let rig = Rig::warm(Tier::new()).await;
    assert_eq!(rig.remote.delete(&id(1), Delete::Settled).await.unwrap(), Deleted::Gone);
    assert_eq!(rig.store.inspect(&id(1)).await.unwrap(), None);
    assert_eq!(rig.store.read(&id(1)).await.unwrap(), None);
}
