//! The transactional level: what each answer and each end of a commit means for the writes, the record and the client.

use bytes::Bytes;
use http::HeaderValue;
use proptest::prelude::*;
use semel_core::engine::{
    Dispatch, End, Failure, FailureKind, Found, Head, Next, Override, Persisted, Reply, Running, Settling,
    Step,
};
use semel_core::policy::keep::{Class, Keep, Outcome};
use semel_core::policy::{Answers, Policy};
use semel_core::record::{ClaimId, Fence, RecordView, Recovery, State};
use semel_core::store::{Committed, Opened, ReleaseAs, RolledBack, Settled, Writes};

use crate::engine::{claiming, head, kept, policy, running, settled_by, told, view, whole};

fn transacting(policy: &Policy) -> Running {
    let mut running = running(policy);
    running.transact(true);
    running
}

fn step(settling: &Settling) -> &'static str {
    match settling.step() {
        Step::Commit(_, completion, _, writes) => {
            assert!(completion.response.is_some());
            match writes {
                Writes::Commit => "commit",
                Writes::RollBack => "commit without writes",
            }
        }
        Step::Complete(_, completion, _) if completion.response.is_none() => "tombstone",
        Step::Complete(..) => "complete",
        Step::Release(_, ReleaseAs::Retry, _) => "release",
        Step::Release(_, ReleaseAs::Forgotten, _) => "forget",
        Step::Abandon(_) => "abandon",
    }
}

fn said(status: u16, outcome: Outcome) -> http::response::Parts {
    let mut parts = head(status);
    parts.extensions.insert(outcome);
    parts
}

fn with(status: u16, decided: Override) -> http::response::Parts {
    let mut parts = head(status);
    parts.extensions.insert(decided);
    parts
}

fn field(status: u16, name: &'static str, value: &'static str) -> http::response::Parts {
    let mut parts = head(status);
    parts.headers.insert(name, HeaderValue::from_static(value));
    parts
}

/// The contract's rule, written out a second time: every status there is, each word of the application, both recovery
/// rules.
#[test]
fn every_status_outcome_and_recovery_has_its_step() {
    for recovery in [Recovery::Takeover, Recovery::Hold] {
        let rules = policy(|p| p.recovery(recovery));
        for status in 100..=999_u16 {
            let by_status = match status {
                // A body that is never captured, or a final answer that is none.
                101 | 307 | 308 => None,
                200..=306 | 309..=399 => Some("commit"),
                401 | 403 | 407 | 408 | 421 | 423 | 425 | 426 | 429 | 431 | 499 => Some("release"),
                400..=498 => Some("commit without writes"),
                // Nobody knows what such a run did, but that it was rolled back.
                _ => Some("release"),
            };
            if let Some(expected) = by_status {
                let settling = settled_by(transacting(&rules), head(status), whole());
                assert_eq!(step(&settling), expected, "{status} {recovery:?}");
            }
            for (outcome, expected) in [
                (Outcome::Applied, "commit"),
                (Outcome::NotApplied, "release"),
                // The application's own word stays, and with it the recovery rule.
                (Outcome::Unknown, "abandon"),
            ] {
                if status != 101 {
                    let settling = settled_by(transacting(&rules), said(status, outcome), whole());
                    assert_eq!(step(&settling), expected, "{status} {outcome:?}");
                }
            }
        }
    }
}

