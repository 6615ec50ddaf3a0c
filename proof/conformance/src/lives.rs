//! Lives: what ends by time, what never does, and what a sweep does about it.

use std::collections::HashSet;

use semel_core::record::{NotKept, Recovery, State, StoredBody};
use semel_core::store::{Begin, Begun, Query, ReleaseAs, ReleaseBy, Settled};

use crate::Fixture;
use crate::kit::{Lab, answer, applied, ask, id, ok, print, retry, superseded};

async fn complete_for_a_while<F: Fixture>(lab: &Lab<F>, n: u64) -> semel_core::store::LeaseRef {
    let lease = lab.claim(&ask(n)).await;
    applied(&ok(lab.store.complete(lease, &answer("done"), &lab.lives()).await));
    lease
}

async fn release_for_a_while<F: Fixture>(lab: &Lab<F>, n: u64) {
    let lease = lab.claim(&ask(n)).await;
    applied(&ok(lab.store.release(ReleaseBy::Lease(lease), ReleaseAs::Retry, &lab.lives()).await));
}

/// A time-to-live on the record deletes an unknown one, and its retry then runs a second time.
pub async fn an_unknown_record_never_ends<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let retention = lab.lives();
    let abandoned = lab.claim(&Begin { retention, ..ask(1) }).await;
    applied(&lab.abandon(abandoned).await);
    lab.claim(&Begin { retention, ..lab.brief(2, Recovery::Hold) }).await;
    lab.advance(lab.times.ages).await;
    assert_eq!(lab.sweep_all().await.removed, 0);
    for n in [1, 2] {
        assert_eq!(lab.state(n).await, Some(State::Unknown));
        let begun = lab.begin(&retry(&ask(n), 1)).await;
        assert!(matches!(begun, Begun::Unknown(_)), "{begun:?}");
    }
}

/// A run that is renewed for longer than any life is still running.
pub async fn a_running_record_never_ends<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, recovery) in [(1, Recovery::Hold), (2, Recovery::Takeover)] {
        let lease_for = 2 * lab.times.ages;
        lab.claim(&Begin { lease_for, recovery, retention: lab.lives(), ..ask(n) }).await;
    }
    lab.advance(lab.times.ages).await;
    assert_eq!(lab.sweep_all().await, semel_core::store::Swept::default());
    for n in [1, 2] {
        assert_eq!(lab.state(n).await, Some(State::InFlight));
    }
}

/// A body's life is shorter than its record's: after it a retry is told so, and still does not run.
pub async fn a_body_ends_before_its_record<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    complete_for_a_while(&lab, 1).await;
    assert_eq!(lab.view(1).await.body_bytes, 4);
    lab.advance(lab.times.body).await;
    // Before anything else has looked at it.
    let listed = lab.list(None, None, 10).await.records;
    assert_eq!(lab.body(1).await, Some(StoredBody::NotKept(NotKept::Expired)));
    for view in [lab.view(1).await].iter().chain(&listed) {
        assert_eq!((view.state, view.body_bytes), (State::Completed, 0));
    }
    match lab.begin(&retry(&ask(1), 1)).await {
        Begun::Settled(record) => {
            let response = record.completion.response.clone().unwrap_or_else(|| panic!("the answer is gone"));
            assert_eq!(response.body, StoredBody::NotKept(NotKept::Expired));
            assert_eq!(response.status.as_u16(), 201);
            assert!(response.headers.contains_key("location"), "a retry is told where to look");
        }
        other => panic!("a completed request ran again: {other:?}"),
    }
}

/// After its life a record is gone for everybody, whether or not a sweep has come by.
pub async fn a_completed_record_ends<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = complete_for_a_while(&lab, 1).await;
    complete_for_a_while(&lab, 2).await;
    lab.advance(lab.times.record).await;
    assert_eq!(lab.inspect(1).await, None);
    assert_eq!(lab.body(1).await, None);
    assert_eq!(lab.list(None, None, 10).await.records, []);
    assert_eq!(lab.complete(lease, "late").await, Settled::Absent);
    let again = Begin { fingerprint: print(9), ..retry(&ask(2), 1) };
    let acquired = lab.acquire(&again).await;
    assert_eq!(acquired.attempt, 1);
    assert!(acquired.lease.fence() > lease.fence, "the fence began anew");
}

/// A released key is bound to its request for minutes, not for days.
pub async fn a_released_record_ends<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    release_for_a_while(&lab, 1).await;
    lab.advance(lab.times.released).await;
    assert_eq!(lab.inspect(1).await, None);
    let acquired = lab.acquire(&Begin { fingerprint: print(9), ..retry(&ask(1), 1) }).await;
    assert_eq!(acquired.attempt, 1);
}

