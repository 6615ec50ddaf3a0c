//! Edge cases of the contract that a host can show, by their number there.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use semel_core::fingerprint::{BodyMode, FingerprintSettings};
use semel_core::store::Quota;
use semel_testkit::running::together;

use crate::client::{Connection, Look as _, Try, order_over_http2};
use crate::fixture::Kind;
use crate::hosts::on_every_host;
use crate::records::Records;

const BODY: &str = r#"{"item":1}"#;
const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

fn order() -> Try {
    Try::order(BODY).key(KEY)
}

/// Most duplicates come from clients that hung up: the run must end, and the retry find its answer.
async fn e01_a_client_that_hangs_up_cancels_nothing(on: Kind) {
    let host = on.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let request = order().line("x-hold", "1");
    let mut connection = host.open().await;
    connection.send(&request).await;
    host.reaches(1).await;
    drop(connection);
    let retry = host.start(&request);
    host.app.let_go(1);
    let retry = retry.await.unwrap();
    assert_eq!((retry.status(), retry.replayed(), host.effects()), (201, true, 1), "{retry:?}");
}

/// The original says "not done": of all that wait, one runs, and the others get its answer.
async fn e04_a_release_wakes_many_and_one_runs(on: Kind) {
    let host = on.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let request = order().line("x-hold", "1");
    let original = host.start(&request.clone().line("x-status", "503"));
    host.reaches(1).await;
    let waiters: Vec<_> = (0..16).map(|_| host.start(&request)).collect();
    host.app.let_go(1);
    assert_eq!(original.await.unwrap().status(), 503);
    host.reaches(2).await;
    host.app.let_go(16);
    let mut replayed = 0;
    for waiter in waiters {
        let answer = waiter.await.unwrap();
        assert_eq!(
            (answer.status(), answer.member("order"), answer.member("attempt")),
            (201, "2".into(), "2".into())
        );
        replayed += usize::from(answer.replayed());
    }
    assert_eq!((replayed, host.effects()), (15, 2));
}

/// A refused token is refreshed and the request sent again; a token that rotates after a success is another's.
async fn e07_a_refreshed_token_runs_and_a_rotated_one_is_refused(on: Kind) {
    let host = on.start().await;
    let by = |token: &str| order().line("Authorization", format!("Bearer {token}"));
    assert_eq!(host.send(&by("expired").line("x-status", "401")).await.status(), 401);
    let first = host.send(&by("fresh")).await;
    assert_eq!((first.status(), first.replayed(), host.effects()), (201, false, 2));
    let rotated = host.send(&by("rotated")).await;
    assert_eq!((rotated.status(), rotated.member("code"), host.effects()), (422, "key-reused".into(), 2));
}

async fn e08_quoted_bare_and_with_parameters_are_one_key(on: Kind) {
    let host = on.start().await;
    let forms = [KEY.to_owned(), format!("\"{KEY}\""), format!("\"{KEY}\";v=1"), format!("  \"{KEY}\"  ")];
    for (tried, form) in forms.into_iter().enumerate() {
        let answer = host.send(&Try::order(BODY).line("Idempotency-Key", form)).await;
        assert_eq!((answer.status(), answer.replayed(), host.effects()), (201, tried > 0, 1));
    }
}

/// What `Connection` names belongs to the first exchange: replayed, it would be taken for the answer's own.
async fn e09_a_field_named_in_connection_is_not_replayed(on: Kind) {
    let host = on.start().await;
    let request =
        order().line("x-add", "connection: X-Foo").line("x-add", "x-foo: 1").line("x-add", "x-bar: 1");
    assert_eq!(host.send(&request).await.one("x-bar"), Some("1"));
    let again = host.send(&request).await;
    assert!(again.replayed());
    assert_eq!((again.one("x-foo"), again.one("x-bar")), (None, Some("1")));
}

async fn e10_a_retry_that_takes_no_gzip_can_read_the_answer(on: Kind) {
    let host = on.start().await;
    let first = host.send(&order().line("Accept-Encoding", "gzip, br")).await;
    assert_eq!(first.member("accept-encoding"), "identity", "the application is asked for no coding");
    let again = host.send(&order().line("Accept-Encoding", "identity")).await;
    assert_eq!((again.replayed(), again.one("content-encoding")), (true, None));
    assert_eq!(again.body, first.body);
}

