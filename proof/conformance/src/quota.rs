//! Quotas: one principal cannot fill the store for all others, and is never kept from its own records.

use semel_core::store::{Begin, Begun, Delete, Deleted, Quota, StoreErrorKind};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, id, ok, principal, retry, together};

fn limited(n: u64, records: Option<u64>, bytes: Option<u64>) -> Begin {
    Begin { quota: Some(Quota { records, bytes }), ..ask(n) }
}

/// Without a quota where one was asked for, one client fills the store: who cannot keep it has to say so.
async fn refused<F: Fixture>(lab: &Lab<F>) {
    let ask = limited(1, Some(1000), None);
    let answer = lab.store.begin(&ask).await.map_err(|error| error.kind());
    assert_eq!(answer, Err(StoreErrorKind::Config));
    assert_eq!(lab.inspect(1).await, None);
}

/// A client that invents a key a request fills the store.
pub async fn a_quota_limits_records<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.fixture.quotas() {
        return refused(&lab).await;
    }
    for n in 0..3 {
        lab.claim(&limited(n, Some(3), None)).await;
    }
    assert_eq!(lab.begin(&limited(3, Some(3), None)).await, Begun::OverQuota);
    assert_eq!(lab.inspect(3).await, None);
    // Somebody else is not affected, nor is a claim without a quota.
    lab.claim(&Begin { principal: Some(principal(9)), ..limited(4, Some(3), None) }).await;
    lab.claim(&ask(5)).await;
}

/// Few records with large answers do, too.
pub async fn a_quota_limits_bytes<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.fixture.quotas() {
        return refused(&lab).await;
    }
    for n in 0..2 {
        let lease = lab.claim(&limited(n, None, Some(6))).await;
        applied(&lab.complete(lease, "1234").await);
    }
    assert_eq!(lab.begin(&limited(2, None, Some(6))).await, Begun::OverQuota);
    assert_eq!(lab.inspect(2).await, None);
    lab.claim(&limited(2, None, Some(9))).await;
}

/// A quota that counted retries would keep a client from the answer to what it has done.
pub async fn a_quota_counts_new_records_only<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.fixture.quotas() {
        return refused(&lab).await;
    }
    let done = lab.claim(&ask(1)).await;
    applied(&lab.complete(done, "done").await);
    let freed = lab.claim(&ask(2)).await;
    applied(&lab.release(freed).await);
    let begun = lab.begin(&retry(&limited(1, Some(0), Some(0)), 1)).await;
    assert!(matches!(begun, Begun::Settled(_)), "{begun:?}");
    lab.claim(&retry(&limited(2, Some(0), Some(0)), 1)).await;
    let begun = lab.begin(&retry(&limited(2, Some(0), Some(0)), 2)).await;
    assert!(matches!(begun, Begun::Held { .. }), "{begun:?}");
}

/// What is gone counts no longer.
pub async fn a_removed_record_frees_its_quota<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.fixture.quotas() {
        return refused(&lab).await;
    }
    let lease = lab.claim(&limited(1, Some(1), Some(3))).await;
    applied(&lab.complete(lease, "1234").await);
    assert_eq!(lab.begin(&limited(2, Some(1), None)).await, Begun::OverQuota);
    assert_eq!(lab.begin(&limited(2, None, Some(3))).await, Begun::OverQuota);
    assert_eq!(ok(lab.store.delete(&id(1), Delete::Settled).await), Deleted::Gone);
    lab.claim(&limited(2, Some(1), Some(3))).await;
}

/// Counting first and inserting later lets a burst through.
pub async fn a_burst_stays_within_its_quota<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    if !lab.fixture.quotas() {
        return refused(&lab).await;
    }
    let claims = (0..32).map(|n| {
        let store = lab.store.clone();
        async move { matches!(ok(store.begin(&limited(n, Some(5), None)).await), Begun::Acquired(_)) }
    });
    let granted = together(claims).await.into_iter().filter(|granted| *granted).count();
    assert_eq!(granted, 5);
}
