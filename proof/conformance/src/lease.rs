//! Leases: renewed while they run, over when they are over.

use std::time::Duration;

use semel_core::record::{Recovery, State};
use semel_core::store::{Begin, Begun, Delete, Deleted, Settled};

use crate::Fixture;
use crate::kit::{Lab, applied, ask, ok, retry, superseded, unchanged};

const LONG: Duration = Duration::from_hours(2);

/// A handler that runs longer than one lease keeps it by its heartbeat.
pub async fn a_renewed_lease_runs_on<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let lease = lab.claim(&ask).await;
    applied(&lab.renew(lease, LONG).await);
    lab.lease_ends().await;
    let begun = lab.begin(&retry(&ask, 1)).await;
    assert!(matches!(begun, Begun::Held { .. }), "a renewed lease was taken over: {begun:?}");
    let view = lab.view(1).await;
    assert_eq!((view.fence, view.attempt), (lease.fence, 1));
}

/// A lapse under hold has been told to others: a heartbeat cannot take it back, or a record would be unknown to
/// one client and running to the next.
pub async fn a_lapsed_hold_is_not_renewed<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&lab.brief(1, Recovery::Hold)).await;
    lab.lease_ends().await;
    assert_eq!(superseded(lab.renew(lease, LONG).await).state, State::Unknown);
    assert_eq!(lab.state(1).await, Some(State::Unknown));
}

/// A heartbeat delayed past the lease under takeover is in time as long as nobody came.
pub async fn a_takeovers_lease_is_renewed_until_it_is_taken<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let lease = lab.claim(&ask).await;
    lab.lease_ends().await;
    applied(&lab.renew(lease, LONG).await);
    let begun = lab.begin(&retry(&ask, 1)).await;
    assert!(matches!(begun, Begun::Held { .. }), "a renewed lease was taken over: {begun:?}");
}

/// A heartbeat of the one who lost must not prolong the winner's lease.
pub async fn a_late_renewal_is_superseded<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let ask = lab.brief(1, Recovery::Takeover);
    let late = lab.claim(&ask).await;
    lab.lease_ends().await;
    let winner = lab.claim(&Begin { lease_for: LONG, ..retry(&ask, 1) }).await;
    let before = lab.view(1).await;
    assert_eq!(superseded(lab.renew(late, 2 * LONG).await).fence, winner.fence);
    unchanged(&before, &lab.view(1).await);
}

/// A heartbeat that crosses its own settlement must not bring the record back in flight.
pub async fn a_settled_record_is_not_renewed<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (1..).zip([State::Completed, State::Released, State::Unknown]) {
        let lease = lab.put(n, state).await;
        let before = lab.view(n).await;
        unchanged(&before, &superseded(lab.renew(lease, LONG).await));
        unchanged(&before, &lab.view(n).await);
    }
}

/// A heartbeat must not make a record that was removed.
pub async fn renewing_a_deleted_record_is_absent<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.claim(&ask(1)).await;
    assert_eq!(ok(lab.store.delete(&lease.id, Delete::Any).await), Deleted::Gone);
    assert_eq!(lab.renew(lease, LONG).await, Settled::Absent);
    assert_eq!(lab.inspect(1).await, None);
}

/// One heartbeat renews all leases of a process. Answers in another order, as a set-based statement gives them,
/// stop the wrong run; a batch that fails as a whole for one lost lease stops all.
pub async fn a_batch_of_renewals_is_answered_in_its_order<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let mut leases = Vec::new();
    for (n, state) in (0..).zip([State::InFlight, State::Completed, State::Unknown, State::InFlight]) {
        leases.push(lab.put(n, state).await);
    }
    let gone = lab.claim(&ask(9)).await;
    assert_eq!(ok(lab.store.delete(&gone.id, Delete::Any).await), Deleted::Gone);
    leases.insert(1, gone);
    leases.reverse();
    let settled = ok(lab.store.renew(&leases, LONG).await);
    assert_eq!(settled.len(), leases.len());
    let told = |n: usize| match &settled[n] {
        Settled::Applied => "applied",
        Settled::Absent => "absent",
        Settled::Superseded(view) => {
            assert_eq!(view.id, leases[n].id, "somebody else's view");
            view.state.as_str()
        }
    };
    let told: Vec<_> = (0..settled.len()).map(told).collect();
    assert_eq!(told, ["applied", "unknown", "completed", "absent", "applied"]);
    assert_eq!(ok(lab.store.renew(&[], LONG).await), []);
}

/// A crash leaves nobody to write down that a lease is over. Every reader must see it all the same, or an operator
/// who looks for unknown records finds none.
pub async fn a_lapsed_hold_is_unknown_to_every_reader<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..4 {
        lab.claim(&lab.brief(n, Recovery::Hold)).await;
    }
    lab.lease_ends().await;
    let view = lab.view(0).await;
    assert_eq!((view.state, view.expires), (State::Unknown, None));
    assert_eq!(view.lease_remaining(), Duration::ZERO);
    assert_eq!(lab.list(Some(State::Unknown), None, 10).await.records.len(), 4);
    assert_eq!(lab.list(Some(State::InFlight), None, 10).await.records.len(), 0);
    let begun = lab.begin(&retry(&ask(1), 1)).await;
    assert!(matches!(begun, Begun::Unknown(_)), "{begun:?}");
}