/// A replay with a length or a body that its status forbids breaks the connection for what comes after it.
async fn e12_answers_without_a_body_keep_their_shape_on_the_wire(on: Kind) {
    let host = on.start().await;
    let mut connection = host.open().await;
    for (status, length) in [(204, None), (303, Some("0"))] {
        let request = Try::order(BODY).key(&format!("k-{status}")).line("x-status", status.to_string());
        let first = connection.ask(&request).await;
        let again = connection.ask(&request).await;
        assert_eq!((first.status(), again.status(), again.replayed()), (status, status, true));
        assert_eq!([first.one("content-length"), again.one("content-length")], [length; 2], "{status}");
        assert_eq!((again.one("location"), again.body.len()), (first.one("location"), 0));
    }
    let before = host.effects();
    let elsewhere = Try::order(BODY).key("k-307").line("x-status", "307");
    for ran in 1..=2 {
        let answer = connection.ask(&elsewhere).await;
        assert_eq!((answer.status(), answer.replayed(), host.effects()), (307, false, before + ran));
    }
    let get = connection.ask(&Try::new("GET", "/orders/7").key("k-head")).await;
    assert_eq!(get.text(), "{\"order\":7}", "the connection is still in step");
}

async fn e12_a_head_request_is_told_the_length_of_what_it_does_not_get(on: Kind) {
    let host = on.start().await;
    let mut connection = host.open().await;
    let head = connection.ask(&Try::new("HEAD", "/orders/7").key("k-head")).await;
    assert_eq!((head.status(), head.one("content-length"), head.body.len()), (200, Some("11"), 0));
    let get = connection.ask(&Try::new("GET", "/orders/7").key("k-head")).await;
    assert_eq!(get.text(), "{\"order\":7}", "the connection is still in step");
}

/// The precondition was true when it ran. Judged again, the retry of a success would be told that it failed.
async fn e13_a_replay_never_meets_the_precondition_again(on: Kind) {
    let host = on.start().await;
    let change = Try::new("PATCH", "/orders/1").json(BODY).line("If-Match", "\"1\"");
    let first = host.send(&change.clone().key("k-1")).await;
    assert_eq!((first.status(), first.one("etag")), (200, Some("\"2\"")));
    let again = host.send(&change.clone().key("k-1")).await;
    assert_eq!((again.status(), again.replayed(), again.one("etag")), (200, true, Some("\"2\"")));
    assert_eq!(host.send(&change.key("k-2")).await.status(), 412);
    assert_eq!(host.effects(), 1);
}

