//! Fences: they only grow, whatever happens to the records.

use semel_core::record::State;
use semel_core::store::{Delete, Deleted};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, id, ok, retry, unchanged};

/// A downstream system that remembers the highest fence it saw must never be shown a lower one by a newer run.
pub async fn fences_grow_from_claim_to_claim<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let mut last = 0;
    for n in 0..5 {
        for attempt in 0..3 {
            let lease = lab.claim(&retry(&ask(n), attempt)).await;
            assert!(lease.fence.get() > last, "{} after {last}", lease.fence);
            last = lease.fence.get();
            applied(&lab.release(lease).await);
        }
    }
}

/// A counter kept in the record begins anew when the record is removed, and an old worker passes for a new one.
pub async fn fences_grow_across_deletion<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.put(1, State::Completed).await;
    assert_eq!(ok(lab.store.delete(&id(1), Delete::Settled).await), Deleted::Gone);
    let second = lab.claim(&ask(1)).await;
    assert!(second.fence > first.fence, "{} after {}", second.fence, first.fence);
    // The first run's late word is not about the second run.
    let before = lab.view(1).await;
    assert!(!matches!(lab.complete(first, "late").await, semel_core::store::Settled::Applied));
    unchanged(&before, &lab.view(1).await);
}

/// The same when the store is closed and opened between the two, with no record left to remember the highest.
pub async fn fences_grow_across_reopening<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.put(1, State::Completed).await;
    assert_eq!(ok(lab.store.delete(&id(1), Delete::Settled).await), Deleted::Gone);
    let lab = lab.reopen().await;
    let second = lab.claim(&ask(1)).await;
    assert!(second.fence > first.fence, "{} after {}", second.fence, first.fence);
}

/// What was acknowledged is there after a restart, where the store says that it is durable; and its secret, or no
/// key would find its record again.
pub async fn a_durable_store_remembers<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.store.capabilities().durable {
        return;
    }
    for (n, state) in (0..).zip(State::ALL) {
        lab.put(n, state).await;
    }
    let before = lab.list(None, None, 10).await.records;
    let secret = lab.store.secret().clone();
    let completion = ok(lab.store.read(&id(1)).await).map(|record| record.completion);
    let lab = lab.reopen().await;
    assert!(*lab.store.secret() == secret, "another secret");
    let after = lab.list(None, None, 10).await.records;
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        unchanged(before, after);
    }
    assert_eq!(ok(lab.store.read(&id(1)).await).map(|record| record.completion), completion);
}
