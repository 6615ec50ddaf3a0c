//! Settling: complete, release and abandon, each repeated, late and lost.

use semel_core::record::{ClaimId, Recovery, State};
use semel_core::store::{Begin, Begun, Delete, Deleted, LeaseRef, Settled};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, id, kept, ok, retry, superseded, unchanged};

/// A worker that lost its lease to a successor, and that successor.
async fn overtaken<F: Fixture>(lab: &Lab<F>) -> (LeaseRef, LeaseRef) {
    let ask = lab.brief(1, Recovery::Takeover);
    let late = lab.claim(&ask).await;
    lab.lease_ends().await;
    let winner = lab.claim(&Begin { recovery: Recovery::Takeover, ..retry(&self::ask(1), 1) }).await;
    (late, winner)
}

async fn deleted<F: Fixture>(lab: &Lab<F>) -> LeaseRef {
    let lease = lab.claim(&ask(1)).await;
    assert_eq!(ok(lab.store.delete(&lease.id, Delete::Any).await), Deleted::Gone);
    lease
}

/// The completion is what the client is answered from, so it says all of the answer and ends the lease.
pub async fn a_completion_settles_the_record<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Completed).await;
    let view = lab.view(1).await;
    assert_eq!(view.state, State::Completed);
    assert_eq!(view.status.map(|status| status.as_u16()), Some(201));
    assert_eq!((view.body_bytes, view.lease_until), (4, None));
    assert!(view.expires.is_some_and(|end| end > view.now));
}

/// The acknowledgement of a completion is lost and it is sent again: an error here makes the driver answer 500
/// to a request that was done and recorded. And the first answer stays: somebody may have seen it.
pub async fn a_repeated_completion_is_applied_and_changes_nothing<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.put(1, State::Completed).await;
    let before = lab.view(1).await;
    applied(&lab.complete(lease, "again").await);
    unchanged(&before, &lab.view(1).await);
    assert_eq!(lab.body(1).await, Some(kept("done")));
}

/// A worker paused past its lease wakes up and writes over its successor's run, if nobody compares the fence.
pub async fn a_late_completion_is_superseded_by_a_running_successor<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (late, winner) = overtaken(&lab).await;
    let before = lab.view(1).await;
    let view = superseded(lab.complete(late, "late").await);
    assert_eq!((view.state, view.fence), (State::InFlight, winner.fence));
    unchanged(&before, &lab.view(1).await);
    applied(&lab.complete(winner, "done").await);
    assert_eq!(lab.body(1).await, Some(kept("done")));
}

/// And after the successor has completed: both clients must get the same bytes.
pub async fn a_late_completion_is_superseded_by_the_winners_answer<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (late, winner) = overtaken(&lab).await;
    applied(&lab.complete(winner, "done").await);
    let view = superseded(lab.complete(late, "late").await);
    assert_eq!((view.state, view.fence), (State::Completed, winner.fence));
    assert_eq!(lab.body(1).await, Some(kept("done")));
}

/// A release was sent, its answer lost, and the engine changed its mind: the record may be somebody's already.
pub async fn a_completion_after_its_release_is_superseded<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.put(1, State::Released).await;
    assert_eq!(superseded(lab.complete(lease, "late").await).state, State::Released);
    assert_eq!(lab.state(1).await, Some(State::Released));
}

/// A completion must not bring back a record that an operator removed.
pub async fn a_completion_of_a_deleted_record_is_absent<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = deleted(&lab).await;
    assert_eq!(lab.complete(lease, "late").await, Settled::Absent);
    assert_eq!(lab.inspect(1).await, None);
}

/// A release says that nothing was done; sent again, it says the same.
pub async fn a_repeated_release_is_applied_and_changes_nothing<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.release(lease).await);
    let before = lab.view(1).await;
    assert_eq!((before.state, before.lease_until), (State::Released, None));
    assert_eq!(before.fingerprint, Some(ask(1).fingerprint));
    applied(&lab.release(lease).await);
    unchanged(&before, &lab.view(1).await);
}

/// Releasing a successor's claim lets a third worker run beside it.
pub async fn a_late_release_is_superseded_by_a_successor<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (late, winner) = overtaken(&lab).await;
    let before = lab.view(1).await;
    assert_eq!(superseded(lab.release(late).await).fence, winner.fence);
    assert_eq!(superseded(lab.release_claim(late.id, late.claim).await).fence, winner.fence);
    unchanged(&before, &lab.view(1).await);
}

/// A release repeated in the background after the next claim must not release that one.
pub async fn a_repeated_release_leaves_the_next_claim_alone<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.put(1, State::Released).await;
    let next = lab.claim(&retry(&ask(1), 1)).await;
    assert_eq!(superseded(lab.release(first).await).fence, next.fence);
    assert_eq!(superseded(lab.release_claim(first.id, first.claim).await).fence, next.fence);
    assert_eq!(lab.state(1).await, Some(State::InFlight));
}