/// Records that nobody claims again would stay for ever; but only after a record's life, and from then on the
/// late worker has lost.
pub async fn an_unclaimed_takeover_is_released_after_a_records_life<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let retention = lab.lives();
    let lease = lab.claim(&Begin { retention, ..lab.brief(1, Recovery::Takeover) }).await;
    lab.lease_ends().await;
    assert_eq!(lab.sweep_all().await.released, 0, "long before its time");
    assert_eq!(lab.state(1).await, Some(State::InFlight));
    lab.advance(lab.times.record).await;
    assert_eq!(lab.sweep_all().await.released, 1);
    assert_eq!(lab.state(1).await, Some(State::Released));
    assert_eq!(superseded(lab.complete(lease, "late").await).state, State::Released);
}

/// One statement that removes a million rows stops every claim meanwhile.
pub async fn a_sweep_works_in_batches<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..5 {
        complete_for_a_while(&lab, n).await;
    }
    lab.advance(lab.times.record).await;
    let mut removed = 0;
    for round in 0.. {
        assert!(round < 10, "it says that there is more, without end");
        let swept = ok(lab.store.sweep(2).await);
        assert!(swept.removed <= 2, "more than the limit: {swept:?}");
        removed += swept.removed;
        assert!(swept.more || removed == 5, "it stopped at {removed} of 5");
        if !swept.more {
            break;
        }
    }
    assert_eq!(removed, 5);
}

/// What a sweep says is what an operator's metrics say.
pub async fn a_sweep_counts_what_it_did<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..3 {
        complete_for_a_while(&lab, n).await;
    }
    lab.claim(&lab.brief(10, Recovery::Hold)).await;
    lab.claim(&lab.brief(11, Recovery::Hold)).await;
    lab.advance(lab.times.body).await;
    let swept = lab.sweep_all().await;
    assert_eq!((swept.bodies, swept.unknown), (3, 2));
    assert_eq!((swept.removed, swept.released), (0, 0));
    lab.advance(lab.times.record).await;
    let swept = lab.sweep_all().await;
    assert_eq!((swept.removed, swept.bodies, swept.unknown), (3, 0, 0));
}

/// A sweep with a wrong comparison removes what is alive; its keys run again.
pub async fn a_sweep_leaves_the_living_alone<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (0..).zip(State::ALL) {
        lab.put(n, state).await;
    }
    lab.claim(&lab.brief(9, Recovery::Takeover)).await;
    lab.lease_ends().await;
    let query = Query { state: None, after: None, limit: 10 };
    let before = ok(lab.store.list(&query).await).records;
    assert_eq!(before.len(), 5);
    assert_eq!(lab.sweep_all().await, semel_core::store::Swept::default());
    let after = ok(lab.store.list(&query).await).records;
    for (before, after) in before.iter().zip(&after) {
        crate::kit::unchanged(before, after);
    }
    assert_eq!(after.len(), 5);
}

/// A key that says it was minted before anything the store remembers may have run long ago: refused, not run.
pub async fn an_old_key_is_expired<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(9, State::InFlight).await;
    let now = lab.view(9).await.now;
    let week = ask(1).retention.record;
    let minted = |ago: std::time::Duration| {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Some(semel_core::record::Timestamp::from_millis(now.as_millis() - ago))
    };
    let old = Begin { minted: minted(week + std::time::Duration::from_mins(1)), ..ask(1) };
    assert_eq!(lab.begin(&old).await, Begun::Expired);
    assert_eq!(lab.inspect(1).await, None);
    lab.claim(&Begin { minted: minted(week / 2), ..ask(2) }).await;
    // What the store still knows is judged by its record.
    lab.put(3, State::Completed).await;
    let begun = lab.begin(&Begin { minted: old.minted, ..retry(&ask(3), 1) }).await;
    assert!(matches!(begun, Begun::Settled(_)), "{begun:?}");
}

/// Time goes forward in every record.
pub async fn timestamps_are_in_order<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    lab.claim(&ask).await;
    let first = lab.view(1).await;
    assert!(first.created <= first.changed && first.changed <= first.now);
    assert!(first.lease_until.is_some_and(|end| end > first.now));
    lab.lease_ends().await;
    let again = lab.claim(&retry(&ask, 1)).await;
    let second = lab.view(1).await;
    assert_eq!(second.created, first.created, "a takeover is not a new record");
    assert!(second.changed > first.changed && second.changed <= second.now && second.now > first.now);
    applied(&lab.complete(again, "done").await);
    let third = lab.view(1).await;
    assert_eq!(third.created, first.created);
    assert!(third.changed >= second.changed && third.changed <= third.now);
    assert!(third.expires.is_some_and(|end| end > third.now));
    let views: HashSet<_> = lab.list(None, None, 10).await.records.iter().map(|view| view.id).collect();
    assert_eq!(views, HashSet::from([id(1)]));
}
