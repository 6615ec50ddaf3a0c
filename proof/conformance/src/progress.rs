//! Progress: what the steps of a run leave for the next one.

use semel_core::record::{Recovery, State};
use semel_core::store::{Delete, Deleted, Settled};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, ok, retry, superseded};

/// The next attempt goes on where the last one stopped; without its notes it does the first step twice.
pub async fn progress_is_handed_to_the_next_claimant<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let taken = lab.brief(1, Recovery::Takeover);
    for ask in [ask(2), taken.clone()] {
        let lease = lab.claim(&ask).await;
        applied(&lab.note(lease, "one").await);
        applied(&lab.note(lease, "one, two").await);
        let again = lab.acquire(&ask).await;
        assert_eq!(again.progress.as_deref(), Some(&b"one, two"[..]), "a repeated claim");
        if ask.recovery == Recovery::Hold {
            applied(&lab.release(lease).await);
        }
    }
    lab.lease_ends().await;
    for ask in [ask(2), taken] {
        let next = lab.acquire(&retry(&ask, 1)).await;
        assert_eq!(next.attempt, 2);
        assert_eq!(next.progress.as_deref(), Some(&b"one, two"[..]));
    }
}

/// An operator sees how far an unknown run came, and once it is completed its notes are of no use.
pub async fn progress_is_dropped_at_completion<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    applied(&lab.note(lease, "one").await);
    applied(&lab.abandon(lease).await);
    assert_eq!(lab.view(1).await.progress.as_deref(), Some(&b"one"[..]));
    applied(&lab.complete(lease, "done").await);
    assert_eq!(lab.view(1).await.progress, None);
}

/// A late step's note must not mix with the notes of the run that took over.
pub async fn a_late_note_is_superseded<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask1 = lab.brief(1, Recovery::Takeover);
    let late = lab.claim(&ask1).await;
    let lapsed = lab.claim(&lab.brief(2, Recovery::Hold)).await;
    lab.lease_ends().await;
    let winner = lab.claim(&retry(&ask1, 1)).await;
    assert_eq!(superseded(lab.note(late, "late").await).fence, winner.fence);
    assert_eq!(superseded(lab.note(lapsed, "late").await).state, State::Unknown);
    for (n, state) in (3..).zip([State::Completed, State::Released, State::Unknown]) {
        let lease = lab.put(n, state).await;
        assert_eq!(superseded(lab.note(lease, "late").await).state, state);
    }
    for n in 1..=5 {
        assert_eq!(lab.view(n).await.progress, None);
    }
    let gone = lab.claim(&ask(9)).await;
    assert_eq!(ok(lab.store.delete(&gone.id, Delete::Any).await), Deleted::Gone);
    assert_eq!(lab.note(gone, "late").await, Settled::Absent);
}