#[test]
fn answers_of_every_shape_keep_or_undo_what_was_written() {
    let plain = policy(|p| p);
    let careful = policy(|p| p.keep(Keep::careful()));
    let everything = policy(|p| p.keep(Keep::everything()));
    let partial = Keep::from_fn("partial", |_, headers| {
        if headers.contains_key("x-partial") { Class::Unknown } else { Class::Store }
    });
    let custom = policy(|p| p.keep(partial));
    let facts = policy(|p| p.answers(Answers::Tombstone));
    let failed = |dispatch| {
        let mut parts = head(200);
        parts.extensions.insert(Failure { dispatch, kind: FailureKind::Handler });
        parts
    };
    for (rules, parts, end, expected) in [
        (&plain, head(201), whole(), "commit"),
        (&plain, head(409), whole(), "commit without writes"),
        (&plain, with(409, Override::new().commit()), whole(), "commit"),
        (&plain, with(500, Override::new().commit()), whole(), "commit"),
        (&plain, with(200, Override::new().forget()), whole(), "forget"),
        (&plain, head(308), whole(), "forget"),
        (&careful, head(500), whole(), "release"),
        (&everything, head(500), whole(), "commit without writes"),
        (&everything, head(504), whole(), "release"),
        (&custom, field(200, "x-partial", "1"), whole(), "abandon"),
        (&custom, head(504), whole(), "release"),
        (&plain, with(200, Override::new().drop_body()), whole(), "commit"),
        // Nothing of these bodies would be kept, however large they are.
        (&facts, head(201), End::Overflow, "commit"),
        (&facts, head(404), End::Overflow, "commit without writes"),
        (&plain, with(201, Override::new().answers(Answers::Reference)), End::Overflow, "commit"),
        (&plain, with(201, Override::new().drop_body()), End::Overflow, "commit"),
        (&facts, with(201, Override::new().answers(Answers::Stored)), End::Overflow, "release"),
        (&facts, head(201), End::Slow, "release"),
        (&facts, field(200, "content-type", "text/event-stream"), whole(), "release"),
        // What its trailers would say of it is not seen.
        (&facts, field(200, "content-type", "application/grpc"), End::Overflow, "release"),
        // Bodies without an end are refused, wherever it is seen.
        (&plain, head(201), End::Overflow, "release"),
        (&plain, head(201), End::Slow, "release"),
        (&plain, head(201), End::Cut, "release"),
        (&plain, field(200, "content-type", "text/event-stream"), whole(), "release"),
        (&plain, head(101), whole(), "release"),
        (&plain, failed(Dispatch::Maybe), whole(), "release"),
        (&plain, failed(Dispatch::Never), whole(), "release"),
    ] {
        let case = format!("{parts:?} {end:?}");
        assert_eq!(step(&settled_by(transacting(rules), parts, end)), expected, "{case}");
    }
    let grpc = |status: &'static str| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        let end = End::Whole { body: Bytes::new(), trailers: Some(trailers) };
        step(&settled_by(transacting(&plain), field(200, "content-type", "application/grpc"), end))
    };
    assert_eq!(
        [grpc("0"), grpc("9"), grpc("14"), grpc("16")],
        ["commit", "commit without writes", "release", "release"]
    );
    let refused = settled_by(transacting(&plain), head(201), End::Overflow);
    let (status, code, headers) = refusal(refused.answer(Settled::Applied));
    assert_eq!((status, code.as_str()), (500, "rolled-back"));
    assert_eq!(headers["idempotency-outcome"], "not-applied");
}

