//! What an operator does: list, resolve, delete.

use semel_core::record::{Completion, Fence, Recovery, State};
use semel_core::store::{Begun, Delete, Deleted, Resolution, Resolved, Verdict};

use crate::Fixture;
use crate::kit::{Lab, answer, applied, ask, id, kept, ok, resolution, retry, superseded, unchanged};

fn done() -> Verdict {
    Verdict::Applied(answer("resolved"))
}

async fn resolve<F: Fixture>(lab: &Lab<F>, n: u64, resolution: &Resolution) -> Resolved {
    ok(lab.store.resolve(&id(n), resolution).await)
}

async fn resolves<F: Fixture>(lab: &Lab<F>, n: u64, resolution: &Resolution) -> State {
    match resolve(lab, n, resolution).await {
        Resolved::Applied(view) => {
            unchanged(&view, &lab.view(n).await);
            view.state
        }
        other => panic!("an unknown record was not resolved: {other:?}"),
    }
}

async fn refuses<F: Fixture>(lab: &Lab<F>, n: u64, resolution: &Resolution) {
    let before = lab.view(n).await;
    match resolve(lab, n, resolution).await {
        Resolved::Refused(view) => unchanged(&before, &view),
        other => panic!("it was not refused: {other:?}"),
    }
    unchanged(&before, &lab.view(n).await);
}

/// An operator looks for unknown records and must find each, and nothing else.
pub async fn a_list_holds_the_state_that_was_asked_for<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..12 {
        lab.put(n, State::ALL[usize::try_from(n % 4).unwrap_or(0)]).await;
    }
    for (at, state) in (0..).zip(State::ALL) {
        let page = lab.list(Some(state), None, 100).await;
        assert!(page.records.iter().all(|view| view.state == state));
        let mut expected: Vec<_> = (0..12).filter(|n| n % 4 == at).map(id).collect();
        expected.sort_unstable();
        let listed: Vec<_> = page.records.iter().map(|view| view.id).collect();
        assert_eq!(listed, expected);
        assert_eq!(page.next, None);
    }
    let all = lab.list(None, None, 100).await.records;
    assert_eq!(all.len(), 12);
    for view in &all {
        let inspected =
            ok(lab.store.inspect(&view.id).await).unwrap_or_else(|| panic!("listed, but not there"));
        unchanged(view, &inspected);
    }
}

/// Pages by offset skip a record for each one removed meanwhile; pages by id do not, and none comes twice.
pub async fn pages_have_no_gap_and_no_duplicate<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for n in 0..25 {
        lab.put(n, if n % 5 == 0 { State::Completed } else { State::InFlight }).await;
    }
    let mut listed = Vec::new();
    let mut after = None;
    for round in 0.. {
        assert!(round < 20, "pages without end");
        let page = lab.list(Some(State::InFlight), after, 4).await;
        assert!(page.records.len() <= 4);
        listed.extend(page.records.iter().map(|view| view.id));
        let Some(next) = page.next else { break };
        // What was listed is removed: the next page must not begin later for it.
        assert!(ok(lab.store.delete(&page.records[0].id, Delete::Any).await) == Deleted::Gone);
        after = Some(next);
    }
    let mut expected: Vec<_> = (0..25).filter(|n| n % 5 != 0).map(id).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

/// "It was done": a retry gets the answer that the operator gave.
pub async fn resolved_as_applied_is_completed<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    assert_eq!(resolves(&lab, 1, &resolution(7, done())).await, State::Completed);
    assert_eq!(lab.body(1).await, Some(kept("resolved")));
    let begun = lab.begin(&retry(&ask(1), 1)).await;
    assert!(matches!(begun, Begun::Settled(_)), "{begun:?}");
}

/// "It was done", and nobody knows the answer: still, it never runs again.
pub async fn resolved_without_an_answer_is_completed<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    let nothing = Verdict::Applied(Completion::default().into());
    assert_eq!(resolves(&lab, 1, &resolution(7, nothing)).await, State::Completed);
    let view = lab.view(1).await;
    assert_eq!((view.status, view.body_bytes), (None, 0));
    match lab.begin(&retry(&ask(1), 1)).await {
        Begun::Settled(record) => assert_eq!(*record.completion, Completion::default()),
        other => panic!("{other:?}"),
    }
}

/// "It was not done": the next equal request runs.
pub async fn resolved_as_not_applied_runs_again<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let first = lab.put(1, State::Unknown).await;
    assert_eq!(resolves(&lab, 1, &resolution(7, Verdict::NotApplied)).await, State::Released);
    let resolved = lab.view(1).await.fence;
    let again = lab.acquire(&retry(&ask(1), 1)).await;
    assert_eq!(again.attempt, 2);
    assert!(again.lease.fence() > resolved && resolved > first.fence);
}

