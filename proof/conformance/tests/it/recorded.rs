//! The checker's own tests: histories written down by hand, those that no store may show and those that only look so.

#![expect(clippy::unnecessary_wraps, reason = "answers stand beside those that were lost")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use semel_conformance::histories::{Event, What, explain};
use semel_conformance::model::{Answer, Call, Clock};
use semel_core::record::{
    ClaimId, Completion, Fence, Fingerprint, PrincipalTag, Record, RecordId, RecordView, Recovery, Retention,
    State, StoredBody, StoredResponse, Timestamp,
};
use semel_core::store::{
    Acquired, Begin, Begun, Delete, Deleted, Lease, LeaseRef, ReleaseAs, ReleaseBy, Resolution, Resolved,
    Settled, Verdict,
};

const ID: RecordId = RecordId::from_bytes([7; 32]);
const PRINT: Fingerprint = Fingerprint::from_bytes([1; 32]);
const WHO: PrincipalTag = PrincipalTag::from_bytes([2; 32]);
const LEASE: Duration = Duration::from_mins(50);

fn claim(claim: u128, recovery: Recovery) -> Call {
    Call::Begin(Box::new(Begin {
        id: ID,
        fingerprint: PRINT,
        settings: "by hand".into(),
        principal: Some(WHO),
        claim: ClaimId::from_u128(claim),
        lease_for: LEASE,
        recovery,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }))
}

fn hold(n: u128) -> Call {
    claim(n, Recovery::Hold)
}

fn takeover(n: u128) -> Call {
    claim(n, Recovery::Takeover)
}

fn lease(claim: u128, fence: u64) -> LeaseRef {
    LeaseRef { id: ID, claim: ClaimId::from_u128(claim), fence: Fence::new(fence).unwrap() }
}

fn complete(claim: u128, fence: u64, body: &'static str) -> Call {
    Call::Complete(lease(claim, fence), answer(body), Retention::default())
}

fn release(claim: u128, fence: u64) -> Call {
    Call::Release(ReleaseBy::Lease(lease(claim, fence)), ReleaseAs::Retry, Retention::default())
}

fn release_claim(claim: u128) -> Call {
    Call::Release(ReleaseBy::Claim(ID, ClaimId::from_u128(claim)), ReleaseAs::Retry, Retention::default())
}

fn resolve() -> Call {
    let op = ClaimId::from_u128(99);
    Call::Resolve(
        ID,
        Resolution { op, expect: None, verdict: Verdict::NotApplied, retention: Retention::default() },
    )
}