/// Live keys survive a deploy that compares bodies in another way.
async fn e14_a_record_is_judged_by_the_settings_that_made_it(on: Kind) {
    let (store, _lies_in) = on.records.open().await;
    let before = on.start_on(store.clone(), |rules| rules).await;
    let first = before.send(&order()).await;
    let after = on
        .start_on(store, |rules| {
            rules.fingerprint(FingerprintSettings { body: BodyMode::Raw, ..FingerprintSettings::default() })
        })
        .await;
    let again = after.send(&order()).await;
    assert!(again.replayed(), "{again:?}");
    assert_eq!(again.body, first.body);
    let other = after.send(&Try::order(r#"{"item":2}"#).key(KEY)).await;
    assert_eq!((other.status(), after.effects()), (422, 0));
}

/// Many keys of one caller, and of none: each runs once and gets its own answer. A quota stops the one caller who is
/// over it, and nobody else.
async fn e15_many_keys_each_run_once_and_a_quota_binds_its_caller_alone(on: Kind) {
    const LANES: usize = 8;
    // What is durable waits for the disk, twice a key.
    let lane = if let Records::Memory = on.records { 250 } else { 50 };
    let host = on.start().await;
    for caller in [Some("Bearer one"), None] {
        let first = together((0..LANES).map(|n| many(host.base, caller, n * lane..(n + 1) * lane))).await;
        let again = together((0..LANES).map(|n| many(host.base, caller, n * lane..(n + 1) * lane))).await;
        for (first, again) in first.iter().flatten().zip(again.iter().flatten()) {
            assert_eq!((first.0, again.0), (false, true));
            assert_eq!(first.1, again.1);
        }
    }
    assert_eq!(host.effects(), 2 * LANES * lane);
    let limited = on.start_with(|rules| rules.quota(Quota { records: Some(3), bytes: None })).await;
    let by = |token: &str, key: usize| {
        Try::order(BODY).key(&format!("{token}-{key}")).line("Authorization", format!("Bearer {token}"))
    };
    let mut statuses = Vec::new();
    for key in 0..5 {
        statuses.push(limited.send(&by("greedy", key)).await.status());
    }
    assert_eq!(statuses, [201, 201, 201, 429, 429]);
    assert_eq!(limited.send(&by("modest", 0)).await.status(), 201);
    assert!(limited.send(&by("greedy", 0)).await.replayed(), "a quota counts new records only");
}

/// Orders under these keys, one after the other: whether each answer was a replay, and its nonce.
async fn many(to: SocketAddr, caller: Option<&'static str>, keys: Range<usize>) -> Vec<(bool, String)> {
    let mut connection = Connection::open(to).await;
    let mut told = Vec::new();
    for n in keys {
        let mut request = Try::order(BODY).key(&format!("{}-{n}", caller.map_or("none", |_| "one")));
        if let Some(caller) = caller {
            request = request.line("Authorization", caller);
        }
        let answer = connection.ask(&request).await;
        told.push((answer.replayed(), answer.member("nonce")));
    }
    told
}

/// A client library may change its protocol between two tries, or race both: `Host` and `:authority` are one.
async fn e18_both_versions_of_http_share_a_key(on: Kind) {
    let host = on.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let mut tries = Vec::new();
    for _ in 0..8 {
        tries.push(host.start(&order()));
        let base = host.base;
        tries.push(tokio::spawn(async move { order_over_http2(base, KEY, BODY).await }));
    }
    let mut replayed = 0;
    for one in tries {
        let answer = one.await.unwrap();
        assert_eq!((answer.status(), answer.member("order")), (201, "1".into()), "{answer:?}");
        replayed += usize::from(answer.replayed());
    }
    assert_eq!((replayed, host.effects()), (15, 1));
    let other = order_over_http2(host.base, KEY, r#"{"item":2}"#).await;
    assert_eq!((other.status(), other.member("code")), (422, "key-reused".into()));
}

/// Joined by a proxy the two would be one valid key that neither sender meant.
async fn e21_two_half_lines_are_not_joined(on: Kind) {
    let host = on.start().await;
    for path in ["/orders", "/notes"] {
        let halves = Try::new("POST", path).json(BODY);
        let halves = halves.line("Idempotency-Key", "\"a").line("Idempotency-Key", "b\"");
        let refused = host.send(&halves).await;
        assert_eq!((refused.status(), refused.member("code")), (400, "key-invalid".into()));
    }
    assert_eq!(host.effects(), 0);
}

/// Through a double 2^53 and 2^53+1 are one amount; and one amount has many spellings.
async fn e22_numbers_are_compared_by_their_exact_value(on: Kind) {
    let host = on.start().await;
    let same = [("1.0", "1"), ("1e400", "10e399"), ("0.10", "1e-1"), ("-0", "0")];
    let differ =
        [("9007199254740993", "9007199254740992"), ("1e400", "1e401"), ("0.1", "0.10000000000000001")];
    let cases = same.map(|pair| (pair, 201)).into_iter().chain(differ.map(|pair| (pair, 422)));
    for (n, ((first, second), status)) in cases.enumerate() {
        let pay = |amount: &str| Try::order(&format!("{{\"amount\":{amount}}}")).key(&format!("k-{n}"));
        assert_eq!(host.send(&pay(first)).await.status(), 201);
        assert_eq!(host.send(&pay(second)).await.status(), status, "{first} and {second}");
        assert_eq!(host.effects(), n + 1);
    }
}

/// Nobody knows how far the handler came: its client sees no success, and its retry does not run.
async fn e23_a_panic_leaves_the_outcome_unknown(on: Kind) {
    let host = on.start().await;
    let request = order().line("x-panic", "1");
    let mut connection = host.open().await;
    connection.send(&request).await;
    if let Some(answer) = connection.answer(false).await {
        assert!(answer.status() >= 500, "{answer:?}");
    }
    let again = host.send(&request).await;
    assert_eq!((again.status(), again.member("code")), (409, "outcome-unknown".into()));
    assert_eq!((again.member("retry"), host.effects()), ("reconcile".into(), 1));
}

async fn e24_a_body_of_the_limit_runs_and_one_byte_more_does_not(on: Kind) {
    let host = on.start_with(|rules| rules.body_limit(1000)).await;
    let sized = |bytes: usize| Try::new("POST", "/orders").key(KEY).body(&vec![b'x'; bytes]);
    for over in [sized(1001), sized(1001).trailers("")] {
        let refused = host.send(&over).await;
        assert_eq!((refused.status(), refused.member("code")), (413, "content-too-large".into()));
    }
    assert_eq!(host.effects(), 0);
    let fits = host.send(&sized(1000)).await;
    assert_eq!((fits.status(), fits.member("bytes"), host.effects()), (201, "1000".into(), 1));
}

/// Under `hold` a lease that is over frees nothing: a mismatch is refused as ever and changes nothing, an equal
/// request is told that the outcome is unknown, and the late run still has the last word.
async fn e26_a_mismatch_after_the_lease_changes_nothing(on: Kind) {
    let (store, clock) = on.records.open_with_clock().await;
    let host = on.start_on(store, |rules| rules).await;
    let request = order().line("x-hold", "1");
    let original = host.start(&request);
    host.reaches(1).await;
    clock.advance(Duration::from_secs(31)).await;
    let mismatch = host.send(&Try::order(r#"{"item":2}"#).key(KEY)).await;
    assert_eq!((mismatch.status(), mismatch.member("code")), (422, "key-reused".into()));
    let equal = host.send(&order()).await;
    assert_eq!((equal.status(), equal.member("code")), (409, "outcome-unknown".into()));
    host.app.let_go(1);
    let first = original.await.unwrap();
    assert_eq!((first.status(), first.replayed()), (201, false));
    let again = host.send(&order()).await;
    assert_eq!((again.replayed(), again.body == first.body, host.effects()), (true, true, 1));
}

/// A client that could say "this is attempt 7" or "applied" would steer the application or its own record.
async fn e30_forged_fields_never_reach_the_application(on: Kind) {
    let host = on.start().await;
    let forged = |request: Try| {
        request
            .line("Idempotency-Attempt", "7")
            .line("Idempotency-Fence", "1")
            .line("Idempotency-Outcome", "applied")
    };
    let guarded = host.send(&forged(order())).await;
    assert_eq!((guarded.member("attempt"), guarded.member("outcome")), ("1".into(), String::new()));
    for unguarded in [Try::new("POST", "/notes").json(BODY), Try::new("PUT", "/orders/1").json(BODY).key(KEY)]
    {
        let answer = host.send(&forged(unguarded)).await;
        assert_eq!((answer.member("attempt"), answer.member("outcome")), (String::new(), String::new()));
    }
}

on_every_host!(
    e01_a_client_that_hangs_up_cancels_nothing,
    e04_a_release_wakes_many_and_one_runs,
    e07_a_refreshed_token_runs_and_a_rotated_one_is_refused,
    e08_quoted_bare_and_with_parameters_are_one_key,
    e09_a_field_named_in_connection_is_not_replayed,
    e10_a_retry_that_takes_no_gzip_can_read_the_answer,
    e12_answers_without_a_body_keep_their_shape_on_the_wire,
    e12_a_head_request_is_told_the_length_of_what_it_does_not_get,
    e13_a_replay_never_meets_the_precondition_again,
    e14_a_record_is_judged_by_the_settings_that_made_it,
    e15_many_keys_each_run_once_and_a_quota_binds_its_caller_alone,
    e18_both_versions_of_http_share_a_key,
    e21_two_half_lines_are_not_joined,
    e22_numbers_are_compared_by_their_exact_value,
    e23_a_panic_leaves_the_outcome_unknown,
    e24_a_body_of_the_limit_runs_and_one_byte_more_does_not,
    e26_a_mismatch_after_the_lease_changes_nothing,
    e30_forged_fields_never_reach_the_application,
);
