//! Claims: each row of the table of [`Store::begin`](semel_core::store::Store::begin).

use semel_core::record::{Recovery, State};
use semel_core::store::{Begin, Begun, ReleaseAs};

use crate::Fixture;
use crate::kit::{Lab, answer, applied, ask, ok, principal, print, retry, unchanged};

/// A store that answers the first claim with anything but a lease runs nothing at all; the record has to carry
/// what was asked, since later claims are judged by it.
pub async fn an_unused_key_is_granted<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = ask(1);
    let acquired = lab.acquire(&ask).await;
    assert_eq!(acquired.attempt, 1);
    assert_eq!(acquired.progress, None);
    assert_eq!((*acquired.lease.id(), acquired.lease.claim()), (ask.id, ask.claim));
    let view = lab.view(1).await;
    assert_eq!(view.state, State::InFlight);
    assert_eq!(view.fingerprint, Some(ask.fingerprint));
    assert_eq!(view.settings, ask.settings);
    assert_eq!((view.principal, view.recovery, view.claim), (ask.principal, ask.recovery, ask.claim));
    assert_eq!((view.attempt, view.fence), (1, acquired.lease.fence()));
    assert_eq!((view.expires, view.status, view.body_bytes), (None, None, 0));
    let left = view.lease_remaining();
    assert!(left <= ask.lease_for && left > ask.lease_for / 2, "the lease runs for what was asked: {left:?}");
}

/// The answer to a claim is lost and the driver sends it again: a plain insert-if-absent then conflicts with
/// itself, and the request is refused until its own lease is over.
pub async fn a_repeated_claim_finds_itself<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.acquire(&ask(1)).await;
    let again = lab.acquire(&ask(1)).await;
    assert_eq!(again, first);
}

/// The duplicate of a running request waits or is told 409; it needs to know for how long.
pub async fn a_running_record_is_held<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = ask(1);
    lab.claim(&ask).await;
    let before = lab.view(1).await;
    match lab.begin(&retry(&ask, 1)).await {
        Begun::Held { remaining } => {
            assert!(
                remaining <= ask.lease_for && remaining > ask.lease_for / 2,
                "what is left: {remaining:?}"
            );
        }
        other => panic!("a second run beside the first: {other:?}"),
    }
    unchanged(&before, &lab.view(1).await);
}

/// The duplicate of a completed request gets the answer that was kept, whole.
pub async fn a_completed_record_is_answered<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.complete(lease, "done").await);
    let before = lab.view(1).await;
    match lab.begin(&retry(&ask(1), 1)).await {
        Begun::Settled(record) => {
            assert_eq!(record.completion, answer("done"));
            unchanged(&before, &record.view);
        }
        other => panic!("a completed request was not replayed: {other:?}"),
    }
    let read = ok(lab.store.read(&ask(1).id).await).map(|record| record.completion);
    assert_eq!(read, Some(answer("done")));
    unchanged(&before, &lab.view(1).await);
}

/// Nobody knows whether an unknown request took effect, so nobody may run it, the one who claimed it included.
pub async fn an_unknown_record_is_not_run<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    let before = lab.view(1).await;
    for again in [ask(1), retry(&ask(1), 1)] {
        match lab.begin(&again).await {
            Begun::Unknown(view) => unchanged(&before, &view),
            other => panic!("an unknown request was not left alone: {other:?}"),
        }
    }
}

/// Under hold, a lease that is over says only that nobody knows. Running the request again then is the double
/// payment that hold is chosen against; no later claim's own rule changes that.
pub async fn hold_is_never_taken_over<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Hold);
    lab.claim(&ask).await;
    lab.lease_ends().await;
    let eager = Begin { recovery: Recovery::Takeover, ..retry(&ask, 1) };
    for again in [eager, ask.clone(), retry(&ask, 2)] {
        let begun = lab.begin(&again).await;
        assert!(matches!(begun, Begun::Unknown(_)), "it was taken over: {begun:?}");
    }
    assert_eq!(lab.state(1).await, Some(State::Unknown));
}

