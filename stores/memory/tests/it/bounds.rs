use std::time::Duration;

use semel_core::record::{NotKept, PrincipalTag, Retention, State};
use semel_core::store::{
    Begun, Delete, Deleted, Quota, ReleaseAs, ReleaseBy, Settled, Store as _, StoreErrorKind,
};
use semel_store_memory::{ManualClock, MemoryStore};

use crate::common::{answer, ask, body, claim, id, run};

const KIB: usize = 1024;

// A cache that evicts the least recently used record lets a retry of it run twice.
#[tokio::test]
async fn a_full_store_refuses_new_claims_and_forgets_nothing() {
    let store = MemoryStore::builder().max_entries(3).build();
    for n in 0..3 {
        run(&store, n, 10).await;
    }
    let refused = store.begin(&ask(3)).await.expect_err("there is no room");
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    for n in 0..3 {
        assert_eq!(body(&store, n).await, Ok(10), "record {n} is whole: its body would not have made room");
    }
    assert_eq!(store.len(), 3, "a refused claim takes no room");
}

#[tokio::test]
async fn records_whose_life_is_over_make_room_first() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().max_entries(2).clock(clock.clone()).build();
    let lease = claim(&store, 0).await;
    let keep = Retention::default();
    let released = store.release(ReleaseBy::Lease(lease), ReleaseAs::Retry, &keep).await.unwrap();
    assert_eq!(released, Settled::Applied);
    run(&store, 1, 10).await;
    clock.advance(Duration::from_mins(11));
    run(&store, 2, 10).await;
    assert_eq!(body(&store, 1).await, Ok(10));
    assert!(store.inspect(&id(0)).await.unwrap().is_none());
}

#[tokio::test]
async fn bodies_go_oldest_completion_first_and_their_records_stay() {
    let store = MemoryStore::builder().max_bytes(64 << 10).build();
    // Claimed in another order than completed.
    let late = claim(&store, 100).await;
    for n in 0..4 {
        run(&store, n, 10 * KIB).await;
    }
    let settled = store.complete(late, &answer(10 * KIB), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    run(&store, 4, 16 * KIB).await;
    assert_eq!(body(&store, 0).await, Err(NotKept::NoRoom));
    for n in [1, 2, 3, 100] {
        assert_eq!(body(&store, n).await, Ok(10 * KIB), "record {n}");
    }
    assert_eq!(body(&store, 4).await, Ok(16 * KIB));
    assert!(matches!(store.begin(&ask(0)).await.unwrap(), Begun::Settled(_)), "it does not run again");
    assert!(store.bytes() <= 64 << 10);
}

// Failing the completion would leave an effect without a record.
#[tokio::test]
async fn a_completion_without_room_is_kept_without_its_body_and_drops_no_other() {
    let store = MemoryStore::builder().max_bytes(32 << 10).build();
    run(&store, 0, 10 * KIB).await;
    run(&store, 1, 40 * KIB).await;
    assert_eq!(body(&store, 1).await, Err(NotKept::NoRoom));
    assert_eq!(body(&store, 0).await, Ok(10 * KIB), "dropping it would not have made room enough");
}

#[tokio::test]
async fn new_claims_take_the_room_of_old_bodies_until_there_are_none() {
    let store = MemoryStore::builder().max_bytes(32 << 10).build();
    run(&store, 0, 10 * KIB).await;
    let mut n = 1;
    let refused = loop {
        match store.begin(&ask(n)).await {
            Ok(_) => n += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    assert_eq!(body(&store, 0).await, Err(NotKept::NoRoom));
    assert!(n > 40 && store.bytes() <= 32 << 10, "{n} records in {} bytes", store.bytes());
}

// Counters that drift end as a store that is full of nothing.
#[tokio::test]
async fn whatever_goes_gives_its_room_back() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let keep = Retention::default();
    for n in 0..10 {
        run(&store, n, 1000).await;
    }
    for n in 10..20 {
        let lease = claim(&store, n).await;
        let noted = store.note(lease, &vec![1; 500].into()).await.unwrap();
        assert_eq!(noted, Settled::Applied);
        let noted = store.note(lease, &vec![1; 100].into()).await.unwrap();
        assert_eq!(noted, Settled::Applied);
    }
    for n in 10..15 {
        let lease = claim(&store, n).await;
        let how = if n % 2 == 0 { ReleaseAs::Retry } else { ReleaseAs::Forgotten };
        assert_eq!(store.release(ReleaseBy::Lease(lease), how, &keep).await.unwrap(), Settled::Applied);
    }
    for n in 15..20 {
        let lease = claim(&store, n).await;
        assert_eq!(store.complete(lease, &answer(300), &keep).await.unwrap(), Settled::Applied);
    }
    assert_eq!(store.delete(&id(0), Delete::Settled).await.unwrap(), Deleted::Gone);
    clock.advance(Duration::from_hours(25));
    assert!(store.sweep(3).await.unwrap().more);
    let _ = store.inspect(&id(16)).await.unwrap();
    clock.advance(Duration::from_hours(24 * 8));
    while store.sweep(4).await.unwrap().more {}
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[tokio::test]
async fn a_quota_counts_what_was_there_before_the_first_quota() {
    let store = MemoryStore::new();
    for n in 0..3 {
        run(&store, n, 100).await;
    }
    let mut limited = ask(3);
    limited.quota = Some(Quota { records: Some(3), bytes: None });
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::OverQuota));
    limited.quota = Some(Quota { records: None, bytes: Some(300) });
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::OverQuota));
    limited.quota = Some(Quota { records: Some(4), bytes: Some(301) });
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::Acquired(_)));
    let mut another = ask(4);
    another.principal = Some(PrincipalTag::from_bytes([9; 32]));
    another.quota = Some(Quota { records: Some(1), bytes: Some(1) });
    assert!(matches!(store.begin(&another).await.unwrap(), Begun::Acquired(_)));
}

