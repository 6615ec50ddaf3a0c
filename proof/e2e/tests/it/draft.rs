//! The statements of draft-ietf-httpapi-idempotency-key-header-07, numbered as in `docs/draft-07.md`.

use std::time::{Duration, SystemTime};

use semel_core::fingerprint::{BodyMode, FingerprintSettings};
use semel_core::key::KeyFormat;
use semel_core::policy::PolicyBuilder;
use semel_core::record::Retention;
use semel_core::scope::Scope;
use semel_testkit::wire::Message;

use crate::client::{Look as _, Try};
use crate::fixture::{Host, Kind};
use crate::hosts::on_every_host;

const B1: &str = r#"{"item":1,"lines":[1,2]}"#;
const B2: &str = r#"{"item":2,"lines":[1,2]}"#;
const UUID: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

/// A problem document of this code, with the link to its page that sections 2.7 asks for.
#[track_caller]
fn is_problem(answer: &Message, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{}", answer.text());
    assert_eq!(answer.one("content-type"), Some("application/problem+json"), "{}", answer.text());
    assert_eq!(answer.member("code"), code);
    assert_eq!(answer.member("status"), status.to_string());
    let link = format!("<{}>; rel=\"describedby\"; type=\"text/html\"", answer.member("type"));
    assert_eq!(answer.one("link"), Some(link.as_str()));
    assert!(answer.member("type").ends_with(&format!("/{code}")));
    assert_eq!(answer.one("content-language"), Some("en"));
    assert_eq!(answer.one("cache-control"), Some("no-store"));
    assert!(!answer.replayed());
}

#[track_caller]
fn is_replay_of(again: &Message, first: &Message) {
    assert!(again.replayed(), "{again:?}");
    assert!(!first.replayed());
    assert_eq!((again.status(), &again.body), (first.status(), &first.body));
    for name in ["content-type", "location", "content-length"] {
        assert_eq!(again.one(name), first.one(name), "{name}");
    }
}

#[derive(Clone, Copy)]
struct Vector<'a> {
    id: &'a str,
    lines: &'a [serde_json::Value],
    key: Option<&'a str>,
}

impl Vector<'_> {
    /// Vectors share keys, and must not share records.
    fn tenant(&self, body: &str) -> Try {
        Try::order(body).line("X-Tenant", self.id)
    }

    fn request(&self, body: &str) -> Try {
        self.lines.iter().fold(self.tenant(body), |request, line| {
            // The vectors' text is ISO-8859-1.
            let octets: Vec<u8> =
                line.as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            request.line("Idempotency-Key", octets)
        })
    }

    async fn holds(&self, host: &Host) {
        let before = host.effects();
        let answer = host.send(&self.request(B1)).await;
        let ran = host.effects() - before;
        let Some(key) = self.key else {
            assert_eq!((answer.status(), ran), (400, 0), "{}", self.id);
            return;
        };
        assert_eq!((answer.status(), ran), (201, 1), "{}", self.id);
        let escaped = key.replace('\\', "\\\\").replace('"', "\\\"");
        let quoted = host.send(&self.tenant(B1).key(&escaped)).await;
        assert!(quoted.replayed(), "{}: not the key that the vector says", self.id);
        assert_eq!(host.send(&self.tenant(B2).key(&escaped)).await.member("idempotency_key"), key);
    }
}