fn refusal(persisted: Persisted) -> (u16, String, http::HeaderMap) {
    match persisted {
        Persisted::Reply(reply) => match *reply {
            Reply::Reject(rejection) => told(rejection),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn instead(persisted: Persisted) -> Settling {
    match persisted {
        Persisted::Instead(settling) => *settling,
        other => panic!("{other:?}"),
    }
}

fn committing(policy: &Policy) -> Settling {
    let settling = settled_by(transacting(policy), head(201), whole()).opened(Opened::Back);
    assert!(!settling.undoes());
    settling
}

fn ours(state: State) -> Box<RecordView> {
    let (asked, _) = claiming(&policy(|p| p));
    let view = view(asked.ask(), state);
    Box::new(RecordView { fence: Fence::new(9).unwrap(), claim: ClaimId::from_u128(1), ..view })
}

fn theirs(state: State) -> Box<RecordView> {
    let (asked, _) = claiming(&policy(|p| p));
    Box::new(view(asked.ask(), state))
}

#[test]
fn a_transaction_that_was_never_opened_completes_as_any_run_and_one_that_is_lent_never_commits() {
    let plain = policy(|p| p);
    let settle = |opened| settled_by(transacting(&plain), head(201), whole()).opened(opened);
    assert_eq!(step(&settle(Opened::Never)), "complete");
    let lent = settle(Opened::Lent);
    assert_eq!(step(&lent), "release");
    assert!(!lent.undoes(), "it is not here to be rolled back");
    let (status, code, _) = refusal(lent.answer(Settled::Applied));
    assert_eq!((status, code.as_str()), (500, "rolled-back"));
}

// A record was once released beside the writes that a handler had committed by itself: they were done twice.
#[test]
fn nothing_is_released_before_its_writes_are_undone_and_never_if_they_were_committed() {
    for parts in [head(500), head(429), head(308), said(200, Outcome::Unknown)] {
        let settling = settled_by(transacting(&policy(|p| p)), parts, whole()).opened(Opened::Back);
        assert!(settling.undoes());
        let settling = instead(settling.undone(RolledBack::Undone));
        assert!(!settling.undoes());
        assert!(matches!(step(&settling), "release" | "forget" | "abandon"));
    }
    let settling = settled_by(transacting(&policy(|p| p)), head(500), whole()).opened(Opened::Back);
    let torn = instead(settling.undone(RolledBack::Torn));
    assert_eq!(step(&torn), "tombstone");
    let (status, code, _) = refusal(torn.answer(Settled::Applied));
    assert_eq!((status, code.as_str()), (500, "outcome-unknown"));
}

#[test]
fn each_end_of_a_commit_has_its_step_and_its_answer() {
    let plain = policy(|p| p);
    assert!(
        matches!(committing(&plain).committed(Committed::Applied), Persisted::Reply(reply) if matches!(*reply, Reply::Live(_)))
    );
    for (committed, status, code, after) in [
        (Committed::Lost, 503, "rolled-back", true),
        (Committed::Conflict, 503, "rolled-back", true),
        (Committed::Rejected, 500, "rolled-back", false),
        (Committed::Never, 503, "rolled-back", true),
        (Committed::Unheard, 503, "store-unavailable", true),
    ] {
        let settling = instead(committing(&plain).committed(committed));
        assert_eq!(step(&settling), "release", "{committed:?}");
        let (got, said, headers) = refusal(settling.answer(Settled::Applied));
        assert_eq!((got, said.as_str()), (status, code), "{committed:?}");
        assert_eq!(headers.contains_key("retry-after"), after, "{committed:?}");
        // Whoever took it over has the say.
        let settling = instead(committing(&plain).committed(committed));
        assert!(matches!(
            settling.answer(Settled::Superseded(theirs(State::Completed))),
            Persisted::Overtaken(_)
        ));
    }
    let torn = instead(committing(&plain).committed(Committed::Torn));
    assert_eq!(step(&torn), "tombstone");
}

/// A lost acknowledgement is settled by the release, never by a guess.
#[test]
fn a_commit_that_nobody_heard_of_is_settled_by_its_release() {
    let plain = policy(|p| p);
    let doubt = || instead(committing(&plain).committed(Committed::Unheard));
    let Persisted::Reply(reply) = doubt().answer(Settled::Superseded(ours(State::Completed))) else {
        panic!("answered")
    };
    assert!(matches!(*reply, Reply::Live(_)), "it was our own commit");
    let other_claim = Box::new(RecordView { claim: ClaimId::from_u128(2), ..*ours(State::Completed) });
    for view in [theirs(State::Completed), theirs(State::InFlight), ours(State::Released), other_claim] {
        assert!(matches!(doubt().answer(Settled::Superseded(view)), Persisted::Overtaken(_)));
    }
    for persisted in [doubt().failed(), doubt().answer(Settled::Absent)] {
        let (status, code, _) = refusal(persisted);
        assert_eq!((status, code.as_str()), (500, "outcome-unknown"));
    }
    // A release that was not in doubt takes nobody's completion for its own.
    let released = settled_by(transacting(&plain), head(500), whole()).opened(Opened::Never);
    assert!(matches!(released.answer(Settled::Superseded(ours(State::Completed))), Persisted::Overtaken(_)));
}

#[test]
fn a_conflict_runs_again_as_often_as_its_route_allows_and_only_while_its_claim_holds() {
    let twice = policy(|p| p.reruns(2));
    let mut run = transacting(&twice);
    for left in [2, 1] {
        assert!(run.may_rerun(), "{left} left");
        // Once by the database, once by the handler's own word.
        let persisted = if left == 2 {
            settled_by(run, head(201), whole()).opened(Opened::Back).committed(Committed::Conflict)
        } else {
            let settling = settled_by(run, with(500, Override::new().conflict()), whole());
            let settling = settling.opened(Opened::Back);
            assert!(settling.undoes());
            settling.undone(RolledBack::Undone)
        };
        let Persisted::Look(looking) = persisted else { panic!("{persisted:?}") };
        let Found::Again(again) = looking.found(Some(&ours(State::InFlight))) else { panic!("again") };
        assert_eq!((again.attempt(), again.fence().get()), (1, 9));
        run = *again;
    }
    assert!(!run.may_rerun());
    let settling = settled_by(run, with(500, Override::new().conflict()), whole()).opened(Opened::Back);
    let settling = instead(settling.undone(RolledBack::Undone));
    assert_eq!(step(&settling), "release", "the answer counts as any other");

    // At REPEATABLE READ a lost claim looks like a conflict.
    for view in [Some(theirs(State::InFlight)), Some(ours(State::Unknown)), None] {
        let settling = settled_by(transacting(&twice), head(201), whole()).opened(Opened::Back);
        let Persisted::Look(looking) = settling.committed(Committed::Conflict) else { panic!("look") };
        let Found::Instead(settling) = looking.found(view.as_deref()) else { panic!("again") };
        assert_eq!(step(&settling), "release");
    }
    // A host that cannot call the handler twice.
    let mut once = running(&twice);
    once.transact(false);
    assert!(!once.may_rerun());
}

proptest! {
    /// Whatever the handler answers and the database does: the own answer of a run goes out as kept only after its
    /// commit was applied, or was found applied; and no record is released while writes may stay.
    #[test]
    fn a_kept_answer_leaves_only_after_its_commit(
        status in prop_oneof![Just(200_u16), Just(201), Just(303), Just(404), Just(409), Just(500), Just(502)],
        end in 0..4_u8,
        opened in prop_oneof![Just(Opened::Never), Just(Opened::Back), Just(Opened::Lent)],
        torn in any::<bool>(),
        reruns in 0..3_u32,
        ends in proptest::collection::vec(0..8_u8, 8),
        answers in proptest::collection::vec(0..5_u8, 8),
    ) {
        let end = || match end { 0 => whole(), 1 => End::Overflow, 2 => End::Slow, _ => End::Cut };
        let rules = policy(|p| p.reruns(reruns));
        let (asked, _) = claiming(&rules);
        let mut settling = settled_by(transacting(&rules), head(status), end()).opened(opened);
        let (mut ends, mut answers) = (ends.into_iter().cycle(), answers.into_iter().chain([0, 0, 0, 0]));
        // What the database has done, so far.
        let (mut committed, mut in_doubt, mut reran) = (false, false, 0);
        for _ in 0..32 {
            let kept_step = matches!(settling.step(), Step::Commit(..) | Step::Complete(..));
            let persisted = if settling.undoes() {
                committed |= torn;
                settling.undone(if torn { RolledBack::Torn } else { RolledBack::Undone })
            } else if let Step::Commit(..) = settling.step() {
                let outcome = match ends.next().unwrap() {
                    0 | 1 => Committed::Applied,
                    2 => Committed::Lost,
                    3 => Committed::Conflict,
                    4 => Committed::Rejected,
                    5 => Committed::Never,
                    6 => Committed::Unheard,
                    _ => Committed::Torn,
                };
                committed = matches!(outcome, Committed::Applied | Committed::Torn);
                in_doubt = outcome == Committed::Unheard;
                settling.committed(outcome)
            } else {
                if matches!(settling.step(), Step::Release(..)) {
                    prop_assert!(!committed, "released beside what was committed");
                }
                match answers.next().unwrap() {
                    0 => {
                        committed |= kept_step;
                        settling.answer(Settled::Applied)
                    }
                    1 => settling.answer(Settled::Superseded(Box::new(view(asked.ask(), State::Completed)))),
                    2 => settling.answer(Settled::Absent),
                    3 if in_doubt => {
                        committed = true;
                        settling.answer(Settled::Superseded(ours(State::Completed)))
                    }
                    _ => settling.failed(),
                }
            };
            match persisted {
                Persisted::Instead(less) => settling = *less,
                Persisted::Look(looking) => settling = match looking.found(Some(&ours(State::InFlight))) {
                    Found::Again(run) => {
                        reran += 1;
                        settled_by(*run, head(status), end()).opened(opened)
                    }
                    Found::Instead(less) => *less,
                },
                Persisted::Reply(reply) => {
                    let is_kept = matches!(status, 200 | 201 | 303 | 404 | 409);
                    if matches!(*reply, Reply::Live(_)) && is_kept {
                        prop_assert!(committed, "an answer without its commit");
                    }
                    prop_assert!(reran <= reruns);
                    return Ok(());
                }
                Persisted::Overtaken(overtaken) => {
                    prop_assert!(!matches!(overtaken.answer(Some(&kept(asked.ask()))), Reply::Live(_)));
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "it never ended");
    }
}

/// The head alone can refuse, before a byte of a long answer is read.
#[test]
fn a_body_that_declares_its_length_is_refused_unread() {
    let mut parts = head(200);
    let Next::Settle(settling) =
        transacting(&policy(|p| p.capture_limit(10))).respond(Head { parts: &mut parts, at_least: 11 })
    else {
        panic!("read")
    };
    assert_eq!(step(&settling), "release");
}