// An unswept record once kept its principal out until the sweeper came by.
#[tokio::test]
async fn a_quota_does_not_count_what_is_over() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let mut limited = ask(0);
    limited.quota = Some(Quota { records: Some(1), bytes: None });
    let Begun::Acquired(acquired) = store.begin(&limited).await.unwrap() else { panic!() };
    let settled = store.complete(acquired.lease.as_ref(), &answer(9), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    limited.id = id(1);
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::OverQuota));
    clock.advance(Duration::from_hours(24 * 7 + 1));
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::Acquired(_)));
}

#[tokio::test]
async fn a_body_whose_life_is_over_counts_no_longer() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(clock.clone()).max_bytes(32 << 10).build();
    run(&store, 0, 20 * KIB).await;
    clock.advance(Duration::from_hours(25));
    run(&store, 1, 20 * KIB).await;
    assert_eq!(body(&store, 0).await, Err(NotKept::Expired), "its own life ended, nobody pushed it out");
    assert_eq!(body(&store, 1).await, Ok(20 * KIB));
    assert_eq!(store.inspect(&id(0)).await.unwrap().map(|view| view.state), Some(State::Completed));
}

// Locks taken in two orders stop a full store for good, and only under load.
#[test]
fn a_full_store_under_load_neither_stops_nor_loses_count() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().max_bytes(48 << 10).max_entries(60).clock(clock.clone()).build();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, clock) = (&store, &clock);
            scope.spawn(move || churn(store, clock, thread));
        }
    });
    let rest = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rest.block_on(async {
        assert!(store.len() <= 60);
        for n in 0..100 {
            let _ = store.delete(&id(n), Delete::Any).await.unwrap();
        }
        assert_eq!((store.len(), store.bytes()), (0, 0));
        let mut alone = ask(1);
        alone.quota = Some(Quota { records: Some(1), bytes: Some(1) });
        assert!(matches!(store.begin(&alone).await.unwrap(), Begun::Acquired(_)), "its quota is free again");
    });
}

fn churn(store: &MemoryStore, clock: &ManualClock, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = seed;
    runtime.block_on(async {
        for step in 0..3_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = (random >> 40) % 100;
            let mut ask = ask(n);
            ask.quota = Some(Quota { records: Some(50), bytes: Some(40 << 10) });
            let keep =
                Retention { body: Duration::from_secs(2), record: Duration::from_secs(4), ..ask.retention };
            if let Ok(Begun::Acquired(acquired)) = store.begin(&ask).await {
                let lease = acquired.lease.as_ref();
                let size = usize::try_from((random >> 20) % 4096).unwrap();
                let _ = store.note(lease, &vec![1; size / 8].into()).await;
                let _ = store.complete(lease, &answer(size), &keep).await.unwrap();
            }
            match step % 50 {
                0 => clock.advance(Duration::from_millis(300)),
                1 => drop(store.sweep(3).await.unwrap()),
                2 => drop(store.delete(&id(n), Delete::Any).await.unwrap()),
                _ => {}
            }
        }
    });
}