/// A lease that ran out is unknown before any sweep has written it down, and can be resolved.
pub async fn a_lapsed_record_can_be_resolved<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.claim(&lab.brief(1, Recovery::Hold)).await;
    lab.lease_ends().await;
    assert_eq!(resolves(&lab, 1, &resolution(7, done())).await, State::Completed);
}

/// An operator's word about what is not unknown would overrule somebody who knows: a running worker, or a recorded
/// answer.
pub async fn only_unknown_records_are_resolved<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (1..).zip([State::InFlight, State::Completed, State::Released]) {
        lab.put(n, state).await;
        refuses(&lab, n, &resolution(7, done())).await;
        refuses(&lab, n, &resolution(8, Verdict::NotApplied)).await;
    }
    assert_eq!(resolve(&lab, 9, &resolution(7, done())).await, Resolved::Absent);
}

/// The operator looked, thought, and meanwhile the record went on: `expect` catches it.
pub async fn a_resolution_of_another_fence_is_refused<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let lease = lab.put(1, State::Unknown).await;
    let mut expecting = resolution(7, done());
    // The one after, since a store's first fence may be 1 and there is no fence 0.
    expecting.expect = Fence::new(lease.fence.get() + 1);
    refuses(&lab, 1, &expecting).await;
    expecting.expect = Some(lease.fence);
    assert_eq!(resolves(&lab, 1, &expecting).await, State::Completed);
}

/// A resolution whose answer was lost is sent again and finds itself; another one does not.
pub async fn a_repeated_resolution_is_applied_and_changes_nothing<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, verdict) in [(1, done()), (2, Verdict::NotApplied)] {
        let lease = lab.put(n, State::Unknown).await;
        let mut first = resolution(7, verdict);
        first.expect = Some(lease.fence);
        let state = resolves(&lab, n, &first).await;
        let before = lab.view(n).await;
        assert_eq!(resolves(&lab, n, &first).await, state);
        unchanged(&before, &lab.view(n).await);
        refuses(&lab, n, &resolution(8, done())).await;
    }
}

/// A copy of "it was not done" arrives when the rerun has become unknown in its turn. Taken for a word about the
/// second run, it starts a third.
pub async fn a_delayed_resolution_does_not_resolve_a_later_run<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    lab.put(1, State::Unknown).await;
    let first = resolution(7, Verdict::NotApplied);
    assert_eq!(resolves(&lab, 1, &first).await, State::Released);
    let second = lab.claim(&retry(&ask(1), 1)).await;
    applied(&lab.abandon(second).await);
    let before = lab.view(1).await;
    let _ = resolve(&lab, 1, &first).await;
    unchanged(&before, &lab.view(1).await);
}

/// The worker was only slow and comes back after the operator's word: its answer must not replace what clients
/// were told since.
pub async fn a_resolution_supersedes_the_late_worker<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, verdict, state) in [(1, done(), State::Completed), (2, Verdict::NotApplied, State::Released)] {
        let late = lab.put(n, State::Unknown).await;
        resolves(&lab, n, &resolution(7, verdict)).await;
        let before = lab.view(n).await;
        assert!(before.fence > late.fence, "the fence did not grow");
        assert_eq!(superseded(lab.complete(late, "late").await).state, state);
        assert_eq!(superseded(lab.release(late).await).state, state);
        assert_eq!(superseded(lab.abandon(late).await).state, state);
        unchanged(&before, &lab.view(n).await);
    }
    assert_eq!(lab.body(1).await, Some(kept("resolved")));
}

/// Removing a settled record frees its key; a live or unknown one is not removed by the way.
pub async fn delete_removes_settled_records_only<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (1..).zip(State::ALL) {
        lab.put(n, state).await;
        let before = lab.view(n).await;
        match (state, ok(lab.store.delete(&id(n), Delete::Settled).await)) {
            (State::Completed | State::Released, Deleted::Gone) => assert_eq!(lab.inspect(n).await, None),
            (State::InFlight | State::Unknown, Deleted::Refused(view)) => {
                unchanged(&before, &view);
                unchanged(&before, &lab.view(n).await);
            }
            (state, deleted) => panic!("{state:?}: {deleted:?}"),
        }
    }
    assert_eq!(ok(lab.store.delete(&id(9), Delete::Settled).await), Deleted::Absent);
}

/// An operator who insists can remove any record: it is as if it had never been.
pub async fn delete_any_removes_any_record<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    for (n, state) in (1..).zip(State::ALL) {
        lab.put(n, state).await;
        assert_eq!(ok(lab.store.delete(&id(n), Delete::Any).await), Deleted::Gone);
        assert_eq!(lab.inspect(n).await, None);
        assert_eq!(lab.body(n).await, None);
        assert_eq!(lab.acquire(&ask(n)).await.attempt, 1);
    }
    assert_eq!(ok(lab.store.delete(&id(9), Delete::Any).await), Deleted::Absent);
}
