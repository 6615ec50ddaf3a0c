//! Another request or another principal under the same key: told so, and nothing is changed.

use semel_core::record::{PrincipalTag, Recovery, State};
use semel_core::store::{Begin, Begun};

use crate::Fixture;
use crate::kit::{Lab, ask, principal, print, retry, unchanged};

async fn differs<F: Fixture>(lab: &Lab<F>, n: u64, ask: &Begin, same_principal: bool) {
    let before = lab.view(n).await;
    match lab.begin(ask).await {
        Begun::Differs(differs) => {
            assert_eq!(differs.fingerprint, before.fingerprint);
            assert_eq!(differs.settings, before.settings);
            assert_eq!(differs.same_principal, same_principal);
        }
        other => panic!("another request was taken for the same: {other:?}"),
    }
    unchanged(&before, &lab.view(n).await);
}

async fn another_request<F: Fixture>(lab: &Lab<F>) {
    let other = Begin { fingerprint: print(9), settings: "laws/2".into(), ..retry(&ask(1), 1) };
    differs(lab, 1, &other, true).await;
}

async fn another_principal<F: Fixture>(lab: &Lab<F>, n: u64) {
    let nobody: Option<PrincipalTag> = None;
    for principal in [Some(principal(9)), nobody] {
        differs(lab, n, &Begin { principal, ..retry(&ask(n), 1) }, false).await;
    }
}

/// A mismatch that takes the running record over ends a run whose answer is then lost.
pub async fn a_mismatch_changes_nothing_in_flight<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::InFlight).await;
    another_request(&lab).await;
}

/// The lease is checked first, the print later: then whoever comes after the lease gets the record, whatever it
/// asks for.
pub async fn a_mismatch_changes_nothing_when_the_lease_is_over<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.claim(&lab.brief(1, Recovery::Takeover)).await;
    lab.lease_ends().await;
    another_request(&lab).await;
    another_principal(&lab, 1).await;
}

/// Under hold, too: 422 before 409, since waiting never mends a mismatch.
pub async fn a_mismatch_comes_before_a_lapse<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.claim(&lab.brief(1, Recovery::Hold)).await;
    lab.lease_ends().await;
    another_request(&lab).await;
    another_principal(&lab, 1).await;
}

/// A replay to another request tells its client that something was done which was not.
pub async fn a_mismatch_changes_nothing_completed<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Completed).await;
    another_request(&lab).await;
}

/// A mismatch must not make an unknown record anything else.
pub async fn a_mismatch_changes_nothing_unknown<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    another_request(&lab).await;
}

/// A released record still waits for its own request.
pub async fn a_mismatch_changes_nothing_released<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Released).await;
    another_request(&lab).await;
}

/// Two tenants with the key `order-1` once got each other's answers.
pub async fn another_principal_differs<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (1..).zip([State::InFlight, State::Completed, State::Unknown]) {
        lab.put(n, state).await;
        another_principal(&lab, n).await;
    }
}

/// "No principal" equals only "no principal": in SQL, `NULL = NULL` is not true.
pub async fn no_principal_equals_only_none<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let public = Begin { principal: None, ..ask(1) };
    lab.claim(&public).await;
    let begun = lab.begin(&retry(&public, 1)).await;
    assert!(matches!(begun, Begun::Held { .. }), "nobody is not nobody: {begun:?}");
    differs(&lab, 1, &retry(&ask(1), 2), false).await;
    assert_eq!(lab.view(1).await.principal, None);
}