/// A takeover before the lease is over runs beside a worker that is alive and well.
pub async fn takeover_waits_for_the_lease<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = Begin { recovery: Recovery::Takeover, ..ask(1) };
    lab.claim(&ask).await;
    let before = lab.view(1).await;
    let begun = lab.begin(&retry(&ask, 1)).await;
    assert!(matches!(begun, Begun::Held { .. }), "taken over from a live worker: {begun:?}");
    unchanged(&before, &lab.view(1).await);
}

/// A lease that is over under takeover is the next claimant's, with a higher fence: an equal one lets the
/// paused worker write over its successor.
pub async fn takeover_takes_what_is_over<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let first = lab.acquire(&ask).await;
    lab.lease_ends().await;
    let second = Begin { recovery: Recovery::Hold, ..retry(&ask, 1) };
    let taken = lab.acquire(&second).await;
    assert!(taken.lease.fence() > first.lease.fence(), "the fence did not grow");
    assert_eq!(taken.attempt, 2);
    let view = lab.view(1).await;
    assert_eq!((view.state, view.attempt), (State::InFlight, 2));
    assert_eq!((view.claim, view.fence), (second.claim, taken.lease.fence()));
    assert_eq!(view.recovery, Recovery::Takeover, "the record's word wins over a later claim's");
}

/// A claimant whose lease ran out and who asks again with the same number is a new claimant like any other: with
/// the old fence it would overtake itself.
pub async fn takeover_by_the_same_claim_is_a_new_attempt<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let first = lab.acquire(&ask).await;
    lab.lease_ends().await;
    let again = lab.acquire(&ask).await;
    assert!(again.lease.fence() > first.lease.fence());
    assert_eq!(again.attempt, 2);
}

/// A released request runs again at the next equal claim, with a fence of its own.
pub async fn a_released_record_is_granted_again<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.put(1, State::Released).await;
    let again = lab.acquire(&retry(&ask(1), 1)).await;
    assert!(again.lease.fence() > lease.fence, "the fence did not grow");
    assert_eq!(again.attempt, 2);
    assert_eq!(lab.state(1).await, Some(State::InFlight));
}

/// A token is refused with 401, refreshed, and the same request sent with the new one: had the released record
/// kept its principal, the client could never succeed.
pub async fn a_released_record_binds_no_principal<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Released).await;
    let other = Begin { principal: Some(principal(9)), recovery: Recovery::Takeover, ..retry(&ask(1), 1) };
    lab.claim(&other).await;
    let view = lab.view(1).await;
    assert_eq!((view.principal, view.recovery), (other.principal, other.recovery));
}

/// A key released for a retry is not free for another payload.
pub async fn a_released_record_binds_its_fingerprint<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Released).await;
    let begun = lab.begin(&Begin { fingerprint: print(9), ..retry(&ask(1), 1) }).await;
    assert!(matches!(begun, Begun::Differs(_)), "another request took the key: {begun:?}");
}

/// After a 307 the client goes on elsewhere with the same key, and perhaps another body: this record must be as
/// if it had never been.
pub async fn a_forgotten_record_binds_nothing<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.claim(&ask(1)).await;
    applied(&lab.note(first, "half").await);
    applied(&lab.release_as(first, ReleaseAs::Forgotten).await);
    assert_eq!(lab.view(1).await.fingerprint, None);
    let other = Begin { fingerprint: print(9), principal: Some(principal(9)), ..retry(&ask(1), 1) };
    let again = lab.acquire(&other).await;
    assert_eq!((again.attempt, again.progress.as_ref()), (1, None));
    assert!(again.lease.fence() > first.fence);
    assert_eq!(lab.view(1).await.fingerprint, Some(other.fingerprint));
}

/// A claim's packet is delayed in the network until after its own release. Granting it starts a run that nobody
/// waits for.
pub async fn a_delayed_packet_of_a_released_claim_is_stale<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Released).await;
    let before = lab.view(1).await;
    assert_eq!(lab.begin(&ask(1)).await, Begun::Stale);
    unchanged(&before, &lab.view(1).await);
}

/// The same after a release that binds nothing else.
pub async fn a_delayed_packet_of_a_forgotten_claim_is_stale<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.release_as(lease, ReleaseAs::Forgotten).await);
    let before = lab.view(1).await;
    assert_eq!(lab.begin(&ask(1)).await, Begun::Stale);
    unchanged(&before, &lab.view(1).await);
}