async fn n01_the_field_is_a_structured_string_item(on: Kind) {
    let text = include_str!("../../../../core/tests/data/sf-vectors.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() > 40);
    let lenient = on.start_with(by_tenant).await;
    let strict = on.start_with(|rules| by_tenant(rules).strict_keys()).await;
    for vector in vectors {
        let (id, lines) = (vector["id"].as_str().unwrap(), vector["lines"].as_array().unwrap().as_slice());
        let judged = Vector { id, lines, key: vector["lenient"].as_str() };
        judged.holds(&lenient).await;
        Vector { key: vector["strict"].as_str(), ..judged }.holds(&strict).await;
    }
}

/// The keys of a tenant are its own.
fn by_tenant(rules: PolicyBuilder) -> PolicyBuilder {
    rules.scope(Scope::header(http::HeaderName::from_static("x-tenant")))
}

/// The field is one of the header section: in trailers it is none.
async fn n01_a_key_in_the_trailer_section_is_no_key(on: Kind) {
    let host = on.start().await;
    let trailing =
        |path: &str| Try::new("POST", path).json(B1).trailers(&format!("Idempotency-Key: \"{UUID}\"\r\n"));
    is_problem(&host.send(&trailing("/orders")).await, 400, "key-missing");
    for effects in 1..=2 {
        assert_eq!(host.send(&trailing("/notes")).await.status(), 201);
        assert_eq!(host.effects(), effects);
    }
}

async fn n02_a_bare_value_is_refused_when_strict_and_else_the_same_key(on: Kind) {
    let bare = Try::order(B1).line("Idempotency-Key", UUID);
    let strict = on.start_with(PolicyBuilder::strict_keys).await;
    is_problem(&strict.send(&bare).await, 400, "key-invalid");
    assert_eq!(strict.effects(), 0);
    let lenient = on.start().await;
    let first = lenient.send(&Try::order(B1).key(UUID)).await;
    is_replay_of(&lenient.send(&bare).await, &first);
    assert_eq!(lenient.effects(), 1);
}

/// Also N3: the server does not depend on a client's keys being unique.
async fn n04_a_refused_reuse_does_not_spoil_the_record(on: Kind) {
    let host = on.start().await;
    let first = host.send(&Try::order(B1).key(UUID)).await;
    is_problem(&host.send(&Try::order(B2).key(UUID)).await, 422, "key-reused");
    is_replay_of(&host.send(&Try::order(B1).key(UUID)).await, &first);
    assert_eq!(host.effects(), 1);
}

/// Also N15, N16, N29 and N33: what is published says what the defaults are, and each code has its page.
async fn n05_the_policy_is_published_and_true(on: Kind) {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let policy = std::fs::read_to_string(docs.join("policy.md")).unwrap();
    let lives = Retention::default();
    for said in [
        format!("{} hours", lives.body.as_secs() / 3600),
        format!("{} days", lives.record.as_secs() / 86_400),
        format!("{} minutes", lives.released.as_secs() / 60),
        format!("1 to {} characters", semel_core::key::Key::MAX_LEN),
    ] {
        assert!(policy.contains(&said), "docs/policy.md does not say {said:?}");
    }
    let host = on.start().await;
    let refused = host.send(&Try::order(B1)).await;
    let uri = refused.member("type");
    let page = uri.rsplit('/').next().unwrap();
    assert!(docs.join(format!("problems/{page}.md")).is_file(), "{uri} leads nowhere");
}

async fn n07_random_identifiers_of_every_common_shape_are_accepted(on: Kind) {
    let host = on.start().await;
    let v7 = "0192f5c0-0000-7000-8000-000000000001";
    let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (effects, key) in [UUID, v7, ulid, "clkyoesmbgybucifusbbtdsbohtyuuwz"].into_iter().enumerate() {
        assert_eq!(host.send(&Try::order(B1).key(key)).await.status(), 201, "{key}");
        assert!(host.send(&Try::order(B1).key(key)).await.replayed());
        assert_eq!(host.effects(), effects + 1);
    }
}

/// A UUIDv7 made this many seconds from now.
fn v7(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let millis = i64::try_from(now).unwrap() + seconds * 1000;
    let hex = format!("{millis:012x}");
    format!("{}-{}-7000-8000-{:012x}", &hex[..8], &hex[8..], fastrand::u64(..1 << 48))
}

async fn n08_time_based_keys_tell_never_seen_from_forgotten(on: Kind) {
    let host = on.start_with(|rules| rules.key_format(KeyFormat::UuidV7)).await;
    let old = -i64::try_from(Retention::default().record.as_secs()).unwrap() - 3600;
    is_problem(&host.send(&Try::order(B1).key(UUID)).await, 400, "key-invalid");
    is_problem(&host.send(&Try::order(B1).key(&v7(old))).await, 400, "key-expired");
    is_problem(&host.send(&Try::order(B1).key(&v7(3600))).await, 400, "key-invalid");
    assert_eq!(host.effects(), 0);
    for (effects, ahead) in [(1, 0), (2, 60), (3, -3600)] {
        assert_eq!(host.send(&Try::order(B1).key(&v7(ahead))).await.status(), 201);
        assert_eq!(host.effects(), effects);
    }
}

async fn n09_after_its_life_a_key_is_new_and_its_body_goes_first(on: Kind) {
    let (store, clock) = on.records.open_with_clock().await;
    let host = on.start_on(store, |rules| rules).await;
    let lives = Retention::default();
    let first = host.send(&Try::order(B1).key(UUID)).await;
    clock.advance(lives.body.saturating_sub(Duration::from_mins(1))).await;
    is_replay_of(&host.send(&Try::order(B1).key(UUID)).await, &first);
    clock.advance(Duration::from_mins(2)).await;
    let gone = host.send(&Try::order(B1).key(UUID)).await;
    is_problem(&gone, 409, "replay-unavailable");
    assert_eq!(gone.one("location"), first.one("location"));
    assert_eq!(host.effects(), 1);
    clock.advance(lives.record).await;
    let anew = host.send(&Try::order(B1).key(UUID)).await;
    assert_eq!((anew.status(), anew.replayed(), host.effects()), (201, false, 2));
}

async fn n10_without_a_fingerprint_of_the_body_the_key_alone_decides(on: Kind) {
    let host = on
        .start_with(|rules| {
            rules.fingerprint(FingerprintSettings { body: BodyMode::Off, ..FingerprintSettings::default() })
        })
        .await;
    let first = host.send(&Try::order(B1).key(UUID)).await;
    is_replay_of(&host.send(&Try::order(B2).key(UUID)).await, &first);
    assert_eq!(host.effects(), 1);
}

/// Sends the first body, then each other one under the same key: 201 replays or 422.
async fn compares(host: &Host, first: &str, others: &[(&str, bool)]) {
    assert_eq!(host.send(&Try::order(first).key(UUID)).await.status(), 201);
    for (body, same) in others {
        let answer = host.send(&Try::order(body).key(UUID)).await;
        assert_eq!(answer.status(), if *same { 201 } else { 422 }, "{first} and {body}");
    }
    assert_eq!(host.effects(), 1);
}

async fn n11_each_way_to_compare_does_what_it_says(on: Kind) {
    let json = on.start().await;
    let others = [
        (r#"{ "b" : {"d":null}, "a":[1,2] }"#, true),
        (r#"{"a":[1,2],"b":{"d":null}}"#, true),
        (r#"{"a":[2,1],"b":{"d":null}}"#, false),
        (r#"{"a":[1,2],"b":{}}"#, false),
    ];
    compares(&json, r#"{"a":[1,2],"b":{"d":null}}"#, &others).await;
    let raw = on
        .start_with(|rules| {
            rules.fingerprint(FingerprintSettings { body: BodyMode::Raw, ..FingerprintSettings::default() })
        })
        .await;
    compares(&raw, r#"{"a":1}"#, &[(r#"{"a":1}"#, true), (r#"{"a": 1}"#, false)]).await;
    let pointers = on
        .start_with(|rules| {
            let exclude = vec!["/client_ts".parse().unwrap()];
            rules.fingerprint(FingerprintSettings { exclude, ..FingerprintSettings::default() })
        })
        .await;
    let others = [(r#"{"amount":5,"client_ts":2}"#, true), (r#"{"amount":6,"client_ts":1}"#, false)];
    compares(&pointers, r#"{"amount":5,"client_ts":1}"#, &others).await;
    let digest = on
        .start_with(|rules| {
            let headers = vec![http::HeaderName::from_static("content-digest")];
            rules.fingerprint(FingerprintSettings {
                body: BodyMode::Off,
                headers,
                ..FingerprintSettings::default()
            })
        })
        .await;
    let with = |digest: &str| Try::order(B1).key(UUID).line("Content-Digest", format!("sha-256=:{digest}:"));
    assert_eq!(digest.send(&with("AAAA")).await.status(), 201);
    assert!(digest.send(&with("AAAA")).await.replayed());
    is_problem(&digest.send(&with("BBBB")).await, 422, "key-reused");
}

/// A key where none is looked at is no error: the request is processed as if it were not there.
async fn n13_a_key_on_an_operation_that_ignores_it_changes_nothing(on: Kind) {
    let host = on.start().await;
    for _ in 0..2 {
        let read = host.send(&Try::new("GET", "/orders/7").key(UUID)).await;
        assert_eq!((read.status(), read.replayed(), read.text().as_str()), (200, false, "{\"order\":7}"));
    }
    for effects in 1..=2 {
        let put = host.send(&Try::new("PUT", "/orders/7").json(B1).key(UUID)).await;
        assert_eq!((put.status(), put.replayed(), host.effects()), (201, false, effects));
    }
}

async fn n17_the_name_of_the_field_has_no_case(on: Kind) {
    let host = on.start().await;
    let first = host.send(&Try::order(B1).key(UUID)).await;
    for name in ["IDEMPOTENCY-KEY", "idempotency-key", "iDeMpOtEnCy-kEy"] {
        let again = host.send(&Try::order(B1).line(name, format!("\"{UUID}\""))).await;
        is_replay_of(&again, &first);
    }
    assert_eq!(host.effects(), 1);
}

/// Also N14 and N19: the same payload under a new key is a new operation, never a duplicate by its looks.
async fn n20_a_first_request_is_processed_normally(on: Kind) {
    let host = on.start().await;
    for (effects, key) in [(1, "k-1"), (2, "k-2")] {
        let answer = host.send(&Try::order(B1).key(key)).await;
        assert_eq!((answer.status(), answer.replayed(), host.effects()), (201, false, effects));
        assert_eq!(answer.member("order"), effects.to_string());
    }
}

async fn n21_a_retry_gets_the_first_result_success_or_error(on: Kind) {
    let host = on.start().await;
    for (effects, status) in ["201", "200", "422", "404", "402", "409"].into_iter().enumerate() {
        let request = Try::order(B1).key(&format!("k-{status}")).line("x-status", status);
        let first = host.send(&request).await;
        assert_eq!(first.status().to_string(), status);
        is_replay_of(&host.send(&request).await, &first);
        assert_eq!(host.effects(), effects + 1);
    }
}

/// Also N26.
async fn n22_a_duplicate_in_between_is_a_conflict(on: Kind) {
    let host = on.start().await;
    let request = Try::order(B1).key(UUID).line("x-hold", "1");
    let original = host.start(&request);
    host.reaches(1).await;
    let conflict = host.send(&request).await;
    is_problem(&conflict, 409, "in-flight");
    assert!(conflict.one("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!((conflict.member("retry"), conflict.member("retryable")), ("same-key".into(), "true".into()));
    host.app.let_go(1);
    let first = original.await.unwrap();
    is_replay_of(&host.send(&request).await, &first);
    assert_eq!(host.effects(), 1);
}

async fn n22_of_sixty_four_at_once_one_runs(on: Kind) {
    let host = on.start().await;
    let request = Try::order(B1).key(UUID);
    let tries: Vec<_> = (0..64).map(|_| host.start(&request)).collect();
    let mut nonces = Vec::new();
    for one in tries {
        let answer = one.await.unwrap();
        match answer.status() {
            201 => nonces.push((answer.replayed(), answer.member("nonce"))),
            _ => is_problem(&answer, 409, "in-flight"),
        }
    }
    assert_eq!(nonces.iter().filter(|(replayed, _)| !replayed).count(), 1, "{nonces:?}");
    assert!(nonces.iter().all(|(_, nonce)| *nonce == nonces[0].1));
    assert_eq!(host.effects(), 1);
}

/// Also N24: `is_problem` reads the `Link`.
async fn n23_a_missing_key_is_refused_where_one_is_required(on: Kind) {
    let host = on.start().await;
    let refused = host.send(&Try::order(B1)).await;
    is_problem(&refused, 400, "key-missing");
    assert!(refused.member("detail").to_lowercase().contains("idempotency-key"));
    assert_eq!(host.effects(), 0);
    let note = Try::new("POST", "/notes").json(B1);
    assert_eq!(host.send(&note).await.status(), 201);
    assert_eq!(host.send(&note).await.status(), 201);
    assert_eq!(host.effects(), 2);
}

/// Waiting never mends a mismatch: 422 also while the first request runs.
async fn n25_a_reused_key_is_refused_also_in_flight(on: Kind) {
    let host = on.start().await;
    let request = Try::order(B1).key(UUID).line("x-hold", "1");
    let original = host.start(&request);
    host.reaches(1).await;
    is_problem(&host.send(&Try::order(B2).key(UUID)).await, 422, "key-reused");
    let elsewhere = Try::new("POST", "/notes").json(B1).key(UUID);
    is_problem(&host.send(&elsewhere).await, 422, "key-reused");
    host.app.let_go(1);
    let first = original.await.unwrap();
    is_problem(&host.send(&Try::order(B2).key(UUID)).await, 422, "key-reused");
    is_replay_of(&host.send(&request).await, &first);
    assert_eq!(host.effects(), 1);
}

/// The only MUST for a server besides the published policy.
async fn n28_a_request_that_was_not_corrected_fails_each_time(on: Kind) {
    let host = on.start().await;
    assert_eq!(host.send(&Try::order(B1).key(UUID)).await.status(), 201);
    for _ in 0..3 {
        is_problem(&host.send(&Try::order(B1)).await, 400, "key-missing");
        is_problem(&host.send(&Try::order(B1).key("")).await, 400, "key-invalid");
        is_problem(&host.send(&Try::order(B2).key(UUID)).await, 422, "key-reused");
    }
    assert_eq!(host.effects(), 1);
}

async fn n31_a_key_is_looked_up_as_it_is_and_never_interpreted(on: Kind) {
    let host = on.start().await;
    let keys =
        ["%", "%25", "k'; DROP TABLE records; --", "{}", "*", "k*", "?", "../k", "k\\\\n", "${k}", "k", "K"];
    for (effects, key) in keys.into_iter().enumerate() {
        let first = host.send(&Try::order(B1).key(key)).await;
        assert_eq!((first.status(), first.replayed(), host.effects()), (201, false, effects + 1), "{key}");
    }
    for key in keys {
        assert!(host.send(&Try::order(B1).key(key)).await.replayed(), "{key}");
    }
    for refused in ["k\u{e9}".to_owned(), "k".repeat(8192)] {
        assert_eq!(host.send(&Try::order(B1).key(&refused)).await.status(), 400);
    }
    assert_eq!(host.effects(), keys.len());
}

/// The contract differs from a composite key here: another's key is refused, which leaks no answer either.
async fn n32_nobody_gets_the_answer_of_another_caller(on: Kind) {
    let host = on.start().await;
    let by =
        |token: &str, body: &str| Try::order(body).key(UUID).line("Authorization", format!("Bearer {token}"));
    let first = host.send(&by("alice", B1)).await;
    let other = host.send(&by("mallory", B1)).await;
    is_problem(&other, 422, "key-reused");
    let nobody = host.send(&Try::order(B1).key(UUID)).await;
    is_problem(&nobody, 422, "key-reused");
    // Word for word what another payload gets, so that nothing tells whose key it is.
    let payload = host.send(&by("alice", B2)).await;
    assert_eq!(other.member("detail"), payload.member("detail"));
    assert!(!other.text().contains(&first.member("nonce")));
    is_replay_of(&host.send(&by("alice", B1)).await, &first);
    assert_eq!(host.effects(), 1);
}

async fn n33_a_key_has_a_fixed_format_with_published_bounds(on: Kind) {
    let host = on.start().await;
    for (length, status) in [(0, 400), (1, 201), (255, 201), (256, 400)] {
        for quoted in [true, false] {
            let key = "k".repeat(length);
            let value = if quoted { format!("\"{key}\"") } else { key };
            let answer = host.send(&Try::order(B1).line("Idempotency-Key", value)).await;
            assert_eq!(answer.status(), status, "{length}");
        }
    }
    assert_eq!(host.effects(), 2);
}

/// The refusal does not wait for the body: no 100 asks for it, and none of it is sent.
async fn n34_a_bad_key_is_refused_before_the_body_and_the_handler(on: Kind) {
    let host = on.start().await;
    let mut connection = host.open().await;
    let head = Try::order("").line("Idempotency-Key", "\"unterminated").line("Expect", "100-continue");
    connection.send_head(&head, 1024 * 1024).await;
    let answer = connection.answer(false).await.unwrap();
    is_problem(&answer, 400, "key-invalid");
    assert_eq!(host.effects(), 0);
}

/// With a stable principal the key is its own: two tenants use one key, and a rotated token changes nothing.
async fn n35_a_stable_principal_makes_the_key_its_own(on: Kind) {
    let host = on.start_with(by_tenant).await;
    let by = |tenant: &str, token: &str| {
        let request = Try::order(B1).key("order-1").line("X-Tenant", tenant);
        request.line("Authorization", format!("Bearer {token}"))
    };
    let first = host.send(&by("a", "old")).await;
    let other = host.send(&by("b", "old")).await;
    assert_eq!((other.status(), other.replayed(), host.effects()), (201, false, 2));
    assert_ne!(first.member("nonce"), other.member("nonce"));
    is_replay_of(&host.send(&by("a", "rotated")).await, &first);
    is_problem(&host.send(&Try::order(B1).key("order-1")).await, 400, "principal-missing");
    assert_eq!(host.effects(), 2);
}

on_every_host!(
    n01_the_field_is_a_structured_string_item,
    n01_a_key_in_the_trailer_section_is_no_key,
    n02_a_bare_value_is_refused_when_strict_and_else_the_same_key,
    n04_a_refused_reuse_does_not_spoil_the_record,
    n05_the_policy_is_published_and_true,
    n07_random_identifiers_of_every_common_shape_are_accepted,
    n08_time_based_keys_tell_never_seen_from_forgotten,
    n09_after_its_life_a_key_is_new_and_its_body_goes_first,
    n10_without_a_fingerprint_of_the_body_the_key_alone_decides,
    n11_each_way_to_compare_does_what_it_says,
    n13_a_key_on_an_operation_that_ignores_it_changes_nothing,
    n17_the_name_of_the_field_has_no_case,
    n20_a_first_request_is_processed_normally,
    n21_a_retry_gets_the_first_result_success_or_error,
    n22_a_duplicate_in_between_is_a_conflict,
    n22_of_sixty_four_at_once_one_runs,
    n23_a_missing_key_is_refused_where_one_is_required,
    n25_a_reused_key_is_refused_also_in_flight,
    n28_a_request_that_was_not_corrected_fails_each_time,
    n31_a_key_is_looked_up_as_it_is_and_never_interpreted,
    n32_nobody_gets_the_answer_of_another_caller,
    n33_a_key_has_a_fixed_format_with_published_bounds,
    n34_a_bad_key_is_refused_before_the_body_and_the_handler,
    n35_a_stable_principal_makes_the_key_its_own,
);
