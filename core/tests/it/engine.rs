//! The engine, event by event: what each answer of a store and of a handler comes to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use proptest::prelude::*;
use semel_core::engine::{
    Admission, Bypass, Claiming, Decision, Dispatch, End, Failure, FailureKind, Head, Next, Override,
    Persisted, Rejection, Reply, Running, Settling, Step, Unclaimed, admit,
};
use semel_core::fingerprint::{BodyMode, FingerprintSettings};
use semel_core::identity::Secret;
use semel_core::key::KeyFormat;
use semel_core::policy::keep::{Class, Keep, Outcome};
use semel_core::policy::{Policy, PolicyBuilder};
use semel_core::record::{
    ClaimId, Completion, Fence, NotKept, Record, RecordView, Recovery, State, StoredBody, StoredResponse,
    Timestamp,
};
use semel_core::scope::Scope;
use semel_core::store::{
    Acquired, Begin, Begun, Differs, Lease, ReleaseAs, Settled, StoreError, StoreErrorKind,
};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const BODY: &[u8] = br#"{"a":1}"#;

fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn parts(lines: &[(&'static str, &str)]) -> Parts {
    let mut request =
        Request::post("/orders").header("host", "shop.test").header("content-type", "application/json");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn keyed() -> Parts {
    parts(&[("idempotency-key", "\"k\"")])
}

pub(crate) fn policy(change: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Policy {
    change(Policy::builder()).build().unwrap()
}

fn claim(policy: &Policy, parts: &mut Parts) -> Result<Claiming, Rejection> {
    match admit(policy, parts) {
        Admission::Buffer(mut buffering) => {
            assert!(buffering.chunk(BODY));
            buffering.finish(&secret(), parts, BODY, ClaimId::from_u128(1), NOW)
        }
        Admission::Reject(rejection) => Err(rejection),
        Admission::Bypass => panic!("guarded"),
    }
}

pub(crate) fn claiming(policy: &Policy) -> (Claiming, Parts) {
    let mut parts = keyed();
    (claim(policy, &mut parts).unwrap(), parts)
}

fn answer(claiming: Claiming, parts: &Parts, begun: Begun) -> Decision {
    claiming.answer(begun, &secret(), parts, BODY, None)
}

fn acquired(ask: &Begin) -> Begun {
    let lease = Lease::new(ask.id, ask.claim, Fence::new(9).unwrap());
    Begun::Acquired(Acquired { lease, attempt: 1, progress: None })
}

pub(crate) fn running(policy: &Policy) -> Running {
    let (claiming, parts) = claiming(policy);
    let begun = acquired(claiming.ask());
    match answer(claiming, &parts, begun) {
        Decision::Run(running) => running,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn view(ask: &Begin, state: State) -> RecordView {
    RecordView {
        id: ask.id,
        state,
        fingerprint: Some(ask.fingerprint),
        settings: ask.settings.clone(),
        principal: ask.principal,
        recovery: Recovery::Hold,
        attempt: 1,
        fence: Fence::new(12).unwrap(),
        claim: ClaimId::from_u128(5),
        lease_until: (state == State::InFlight).then(|| NOW.plus(Duration::from_secs(20))),
        created: NOW,
        changed: NOW,
        expires: None,
        status: None,
        body_bytes: 0,
        progress: None,
        now: NOW,
    }
}

fn record(ask: &Begin, body: StoredBody) -> Record {
    let mut headers = http::HeaderMap::new();
    headers.insert("location", HeaderValue::from_static("/orders/1"));
    let response =
        StoredResponse { status: StatusCode::CREATED, headers, body, trailers: None, origin: None };
    Record {
        view: view(ask, State::Completed),
        completion: Arc::new(Completion { response: Some(response), reference: None }),
    }
}

pub(crate) fn kept(ask: &Begin) -> Record {
    record(ask, StoredBody::Kept(Bytes::from_static(b"winner")))
}

pub(crate) fn told(rejection: Rejection) -> (u16, String, http::HeaderMap) {
    let response = rejection.render(Uuid::nil());
    let code = String::from_utf8(response.body().to_vec()).unwrap();
    let code = code.split("\"code\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (response.status().as_u16(), code, response.headers().clone())
}

fn refused(decision: Decision) -> (u16, String, http::HeaderMap) {
    match decision {
        Decision::Reject(rejection) => told(rejection),
        other => panic!("{other:?}"),
    }
}

/// The contract's table of a claim's answers.
#[test]
fn each_answer_of_the_store_has_its_code_status_and_hint() {
    type Make = fn(&Begin) -> Begun;
    let cases: [(Make, u16, &str, Option<&str>); 8] = [
        (|_| Begun::Held { remaining: Duration::from_secs(20) }, 409, "in-flight", Some("1")),
        (|ask| Begun::Unknown(view(ask, State::Unknown)), 409, "outcome-unknown", None),
        (|_| Begun::Stale, 409, "in-flight", Some("1")),
        (|_| Begun::Expired, 400, "key-expired", None),
        (|_| Begun::OverQuota, 429, "quota-exceeded", Some("600")),
        (
            |ask| Begun::Settled(record(ask, StoredBody::NotKept(NotKept::TooLarge))),
            409,
            "replay-unavailable",
            None,
        ),
        (
            |ask| {
                Begun::Differs(Differs {
                    fingerprint: None,
                    settings: ask.settings.clone(),
                    same_principal: true,
                })
            },
            422,
            "key-reused",
            None,
        ),
        (
            |ask| {
                let settings = Arc::from("1;raw");
                Begun::Differs(Differs {
                    fingerprint: Some(ask.fingerprint),
                    settings,
                    same_principal: false,
                })
            },
            422,
            "key-reused",
            None,
        ),
    ];
    for (make, status, code, after) in cases {
        let (claiming, parts) = claiming(&policy(|p| p));
        let begun = make(claiming.ask());
        let (got, said, headers) = refused(answer(claiming, &parts, begun));
        assert_eq!((got, said.as_str()), (status, code));
        assert_eq!(headers.get("retry-after").map(|v| v.to_str().unwrap()), after, "{code}");
        assert_eq!(headers.contains_key("location"), code == "replay-unavailable");
    }
}

#[test]
fn a_head_is_judged_before_its_body() {
    let strict = policy(|p| p.require_key().key_format(KeyFormat::UuidV7));
    let ahead = Uuid::new_v7_at(NOW.plus(Duration::from_secs(301)));
    let soon = Uuid::new_v7_at(NOW.plus(Duration::from_secs(299)));
    for (mut parts, status, code) in [
        (parts(&[]), 400, "key-missing"),
        (parts(&[("idempotency-key", "k")]), 400, "key-invalid"),
        (parts(&[("idempotency-key", &ahead)]), 400, "key-invalid"),
        (parts(&[("idempotency-key", &soon), ("connection", "close, Idempotency-Key")]), 400, "key-invalid"),
        (parts(&[("idempotency-key", &soon), ("content-length", "1048577")]), 413, "content-too-large"),
    ] {
        let (got, said, _) = told(claim(&strict, &mut parts).unwrap_err());
        assert_eq!((got, said.as_str()), (status, code));
    }
    assert!(claim(&strict, &mut parts(&[("idempotency-key", &soon)])).is_ok());
    assert!(matches!(admit(&policy(|p| p), &mut parts(&[])), Admission::Bypass), "optional and missing");
    let mut opted_out = keyed();
    opted_out.extensions.insert(Bypass);
    assert!(matches!(admit(&policy(|p| p), &mut opted_out), Admission::Bypass));
    let mut own_rules = keyed();
    own_rules.extensions.insert(policy(|p| p.body_limit(3)));
    let Admission::Buffer(mut buffering) = admit(&policy(|p| p), &mut own_rules) else { panic!("guarded") };
    assert!(!buffering.chunk(BODY), "the request's own limit");
}

// A client that named the fence in `Connection` once had the next hop remove it, and an application that takes
// a request without one for unguarded could not tell an older run from a newer.
#[test]
fn a_connection_field_may_not_name_what_the_application_has_to_see() {
    let tenants = policy(|p| p.scope(Scope::header("x-tenant".parse().unwrap())));
    let cookies = policy(|p| p.scope(Scope::cookie("session")));
    let credentials = policy(|p| p);
    for (policy, named, code) in [
        (&credentials, "Idempotency-Fence", "key-invalid"),
        (&credentials, "keep-alive, idempotency-attempt", "key-invalid"),
        (&credentials, "Authorization", "principal-missing"),
        (&credentials, "x-api-key", "principal-missing"),
        (&tenants, "X-Tenant", "principal-missing"),
        (&cookies, "Cookie", "principal-missing"),
    ] {
        let lines = [
            ("idempotency-key", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\""),
            ("x-tenant", "t"),
            ("cookie", "session=s"),
            ("connection", named),
        ];
        let (status, said, _) = told(claim(policy, &mut parts(&lines)).unwrap_err());
        assert_eq!((status, said.as_str()), (400, code), "{named}");
    }
    assert!(
        claim(&credentials, &mut parts(&[("idempotency-key", "k"), ("connection", "close, x-y")])).is_ok()
    );
}

// `fetch(url, { method: "patch" })` sends `patch`, which many applications take for PATCH: it ran twice.
#[test]
fn a_method_that_differs_in_case_alone_is_guarded() {
    for method in ["POST", "post", "Patch", "patch"] {
        let mut parts = keyed();
        parts.method = method.parse().unwrap();
        assert!(matches!(admit(&policy(|p| p), &mut parts), Admission::Buffer(_)), "{method}");
    }
    for method in ["GET", "PUT", "PATCHY"] {
        let mut parts = keyed();
        parts.method = method.parse().unwrap();
        assert!(matches!(admit(&policy(|p| p), &mut parts), Admission::Bypass), "{method}");
    }
}

// Every call of gRPC is a POST: what is a stream must not be waited for, and what is not named needs no key.
#[test]
fn paths_say_what_is_guarded_where_methods_cannot() {
    let only = policy(|p| p.only_paths(["/orders"]).require_key());
    let except = policy(|p| p.except_paths(["/orders"]).require_key());
    assert!(matches!(admit(&only, &mut keyed()), Admission::Buffer(_)));
    assert!(matches!(admit(&only, &mut parts(&[])), Admission::Reject(_)));
    assert!(matches!(admit(&except, &mut keyed()), Admission::Bypass));
    assert!(
        matches!(admit(&except, &mut parts(&[])), Admission::Bypass),
        "a key is required of what is guarded"
    );
    let mut other = keyed();
    other.uri = "/watch?a=/orders".parse().unwrap();
    assert!(matches!(admit(&only, &mut other), Admission::Bypass));
    assert!(matches!(admit(&except, &mut other), Admission::Buffer(_)));
    assert!(Policy::builder().only_paths(["orders"]).build().is_err());
}

trait V7 {
    fn new_v7_at(at: Timestamp) -> String;
}

impl V7 for Uuid {
    fn new_v7_at(at: Timestamp) -> String {
        let millis = u64::try_from(at.as_millis()).unwrap();
        uuid::Builder::from_unix_timestamp_millis(millis, &[3; 10]).into_uuid().to_string()
    }
}

// Edge case 30.
#[test]
fn what_only_semel_may_say_is_removed_from_every_request() {
    for method in ["GET", "POST"] {
        let mut parts = parts(&[
            ("idempotency-attempt", "3"),
            ("idempotency-fence", "1"),
            ("idempotency-outcome", "applied"),
        ]);
        parts.method = method.parse().unwrap();
        assert!(matches!(admit(&policy(|p| p), &mut parts), Admission::Bypass));
        assert!(!parts.headers.keys().any(|name| name.as_str().starts_with("idempotency-")));
    }
}

// Edge case 14: judged by the record's own settings, in the same atomic comparison, and not for ever.
#[test]
fn a_deploy_that_changes_the_settings_asks_again_with_the_records() {
    let old = FingerprintSettings { body: BodyMode::Raw, ..FingerprintSettings::default() };
    let (before, _) = claiming(&policy(|p| p.fingerprint(old.clone())));
    let stored = Differs {
        fingerprint: Some(before.ask().fingerprint),
        settings: before.ask().settings.clone(),
        same_principal: true,
    };
    let (now, parts) = claiming(&policy(|p| p));
    let (mine, settings) = (now.ask().fingerprint, now.ask().settings.clone());
    let Decision::AskAgain(again) = answer(now, &parts, Begun::Differs(stored.clone())) else {
        panic!("again")
    };
    assert_eq!(again.ask().fingerprint, before.ask().fingerprint);
    assert_eq!(again.ask().settings, before.ask().settings);
    // Another body under the old settings is another request.
    let (other, _) = claiming(&policy(|p| p));
    let decision = other.answer(Begun::Differs(stored.clone()), &secret(), &parts, b"{\"a\":2}", None);
    assert_eq!(refused(decision).1, "key-reused");
    // A record that goes on changing its settings is given up on; one that never matched is not called in flight.
    let back = Differs { fingerprint: Some(mine), settings, same_principal: true };
    let mut decision = Decision::AskAgain(again);
    let mut rounds = 1;
    while let Decision::AskAgain(claiming) = decision {
        let differs = if rounds % 2 == 1 { back.clone() } else { stored.clone() };
        decision = answer(*claiming, &parts, Begun::Differs(differs));
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(refused(decision).1, "in-flight");
}

#[test]
fn fail_open_is_never_for_what_may_say_done() {
    for (kind, open) in [
        (StoreErrorKind::Unavailable, true),
        (StoreErrorKind::Full, true),
        (StoreErrorKind::Undecodable, false),
        (StoreErrorKind::NewerSchema, false),
    ] {
        let (claiming, _) = claiming(&policy(PolicyBuilder::fail_open));
        let unclaimed = claiming.failed(&StoreError::new("test", kind, "down"));
        assert_eq!(matches!(unclaimed, Unclaimed::RunUnguarded), open, "{kind:?}");
    }
    // A duplicate that waits knows its original.
    let (claiming, parts) = claiming(&policy(|p| p.fail_open().wait(Duration::from_secs(1))));
    let Decision::Wait(waiting) = answer(claiming, &parts, Begun::Held { remaining: Duration::from_secs(9) })
    else {
        panic!("waits")
    };
    let error = StoreError::new("test", StoreErrorKind::Unavailable, "down");
    assert!(matches!(waiting.again().failed(&error), Unclaimed::Reject(_)));
}

#[test]
fn prefer_wait_is_granted_up_to_its_cap_and_said_so() {
    let rules = policy(|p| p.prefer_wait(Duration::from_secs(5)));
    let mut asked = parts(&[("idempotency-key", "k"), ("prefer", "wait=60")]);
    let claiming = claim(&rules, &mut asked).unwrap();
    let Decision::Wait(waiting) = answer(claiming, &asked, Begun::Held { remaining: Duration::from_secs(9) })
    else {
        panic!("waits")
    };
    assert_eq!(waiting.budget(), Duration::from_secs(5));
    let (status, _, headers) = told(waiting.give_up());
    assert_eq!((status, headers["preference-applied"].to_str().unwrap()), (409, "wait=5"));
}

/// A hop before this one keeps 409s and holds 408s: it is told which refusals say that nothing ran.
#[test]
fn a_hop_behind_another_says_of_its_own_refusals_that_nothing_ran() {
    let behind = || parts(&[("idempotency-key", "k"), ("idempotency-attempt", "1")]);
    let buffering = |mut parts: Parts| match admit(&policy(|p| p), &mut parts) {
        Admission::Buffer(buffering) => buffering,
        other => panic!("{other:?}"),
    };
    let refusals = [
        buffering(behind()).too_slow(),
        buffering(behind()).incomplete(),
        buffering(behind()).overloaded(),
        buffering(behind()).over_quota(),
    ];
    for refusal in refusals {
        let (_, code, headers) = told(refusal);
        assert_eq!(headers["idempotency-outcome"], "not-applied", "{code}");
    }
    let (_, _, headers) = told(buffering(keyed()).too_slow());
    assert!(!headers.contains_key("idempotency-outcome"));
}

pub(crate) fn head(status: u16) -> http::response::Parts {
    Response::builder().status(status).body(()).unwrap().into_parts().0
}

pub(crate) fn whole() -> End {
    End::Whole { body: Bytes::from_static(b"own"), trailers: None }
}

pub(crate) fn settled_by(running: Running, mut parts: http::response::Parts, end: End) -> Settling {
    match running.respond(Head { parts: &mut parts, at_least: 0 }) {
        Next::Settle(settling) => *settling,
        Next::Capture(capturing) => capturing.end(end),
    }
}

#[test]
fn each_answer_settles_as_its_class_says() {
    let name = |settling: &Settling| match settling.step() {
        Step::Complete(_, completion, _) => match &completion.response.as_ref().unwrap().body {
            StoredBody::Kept(_) => "complete",
            StoredBody::NotKept(_) => "complete without body",
        },
        Step::Release(_, ReleaseAs::Retry, _) => "release",
        Step::Release(_, ReleaseAs::Forgotten, _) => "forget",
        Step::Abandon(_) => "abandon",
        Step::Commit(..) => "commit",
    };
    let with = |status: u16, decided: Override| {
        let mut parts = head(status);
        parts.extensions.insert(decided);
        parts
    };
    let field = |status: u16, name: &'static str, value: &'static str| {
        let mut parts = head(status);
        parts.headers.insert(name, HeaderValue::from_static(value));
        parts
    };
    let failed = |dispatch| {
        let mut parts = head(200);
        parts.extensions.insert(Failure { dispatch, kind: FailureKind::Upstream });
        parts
    };
    let plain = policy(|p| p);
    let by_field = Keep::from_fn("retry-after frees", |_, headers| {
        if headers.contains_key("retry-after") { Class::Release } else { Class::Store }
    });
    let custom = policy(|p| p.keep(by_field));
    for (policy, parts, end, step) in [
        (&plain, head(201), whole(), "complete"),
        (&plain, head(201), End::Overflow, "complete without body"),
        (&plain, head(201), End::Slow, "complete without body"),
        (&plain, head(201), End::Cut, "abandon"),
        (&plain, head(307), whole(), "forget"),
        (&plain, head(404), whole(), "complete"),
        (&plain, head(401), whole(), "release"),
        (&plain, head(408), whole(), "abandon"),
        (&plain, head(500), whole(), "release"),
        (&plain, head(502), whole(), "abandon"),
        (&plain, head(101), whole(), "complete without body"),
        (&plain, field(101, "idempotency-outcome", "not-applied"), whole(), "release"),
        (&plain, field(500, "idempotency-outcome", "applied"), whole(), "complete"),
        (&plain, field(200, "idempotency-outcome", "gibberish"), whole(), "abandon"),
        (&plain, field(200, "content-type", "text/event-stream"), whole(), "complete without body"),
        (&plain, field(200, "content-type", "application/grpc"), whole(), "abandon"),
        (&plain, with(500, Override::new().outcome(Outcome::Applied)), whole(), "complete"),
        (&plain, with(500, Override::new().keep(Keep::everything())), whole(), "complete"),
        (&plain, with(200, Override::new().drop_body()), whole(), "complete without body"),
        (&plain, with(200, Override::new().forget()), whole(), "forget"),
        (&plain, failed(Dispatch::Never), whole(), "release"),
        (&plain, failed(Dispatch::Maybe), whole(), "abandon"),
        // A field that is not stored was not seen when the answer was judged a second time.
        (&custom, field(200, "retry-after", "5"), whole(), "release"),
        (&custom, head(200), whole(), "complete"),
    ] {
        let case = format!("{parts:?} {end:?}");
        assert_eq!(name(&settled_by(running(policy), parts, end)), step, "{case}");
    }
    let grpc = |status: &'static str| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        let end = End::Whole { body: Bytes::new(), trailers: Some(trailers) };
        settled_by(running(&plain), field(200, "content-type", "application/grpc"), end)
    };
    assert_eq!([name(&grpc("0")), name(&grpc("14")), name(&grpc("16"))], ["complete", "abandon", "release"]);
}

fn reply(persisted: Persisted) -> Reply {
    match persisted {
        Persisted::Reply(reply) => *reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_overtaken_worker_shows_the_winners_answer_to_its_own_principal_alone() {
    let (asked, _) = claiming(&policy(|p| p));
    let overtake = |state| {
        let settling = settled_by(running(&policy(|p| p)), head(201), whole());
        let Persisted::Overtaken(overtaken) =
            settling.answer(Settled::Superseded(Box::new(view(asked.ask(), state))))
        else {
            panic!("overtaken")
        };
        overtaken
    };
    let winner = kept(asked.ask());
    let Reply::Replay(replay) = overtake(State::Completed).answer(Some(&winner)) else { panic!("replay") };
    assert_eq!(replay.body, "winner");
    let mut others = winner.clone();
    others.view.principal = Some(secret().principal_tag(b"somebody else"));
    let mut different = winner;
    different.view.fingerprint = None;
    for record in [Some(&others), Some(&different), None] {
        let Reply::Reject(rejection) = overtake(State::Completed).answer(record) else { panic!("refused") };
        assert_eq!(rejection.status(), 409);
    }
    for state in [State::InFlight, State::Released, State::Unknown] {
        let overtaken = overtake(state);
        assert!(overtaken.wants().is_none());
        assert!(matches!(overtaken.answer(None), Reply::Reject(rejection) if rejection.status() == 409));
    }
    // Deleted under the run: recorded nowhere, so no success.
    let settling = settled_by(running(&policy(|p| p)), head(201), whole());
    assert!(
        matches!(reply(settling.answer(Settled::Absent)), Reply::Reject(rejection) if rejection.status() == 500)
    );
}

proptest! {
    /// Whatever the answer and the store do, a kept answer goes out only after its completion was applied.
    #[test]
    fn a_kept_answer_leaves_only_after_it_is_recorded(
        status in prop_oneof![Just(200_u16), Just(201), Just(303), Just(404), Just(409), Just(500), Just(502)],
        end in 0..4_u8,
        answers in proptest::collection::vec(0..4_u8, 1..5),
    ) {
        let end = match end { 0 => whole(), 1 => End::Overflow, 2 => End::Slow, _ => End::Cut };
        let mut settling = settled_by(running(&policy(|p| p)), head(status), end);
        let keeps = matches!(settling.step(), Step::Complete(..));
        let (asked, _) = claiming(&policy(|p| p));
        for said in answers.into_iter().chain([0]) {
            let applied = said == 0;
            let persisted = match said {
                0 => settling.answer(Settled::Applied),
                1 => settling.answer(Settled::Superseded(Box::new(view(asked.ask(), State::Completed)))),
                2 => settling.answer(Settled::Absent),
                _ => settling.failed(),
            };
            match persisted {
                Persisted::Look(_) => panic!("there is no transaction"),
                Persisted::Instead(less) => settling = *less,
                Persisted::Reply(reply) => {
                    prop_assert!(!keeps || applied || !matches!(*reply, Reply::Live(_)));
                    return Ok(());
                }
                Persisted::Overtaken(overtaken) => {
                    let answer = overtaken.answer(Some(&kept(asked.ask())));
                    prop_assert!(!matches!(answer, Reply::Live(_)));
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "it never ended");
    }
}
