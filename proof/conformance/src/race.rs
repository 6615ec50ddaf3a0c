//! Many at once, in tasks that run in parallel: at most one of them runs.

use std::collections::HashSet;

use semel_core::record::{RecordId, Recovery, Retention, State, StoredBody};
use semel_core::store::{Begin, Begun, Settled};

use crate::Fixture;
use crate::kit::{Lab, answer, applied, ask, id, ok, retry, together};

const CLAIMANTS: u128 = 64;

async fn one_of_many<F: Fixture>(lab: &Lab<F>, ask: &Begin) {
    let claims = (1..=CLAIMANTS).map(|n| {
        let (store, ask) = (lab.store.clone(), retry(ask, n));
        async move { ok(store.begin(&ask).await) }
    });
    let mut granted = 0;
    for begun in together(claims).await {
        match begun {
            Begun::Acquired(_) => granted += 1,
            Begun::Held { .. } => {}
            other => panic!("neither granted nor held: {other:?}"),
        }
    }
    assert_eq!(granted, 1, "so many run at once");
}

/// Look, then insert: two requests a millisecond apart both see nothing and both pay.
pub async fn one_of_64_claims_is_granted<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..4 {
        one_of_many(&lab, &ask(n)).await;
    }
}

/// The same where they take a lease that is over.
pub async fn one_of_64_takeovers_is_granted<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.brief(1, Recovery::Takeover);
    lab.claim(&first).await;
    lab.lease_ends().await;
    one_of_many(&lab, &Begin { recovery: Recovery::Takeover, ..ask(1) }).await;
    assert_eq!(lab.view(1).await.attempt, 2);
}

/// All who wait for a running request learn of its release at once, and one of them runs.
pub async fn one_of_64_waiters_runs_a_released_record<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Released).await;
    one_of_many(&lab, &ask(1)).await;
    assert_eq!(lab.view(1).await.attempt, 2);
}

/// Ids that differ in one bit are different records: a lock or an index over a part of the id mixes them up.
pub async fn neighbours_do_not_exclude_each_other<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let near = |byte: usize, bit: u8| {
        let mut bytes = *id(7).as_bytes();
        bytes[byte] ^= 1 << bit;
        RecordId::from_bytes(bytes)
    };
    let ids = (0..8).flat_map(|bit| [0, 1, 7, 8, 15, 16, 24, 31].map(|byte| near(byte, bit)));
    let claims = ids.map(|id| {
        let (store, ask) = (lab.store.clone(), Begin { id, ..ask(7) });
        async move { ok(store.begin(&ask).await) }
    });
    let mut fences = HashSet::new();
    for begun in together(claims).await {
        match begun {
            Begun::Acquired(acquired) => {
                assert!(fences.insert(acquired.lease.fence()), "one fence for two claims");
                assert_eq!(acquired.attempt, 1);
            }
            other => panic!("a neighbour was in the way: {other:?}"),
        }
    }
    assert_eq!(fences.len(), 64);
}

/// A completion sent twice, with different answers, at the same time: whichever wins, everybody gets its bytes.
pub async fn a_record_is_completed_once<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..4 {
        let lease = lab.claim(&ask(n)).await;
        let completions = (0..16_u8).map(|worker| {
            let store = lab.store.clone();
            async move {
                let settled =
                    ok(store.complete(lease, &answer(vec![worker; 9]), &Retention::default()).await);
                applied(&settled);
                ok(store.read(&lease.id).await).and_then(|record| {
                    let response = record.completion.response.as_ref()?;
                    Some(response.body.clone())
                })
            }
        });
        let seen = together(completions).await;
        assert!(seen.iter().all(|body| *body == seen[0]), "two answers to one request: {seen:?}");
        assert!(matches!(seen[0], Some(StoredBody::Kept(_))));
    }
}

/// A heartbeat that is late meets the successor's claim: whoever comes second has lost, and never both win.
pub async fn renewal_and_takeover_exclude_each_other<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let mut leases = Vec::new();
    for n in 0..16 {
        leases.push(lab.claim(&lab.brief(n, Recovery::Takeover)).await);
    }
    lab.lease_ends().await;
    for (n, lease) in (0..).zip(leases) {
        let (one, other) = (lab.store.clone(), lab.store.clone());
        let long = ask(0).lease_for;
        let again = Begin { recovery: Recovery::Takeover, ..retry(&ask(n), 1) };
        let renewal = tokio::spawn(async move { ok(one.renew(&[lease], long).await) });
        let takeover = tokio::spawn(async move { ok(other.begin(&again).await) });
        let renewed = renewal.await.is_ok_and(|settled| settled == [Settled::Applied]);
        let taken = takeover.await.is_ok_and(|begun| matches!(begun, Begun::Acquired(_)));
        assert!(renewed != taken, "renewed: {renewed}, taken over: {taken}");
    }
}