fn answer(body: &'static str) -> Arc<Completion> {
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: StoredBody::Kept(Bytes::from_static(body.as_bytes())),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

fn acquired(claim: u128, fence: u64, attempt: u32) -> Option<Answer> {
    let lease = Lease::new(ID, ClaimId::from_u128(claim), Fence::new(fence).unwrap());
    Some(Answer::Begun(Begun::Acquired(Acquired { lease, attempt, progress: None })))
}

fn held() -> Option<Answer> {
    Some(Answer::Begun(Begun::Held { remaining: LEASE }))
}

fn applied() -> Option<Answer> {
    Some(Answer::Settled(Settled::Applied))
}

fn replayed(claim: u128, fence: u64, body: &'static str) -> Option<Answer> {
    let view = view(State::Completed, claim, fence, 1);
    Some(Answer::Begun(Begun::Settled(Record { view, completion: answer(body) })))
}

fn seen(view: RecordView) -> Option<Answer> {
    Some(Answer::View(Some(view)))
}

const NONE: Option<Answer> = Some(Answer::View(None));
const LOST: Option<Answer> = None;

/// A record whose times are all those of a start at 0.
fn view(state: State, claim: u128, fence: u64, attempt: u32) -> RecordView {
    let at = |by: Duration| Timestamp::from_millis(0).plus(by);
    let (lives, completed) = (Retention::default(), state == State::Completed);
    RecordView {
        id: ID,
        state,
        fingerprint: Some(PRINT),
        settings: "by hand".into(),
        principal: Some(WHO),
        recovery: Recovery::Hold,
        attempt,
        fence: Fence::new(fence).unwrap(),
        claim: ClaimId::from_u128(claim),
        lease_until: matches!(state, State::InFlight | State::Unknown).then(|| at(LEASE)),
        created: at(Duration::ZERO),
        changed: at(Duration::ZERO),
        expires: match state {
            State::Completed => Some(at(lives.record)),
            State::Released => Some(at(lives.released)),
            State::InFlight | State::Unknown => None,
        },
        status: completed.then_some(StatusCode::CREATED),
        body_bytes: if completed { 4 } else { 0 },
        progress: None,
        now: at(Duration::ZERO),
    }
}

/// Events by when they were sent and when they returned; `0` for never.
fn history(events: Vec<(u64, u64, Call, Option<Answer>)>) -> Vec<Event> {
    let events = events.into_iter().zip(0..);
    let event = |((sent, returned, call, answer), caller)| Event {
        caller,
        sent,
        returned: (returned > 0).then_some(returned),
        what: What::Call(call, answer),
    };
    events.map(event).collect()
}

fn over_the_lease(sent: u64) -> Event {
    Event { caller: 9, sent, returned: Some(sent), what: What::Advance(LEASE * 2) }
}

#[track_caller]
fn rejected(events: &[Event], because: &str) {
    let Err(why) = explain(Clock::at(0), events) else { panic!("it was accepted") };
    let text = why.to_string();
    assert!(text.contains(because), "another reason than {because:?}:\n{text}");
}

#[track_caller]
fn accepted(events: &[Event]) {
    if let Err(why) = explain(Clock::at(0), events) {
        panic!("{why}");
    }
}

#[test]
fn two_claims_of_one_key_are_not_both_granted() {
    let both = |second| history(vec![(1, 4, hold(1), acquired(1, 1, 1)), (2, 3, hold(2), second)]);
    rejected(&both(acquired(2, 2, 1)), "Held");
    accepted(&both(held()));
}

#[test]
fn what_was_completed_does_not_vanish() {
    let then = |seen| {
        history(vec![
            (1, 2, hold(1), acquired(1, 1, 1)),
            (3, 4, complete(1, 1, "done"), applied()),
            (5, 6, Call::Inspect(ID), seen),
        ])
    };
    rejected(&then(NONE), "completed");
    accepted(&then(seen(view(State::Completed, 1, 1, 1))));
}

#[test]
fn a_fence_does_not_go_back() {
    let again = |fence| {
        history(vec![
            (1, 2, hold(1), acquired(1, 5, 1)),
            (3, 4, release(1, 5), applied()),
            (5, 6, hold(2), acquired(2, fence, 2)),
        ])
    };
    rejected(&again(5), "a fence above 5");
    rejected(&again(4), "a fence above 5");
    accepted(&again(9));
    let anew = |fence| {
        history(vec![
            (1, 2, hold(1), acquired(1, 5, 1)),
            (3, 4, Call::Delete(ID, Delete::Any), Some(Answer::Deleted(Deleted::Gone))),
            (5, 6, hold(2), acquired(2, fence, 1)),
        ])
    };
    rejected(&anew(1), "a fence above 5");
    accepted(&anew(6));
}

#[test]
fn a_superseded_lease_completes_nothing() {
    let late = |told| {
        let mut events = history(vec![
            (1, 2, takeover(1), acquired(1, 1, 1)),
            (5, 6, takeover(2), acquired(2, 2, 2)),
            (7, 8, complete(1, 1, "late"), told),
        ]);
        events.push(over_the_lease(3));
        events
    };
    rejected(&late(applied()), "Superseded");
    // Its answer is lost: whatever it did, it did not take effect.
    accepted(&late(LOST));
    // Nobody came: then the late truth counts.
    let mut alone =
        history(vec![(1, 2, takeover(1), acquired(1, 1, 1)), (7, 8, complete(1, 1, "late"), applied())]);
    alone.push(over_the_lease(3));
    accepted(&alone);
}

#[test]
fn a_replay_is_the_answer_that_was_stored() {
    let then = |body| {
        history(vec![
            (1, 2, hold(1), acquired(1, 1, 1)),
            (3, 4, complete(1, 1, "done"), applied()),
            (5, 6, hold(2), replayed(1, 1, body)),
        ])
    };
    rejected(&then("gone"), "done");
    accepted(&then("done"));
}

#[test]
fn nothing_is_stale_that_was_never_released() {
    let again = |told| history(vec![(1, 2, hold(1), acquired(1, 1, 1)), (3, 4, hold(1), told)]);
    rejected(&again(Some(Answer::Begun(Begun::Stale))), "Acquired");
    accepted(&again(acquired(1, 1, 1)));
    accepted(&history(vec![
        (1, 2, hold(1), acquired(1, 1, 1)),
        (3, 4, release(1, 1), applied()),
        (5, 6, hold(1), Some(Answer::Begun(Begun::Stale))),
    ]));
}

#[test]
fn a_hold_is_not_taken_over() {
    let over = |call: fn(u128) -> Call| {
        let mut events =
            history(vec![(1, 2, call(1), acquired(1, 1, 1)), (5, 6, call(2), acquired(2, 2, 2))]);
        events.push(over_the_lease(3));
        events
    };
    rejected(&over(hold), "Unknown");
    accepted(&over(takeover));
}

#[test]
fn a_lost_call_that_somebody_saw_is_not_taken_back() {
    let look = |second| {
        history(vec![
            (1, 2, hold(1), acquired(1, 1, 1)),
            (3, 0, complete(1, 1, "done"), LOST),
            (4, 5, Call::Inspect(ID), seen(view(State::Completed, 1, 1, 1))),
            (6, 7, Call::Inspect(ID), second),
        ])
    };
    rejected(&look(seen(view(State::InFlight, 1, 1, 1))), "completed");
    accepted(&look(seen(view(State::Completed, 1, 1, 1))));
    // The other way round it took effect in between.
    accepted(&history(vec![
        (1, 2, hold(1), acquired(1, 1, 1)),
        (3, 0, complete(1, 1, "done"), LOST),
        (4, 5, Call::Inspect(ID), seen(view(State::InFlight, 1, 1, 1))),
        (6, 7, Call::Inspect(ID), seen(view(State::Completed, 1, 1, 1))),
    ]));
}

#[test]
fn nobody_sees_a_call_before_it_was_sent() {
    let look = |sent, returned| {
        history(vec![
            (1, 2, hold(1), acquired(1, 1, 1)),
            (sent, returned, hold(2), replayed(1, 1, "done")),
            (5, 8, complete(1, 1, "done"), applied()),
        ])
    };
    rejected(&look(3, 4), "Held");
    // Before it has returned is another matter.
    accepted(&look(6, 7));
}

#[test]
fn a_resolution_counts_against_the_late_worker() {
    let late = |told| {
        let mut events = history(vec![
            (1, 2, hold(1), acquired(1, 1, 1)),
            (5, 6, resolve(), {
                let mut view = view(State::Released, 1, 2, 1);
                let over = Timestamp::from_millis(0).plus(LEASE * 2);
                (view.changed, view.expires) = (over, Some(over.plus(Retention::default().released)));
                Some(Answer::Resolved(Resolved::Applied(Box::new(view))))
            }),
            (7, 8, complete(1, 1, "late"), told),
        ]);
        events.push(over_the_lease(3));
        events
    };
    rejected(&late(applied()), "Superseded");
    accepted(&late(LOST));
}

#[test]
fn a_claim_whose_answer_was_lost_is_found_by_its_number() {
    accepted(&history(vec![
        (1, 0, hold(1), LOST),
        (2, 3, hold(1), acquired(1, 4, 1)),
        (4, 5, hold(2), held()),
    ]));
    // It did not arrive at first, so another one was granted; a lost one is nobody's lease.
    accepted(&history(vec![
        (1, 0, hold(1), LOST),
        (2, 3, hold(2), acquired(2, 4, 1)),
        (4, 5, hold(1), held()),
    ]));
    // Somebody else was told of a run that nobody may have.
    let of_nobody = vec![(2, 3, hold(2), held()), (4, 5, hold(3), acquired(3, 4, 1))];
    rejected(&history(of_nobody), "Acquired");
}

#[test]
fn a_delayed_claim_that_arrives_after_its_own_release_runs_for_nobody() {
    let absent = Some(Answer::Settled(Settled::Absent));
    accepted(&history(vec![
        (1, 0, hold(1), LOST),
        (2, 3, release_claim(1), absent),
        (4, 5, hold(2), held()),
        (6, 7, release_claim(1), applied()),
        (8, 9, hold(1), Some(Answer::Begun(Begun::Stale))),
        (10, 11, hold(2), acquired(2, 3, 2)),
    ]));
}

#[test]
fn a_history_too_long_to_judge_is_not_called_fine() {
    let long = (1..=129).map(|n| (2 * n, 2 * n + 1, Call::Inspect(ID), NONE)).collect();
    rejected(&history(long), "at most 128");
}
