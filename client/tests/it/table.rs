//! What each end of a try means, by what the request is.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use semel_client::Verdict::{Done, NotSent, Rejected, Replayed, Unknown};
use semel_client::{Answer, Budget, Failure, Limit, Retries, Step, Trying, Verdict, Why};

use super::support::{begin, fields, wall};

/// The kinds of requests, as the columns of the table in the crate's docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Keyed,
    Get,
    Put,
    Unkeyed,
}

const KINDS: [Kind; 4] = [Kind::Keyed, Kind::Get, Kind::Put, Kind::Unkeyed];

impl Kind {
    fn trying(self, retries: &Retries) -> (Trying, Instant) {
        let at = Instant::now();
        let method = match self {
            Self::Keyed | Self::Unkeyed => Method::POST,
            Self::Get => Method::GET,
            Self::Put => Method::PUT,
        };
        let call =
            begin(retries, &method, &HeaderMap::new(), at, |asked| asked.unkeyed(self == Self::Unkeyed));
        (call.unwrap().send(at).unwrap(), at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Again,
    End(Verdict),
}

fn said(step: Step) -> (Said, Why) {
    match step {
        Step::Again { why, .. } => (Said::Again, why),
        Step::End(end) => {
            assert_eq!(end.limit, None);
            (Said::End(end.verdict), end.why)
        }
    }
}

fn answered(trying: Trying, status: u16, with: &[(&str, &str)], body: &str, at: Instant) -> Step {
    let headers = fields(with);
    let body = Some(body.as_bytes());
    let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body };
    trying.answered(&answer, at, wall())
}

#[test]
fn failures_are_tried_again_unless_it_could_run_twice() {
    use Said::{Again, End};
    for (failure, why, expected) in [
        (Failure::NeverSent, Why::NeverSent, [Again; 4]),
        (Failure::MayHaveRun, Why::MayHaveRun, [Again, Again, Again, End(Unknown)]),
        (Failure::TimedOut, Why::TimedOut, [Again, Again, Again, End(Unknown)]),
        (Failure::Invalid, Why::Invalid, [End(NotSent); 4]),
    ] {
        for (kind, expected) in KINDS.into_iter().zip(expected) {
            let (trying, at) = kind.trying(&Retries::default());
            assert_eq!(said(trying.failed(failure, at)), (expected, why), "{failure:?} of {kind:?}");
        }
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const PROBLEM: (&str, &str) = ("content-type", "application/problem+json");
const SOON: (&str, &str) = ("retry-after", "1");
const RETRY: (&str, &str) = ("stripe-should-retry", "true");
const DO_NOT: (&str, &str) = ("stripe-should-retry", "false");

type Row = (u16, &'static [(&'static str, &'static str)], &'static str, [(Said, Why); 4]);

#[test]
fn every_answer_is_judged_as_the_table_says() {
    use Said::{Again, End};
    let done = [(End(Done), Why::Answered); 4];
    let rejected = [(End(Rejected), Why::Refused); 4];
    let again = |why| [(Again, why), (Again, why), (Again, why), (End(Rejected), Why::NotRepeatable)];
    let open = |why| [(Again, why), (Again, why), (Again, why), (End(Unknown), Why::NotRepeatable)];
    let keyed = |why| {
        [
            (Again, why),
            (End(Rejected), Why::Refused),
            (End(Rejected), Why::Refused),
            (End(Rejected), Why::Refused),
        ]
    };
    let told_not = |verdict| [(End(verdict), Why::ToldNotTo); 4];
    let unknown = [(End(Unknown), Why::Reconcile); 4];

    let rows: &[Row] = &[
        (200, &[], "", done),
        (201, &[RETRY], "", done),
        (204, &[], "", done),
        (303, &[], "", done),
        (307, &[], "", done),
        (200, &[("idempotency-replayed", "true")], "", [(End(Replayed), Why::Answered); 4]),
        (200, &[("Idempotent-Replayed", "TRUE")], "", [(End(Replayed), Why::Answered); 4]),
        (200, &[("idempotency-replayed", "false")], "", done),
        // Never, whatever else is said.
        (400, &[], "", rejected),
        (400, &[RETRY, SOON], "", rejected),
        (400, &[PROBLEM], r#"{"retry":"same-key"}"#, rejected),
        (422, &[], "", rejected),
        (422, &[RETRY], "", rejected),
        (422, &[PROBLEM], r#"{"code":"key-reused","retry":"stop"}"#, rejected),
        // Refusals.
        (401, &[], "", rejected),
        (402, &[], "", rejected),
        (403, &[], "", rejected),
        (404, &[SOON], "", rejected),
        (410, &[], "", rejected),
        (413, &[], "", rejected),
        (501, &[], "", rejected),
        (505, &[], "", rejected),
        // A conflict is the application's own, unless it says when to come back, or what it is.
        (409, &[], "", rejected),
        (409, &[JSON], r#"{"error":{"code":"resource_exists"}}"#, rejected),
        (409, &[SOON], "", keyed(Why::InFlight)),
        (409, &[PROBLEM], r#"{"code":"in-flight","retry":"same-key"}"#, open(Why::InFlight)),
        (409, &[JSON], r#"{"error":{"code":"idempotency_key_in_use"}}"#, open(Why::InFlight)),
        (409, &[RETRY], "", again(Why::Told)),
        (409, &[DO_NOT, SOON], "", told_not(Rejected)),
        (409, &[PROBLEM], r#"{"code":"outcome-unknown","retry":"reconcile"}"#, unknown),
        (409, &[PROBLEM], r#"{"code":"outcome-unknown","retry":"same-key"}"#, open(Why::Told)),
        (409, &[PROBLEM], r#"{"code":"replay-unavailable","retry":"reconcile"}"#, unknown),
        (400, &[PROBLEM], r#"{"code":"key-expired","retry":"reconcile"}"#, unknown),
        // Load.
        (425, &[], "", again(Why::TooEarly)),
        (429, &[SOON], "", again(Why::TooMany)),
        (429, &[DO_NOT], "", told_not(Rejected)),
        (503, &[], "", again(Why::Unavailable)),
        (503, &[PROBLEM], r#"{"code":"store-unavailable","retry":"same-key"}"#, again(Why::Told)),
        (503, &[PROBLEM], r#"{"retryable":true}"#, again(Why::Told)),
        (503, &[PROBLEM], r#"{"retryable":false}"#, told_not(Rejected)),
        // It may have run.
        (408, &[], "", open(Why::Failed)),
        (408, &[PROBLEM], r#"{"code":"body-too-slow","retry":"same-key"}"#, again(Why::Told)),
        (500, &[], "", open(Why::Failed)),
        (502, &[], "", open(Why::Failed)),
        (504, &[], "", open(Why::Failed)),
        (500, &[DO_NOT], "", told_not(Unknown)),
        (500, &[PROBLEM], r#"{"code":"outcome-unknown","retry":"reconcile"}"#, unknown),
        (502, &[PROBLEM, RETRY], r#"{"code":"outcome-unknown","retry":"reconcile"}"#, unknown),
        (502, &[PROBLEM], r#"{"code":"upstream-unreachable","retry":"same-key"}"#, again(Why::Told)),
        (502, &[("idempotency-outcome", "not-applied")], "", again(Why::Failed)),
        (503, &[("idempotency-outcome", "unknown")], "", open(Why::Unavailable)),
    ];
    for (status, with, body, expected) in rows {
        for (kind, expected) in KINDS.into_iter().zip(expected) {
            let (trying, at) = kind.trying(&Retries::default());
            let step = answered(trying, *status, with, body, at);
            assert_eq!(said(step), *expected, "{status} {with:?} {body} to {kind:?}");
        }
    }
}

/// An answer about credentials or load says nothing of a try before it whose answer was lost.
#[test]
fn a_refusal_of_the_exchange_does_not_settle_what_may_have_run() {
    for (status, verdict) in
        [(401, Unknown), (403, Unknown), (501, Unknown), (404, Rejected), (422, Rejected), (201, Done)]
    {
        let (trying, at) = Kind::Keyed.trying(&Retries::default());
        let Step::Again { call, .. } = trying.failed(Failure::MayHaveRun, at) else { panic!("it has a key") };
        let step = answered(call.send(at).unwrap(), status, &[], "", at);
        assert_eq!(said(step).0, Said::End(verdict), "{status}");
    }
}

type Tried = fn(Trying, Instant) -> Step;

#[test]
fn when_a_limit_is_reached_the_verdict_says_what_is_known() {
    let retries = Retries::builder().tries(2).build().unwrap();
    let never: Tried = |trying, at| trying.failed(Failure::NeverSent, at);
    let maybe: Tried = |trying, at| trying.failed(Failure::MayHaveRun, at);
    let busy: Tried = |trying, at| answered(trying, 503, &[], "", at);
    let running: Tried =
        |trying, at| answered(trying, 409, &[PROBLEM], r#"{"code":"in-flight","retry":"same-key"}"#, at);
    for (tries, verdict) in [
        ([never, never], NotSent),
        ([never, busy], Rejected),
        ([busy, never], NotSent),
        ([maybe, busy], Unknown),
        ([maybe, never], Unknown),
        ([never, maybe], Unknown),
        ([busy, running], Unknown),
    ] {
        let (first, at) = Kind::Keyed.trying(&retries);
        let Step::Again { call, .. } = tries[0](first, at) else { panic!("once more") };
        let Step::End(end) = tries[1](call.send(at).unwrap(), at) else { panic!("two are all") };
        assert_eq!((end.verdict, end.limit, end.tries), (verdict, Some(Limit::Tries), 2));
    }
}

#[test]
fn retry_after_is_waited_for_in_both_forms_and_never_beyond_the_deadline() {
    let minute = Duration::from_mins(1);
    let retries = Retries::builder().deadline(minute).build().unwrap();
    for (after, at_least) in [
        ("7", Some(7)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("nonsense", Some(0)),
        ("60", None),
        ("Sun, 06 Nov 1994 10:00:00 GMT", None),
        ("99999999999999999999", None),
    ] {
        let (trying, at) = Kind::Keyed.trying(&retries);
        match (answered(trying, 503, &[("retry-after", after)], "", at), at_least) {
            (Step::Again { after: wait, .. }, Some(at_least)) => {
                let earliest = Duration::from_secs(at_least);
                assert!((earliest..=earliest + retries.backoff).contains(&wait), "{after}: {wait:?}");
            }
            (Step::End(end), None) => {
                assert_eq!((end.limit, end.verdict), (Some(Limit::Deadline), Rejected), "{after}");
            }
            (step, _) => panic!("{after}: {step:?}"),
        }
    }
}

#[test]
fn each_try_has_its_own_time_within_the_deadline_and_none_begins_after_it() {
    let (second, retries) = (Duration::from_secs(1), Retries::builder());
    let retries = retries.deadline(10 * second).try_within(4 * second).build().unwrap();
    let (trying, start) = Kind::Keyed.trying(&retries);
    assert_eq!(trying.within(), 4 * second);
    let Step::Again { call, .. } = trying.failed(Failure::TimedOut, start + 4 * second) else { panic!() };
    let trying = call.send(start + 9 * second).unwrap();
    assert_eq!((trying.within(), trying.number()), (second, 2), "what is left");
    let Step::Again { call, .. } = trying.failed(Failure::TimedOut, start + Duration::from_millis(9500))
    else {
        panic!("half a second is left")
    };
    let end = call.send(start + 10 * second).unwrap_err();
    assert_eq!((end.verdict, end.limit, end.tries), (Unknown, Some(Limit::Deadline), 2));
}

#[test]
fn a_budget_is_shared_by_all_calls_and_ends_each_of_them() {
    let budget = Budget::new(3, 0);
    let retries = Retries::builder().budget(budget.clone()).build().unwrap();
    for left in [2, 1, 0] {
        let (trying, at) = Kind::Keyed.trying(&retries);
        assert!(matches!(trying.failed(Failure::NeverSent, at), Step::Again { .. }));
        assert_eq!(budget.left(), left);
    }
    let (trying, at) = Kind::Keyed.trying(&retries);
    let Step::End(end) = trying.failed(Failure::NeverSent, at) else { panic!("nothing is left") };
    assert_eq!((end.verdict, end.limit), (NotSent, Some(Limit::Budget)));
}

#[test]
fn a_key_is_minted_for_post_and_patch_and_the_callers_own_is_never_touched() {
    let at = Instant::now();
    let retries = Retries::default();
    let minted = |method: &Method, with: &[(&str, &str)]| {
        let call = begin(&retries, method, &fields(with), at, |asked| asked).unwrap();
        call.minted().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
    };
    for method in [Method::POST, Method::PATCH] {
        let (name, value) = minted(&method, &[]).unwrap();
        assert_eq!(name, "idempotency-key");
        // The wall's milliseconds, version 7, and the octets that were handed in.
        assert_eq!(value, "\"00b690b4-34e8-7a5a-9a5a-5a5a5a5a5a5a\"");
        let parsed = semel_core::key::KeyRules::default().parse_value(value.as_bytes()).unwrap();
        assert!(parsed.minted().is_some() && parsed.is_strong());
        for own in ["order-1", "\"order-1\"", "", "not a key, but the caller's"] {
            assert_eq!(minted(&method, &[("idempotency-key", own)]), None);
        }
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        assert_eq!(minted(&method, &[]), None, "{method}");
    }
    let bare =
        Retries::builder().bare_keys().key_field("paypal-request-id".parse().unwrap()).build().unwrap();
    let call = begin(&bare, &Method::POST, &HeaderMap::new(), at, |asked| asked).unwrap();
    let (name, value) = call.minted().unwrap();
    assert_eq!((name.as_str(), value.len()), ("paypal-request-id", 36));
}

#[test]
fn a_body_that_cannot_be_sent_again_is_refused_before_the_first_try() {
    fn once(asked: semel_client::Asked<'_>) -> semel_client::Asked<'_> {
        asked.replayable(false)
    }
    let at = Instant::now();
    for method in [Method::POST, Method::PUT, Method::GET] {
        assert!(begin(&Retries::default(), &method, &HeaderMap::new(), at, once).is_err());
    }
    let single = begin(&Retries::default(), &Method::POST, &HeaderMap::new(), at, |asked| {
        asked.replayable(false).once(true)
    });
    let Step::End(end) = single.unwrap().send(at).unwrap().failed(Failure::NeverSent, at) else {
        panic!("one try is all")
    };
    assert_eq!((end.verdict, end.limit), (NotSent, Some(Limit::Tries)));
    let one = Retries::builder().tries(1).build().unwrap();
    assert!(begin(&one, &Method::POST, &HeaderMap::new(), at, once).is_ok());
}

#[test]
fn a_key_is_not_shown() {
    let call = begin(&Retries::default(), &Method::POST, &HeaderMap::new(), Instant::now(), |asked| asked);
    let call = call.unwrap();
    let value = call.key().unwrap().as_str().unwrap().trim_matches('"').to_owned();
    assert!(call.minted().unwrap().1.is_sensitive());
    for shown in [format!("{call:?}"), format!("{:?}", call.send(Instant::now()))] {
        assert!(!shown.contains(&value) && !shown.contains(&value[24..]), "{shown}");
    }
}