/// A release after the completion would run a finished request again.
pub async fn a_release_after_completion_is_superseded<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.put(1, State::Completed).await;
    let before = lab.view(1).await;
    unchanged(&before, &superseded(lab.release(lease).await));
    unchanged(&before, &superseded(lab.release_claim(lease.id, lease.claim).await));
    unchanged(&before, &lab.view(1).await);
}

/// Of a record that is gone there is nothing to release.
pub async fn a_release_of_a_deleted_record_is_absent<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = deleted(&lab).await;
    assert_eq!(lab.release(lease).await, Settled::Absent);
    assert_eq!(lab.inspect(1).await, None);
}

/// The claim's answer was lost, so its fence is not known; the record must not stay held until the lease is
/// over for that.
pub async fn a_claim_is_released_by_its_own_number<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.release_claim(lease.id, lease.claim).await);
    assert_eq!(lab.state(1).await, Some(State::Released));
    applied(&lab.release_claim(lease.id, lease.claim).await);
    assert_eq!(lab.begin(&ask(1)).await, Begun::Stale);
}

/// The claim never arrived: there is nothing to release, and nobody else's claim is touched.
pub async fn releasing_a_claim_that_never_arrived_changes_nothing<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let stranger = ClaimId::from_u128(99);
    assert_eq!(lab.release_claim(id(1), stranger).await, Settled::Absent);
    assert_eq!(lab.inspect(1).await, None);
    for (n, state) in (1..).zip(State::ALL) {
        lab.put(n, state).await;
        let before = lab.view(n).await;
        unchanged(&before, &superseded(lab.release_claim(id(n), stranger).await));
        unchanged(&before, &lab.view(n).await);
    }
}

/// A run that ended without an answer, under hold.
pub async fn an_abandoned_hold_is_unknown<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.abandon(lease).await);
    let before = lab.view(1).await;
    assert_eq!((before.state, before.expires), (State::Unknown, None));
    applied(&lab.abandon(lease).await);
    unchanged(&before, &lab.view(1).await);
}

/// Under takeover the lease still protects whatever may be going on: the next claim waits for its end.
pub async fn an_abandoned_takeover_waits_for_its_lease<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let lease = lab.claim(&ask).await;
    applied(&lab.abandon(lease).await);
    assert_eq!(lab.state(1).await, Some(State::InFlight));
    lab.lease_ends().await;
    assert_eq!(lab.acquire(&retry(&ask, 1)).await.attempt, 2);
}

/// Giving up what is somebody else's, or settled, would make a known outcome unknown.
pub async fn a_late_abandon_is_superseded<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let (late, winner) = overtaken(&lab).await;
    let before = lab.view(1).await;
    assert_eq!(superseded(lab.abandon(late).await).fence, winner.fence);
    unchanged(&before, &lab.view(1).await);
    for (n, state) in [(2, State::Completed), (3, State::Released)] {
        let lease = lab.put(n, state).await;
        assert_eq!(superseded(lab.abandon(lease).await).state, state);
        assert_eq!(lab.state(n).await, Some(state));
    }
}

/// Of a record that is gone there is nothing to give up.
pub async fn abandoning_a_deleted_record_is_absent<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = deleted(&lab).await;
    assert_eq!(lab.abandon(lease).await, Settled::Absent);
    assert_eq!(lab.inspect(1).await, None);
}

/// Under hold nobody else may have run it, so the answer of a worker that was only slow is the truth.
pub async fn a_late_completion_wins_over_unknown<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let abandoned = lab.put(1, State::Unknown).await;
    applied(&lab.complete(abandoned, "late").await);
    assert_eq!(lab.body(1).await, Some(kept("late")));
    let lapsed = lab.claim(&lab.brief(2, Recovery::Hold)).await;
    let written = lab.claim(&lab.brief(3, Recovery::Hold)).await;
    lab.lease_ends().await;
    assert!(matches!(lab.begin(&retry(&ask(3), 1)).await, Begun::Unknown(_)));
    for (n, lease) in [(2, lapsed), (3, written)] {
        applied(&lab.complete(lease, "late").await);
        assert_eq!(lab.body(n).await, Some(kept("late")));
    }
}

/// And so is its word that nothing was done.
pub async fn a_late_release_wins_over_unknown<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let abandoned = lab.put(1, State::Unknown).await;
    let lapsed = lab.claim(&lab.brief(2, Recovery::Hold)).await;
    lab.lease_ends().await;
    for (n, lease) in [(1, abandoned), (2, lapsed)] {
        applied(&lab.release(lease).await);
        assert_eq!(lab.state(n).await, Some(State::Released));
    }
}

/// Under takeover the same, as long as nobody has taken it.
pub async fn a_late_truth_wins_when_nobody_took_over<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let one = lab.claim(&lab.brief(1, Recovery::Takeover)).await;
    let other = lab.claim(&lab.brief(2, Recovery::Takeover)).await;
    lab.lease_ends().await;
    applied(&lab.complete(one, "late").await);
    assert_eq!(lab.body(1).await, Some(kept("late")));
    applied(&lab.release(other).await);
    assert_eq!(lab.state(2).await, Some(State::Released));
}
