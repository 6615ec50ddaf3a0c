//! Unary calls: which run, and what a retry gets.

use std::io::Write as _;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use http::HeaderName;
use semel_core::policy::PolicyBuilder;
use semel_core::scope::Scope;

use super::call::{Answer, Call};
use super::fixture::Kind;
use super::hosts::on_every_host;

const KEY: &str = "0192f5c0-5d1e-7c3a-9f00-0a1b2c3d4e5f";

#[track_caller]
fn is_replay_of(again: &Answer, first: &Answer) {
    assert!(again.replayed() && !first.replayed(), "{again:?}");
    assert_eq!((&again.body, &again.trailers), (&first.body, &first.trailers));
    // Of the exchange, not of the answer; `trailer` names what comes.
    let of_the_exchange = ["date", "idempotency-replayed", "trailer", "via"];
    let fields = |answer: &Answer| {
        let mut fields = answer.headers.clone();
        for name in of_the_exchange {
            fields.remove(name);
        }
        fields
    };
    assert_eq!(fields(again), fields(first));
}

async fn a_call_that_is_sent_again_runs_once_and_gets_the_same_answer(on: Kind) {
    let host = on.start().await;
    let call = Call::place("a book").key(KEY);
    let first = host.send(&call).await;
    assert_eq!((first.number(), first.said("item").as_str()), (0, "a book"));
    assert_eq!(first.headers["x-order-bin"], "AP8B");
    assert!(first.trailers.is_some(), "the status of a message is in its trailers");
    is_replay_of(&host.send(&call).await, &first);
    let quoted = Call::place("a book").key(&format!("\"{KEY}\""));
    is_replay_of(&host.send(&quoted).await, &first);
    assert_eq!(host.effects(), 1);
}

/// What a library adds to a retry says nothing of the request.
async fn a_retry_by_a_library_is_the_same_call(on: Kind) {
    let host = on.start().await;
    let call = Call::place("a book").key(KEY);
    let first = host.send(&call.clone().with("grpc-timeout", "10S")).await;
    let retry = call.with("grpc-timeout", "8S").with("grpc-previous-rpc-attempts", "1");
    is_replay_of(&host.send(&retry).await, &first);
}

async fn trailing_metadata_is_recorded_and_replayed(on: Kind) {
    let host = on.start().await;
    let call = Call::new("/shop.Orders/Sum", "").key(KEY);
    let (first, again) = (host.send(&call).await, host.send(&call).await);
    assert!(again.replayed());
    let trailers = again.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2, 3"]);
    assert_eq!(trailers["x-sum-bin"], "AP8");
    // When to come again was said of that moment.
    assert!(first.trailers.unwrap().contains_key("grpc-retry-pushback-ms"));
    assert!(!trailers.contains_key("grpc-retry-pushback-ms"));
    assert_eq!((again.body, host.effects()), (first.body, 1));
}

async fn a_call_without_a_key_or_of_a_method_that_is_not_named_passes(on: Kind) {
    let host = on.start().await;
    for effects in 1..=2 {
        let unkeyed = host.send(&Call::place("a book")).await;
        assert_eq!((unkeyed.number(), unkeyed.said("attempt")), (0, String::new()));
        assert_eq!(host.effects(), 2 * effects - 1);
        let unnamed = host.send(&Call::new("/shop.Streams/Place", "a book").key(KEY)).await;
        assert_eq!((unnamed.replayed(), unnamed.said("attempt")), (false, String::new()));
        assert_eq!(host.effects(), 2 * effects);
    }
}

async fn a_handler_is_told_which_run_it_is_and_never_by_the_client(on: Kind) {
    let host = on.start().await;
    let forged = |method: &str| {
        let call = Call::new(method, "a book").with("idempotency-attempt", "7");
        call.with("idempotency-fence", "7").with("idempotency-outcome", "not-applied")
    };
    let run = host.send(&forged("/shop.Orders/Place").key(KEY)).await;
    assert_eq!((run.said("attempt"), run.said("outcome")), ("1".to_owned(), String::new()));
    let passed = host.send(&forged("/shop.Streams/Place").key(KEY)).await;
    assert_eq!((passed.said("attempt"), passed.said("outcome")), (String::new(), String::new()));
}

async fn a_duplicate_of_a_running_call_is_told_when_to_come_or_waits(on: Kind) {
    let host = on.start_with(|rules| rules.prefer_wait(Duration::from_secs(20))).await;
    let call = Call::place("a book").key(KEY).with("x-hold", "1");
    let first = host.start(&call);
    host.reaches(1).await;
    let busy = host.send(&call).await;
    assert_eq!(busy.refusal(), (10, "in-flight".into(), "same-key".into()));
    assert!(busy.headers["grpc-retry-pushback-ms"].to_str().unwrap().parse::<u32>().unwrap() >= 1000);
    let waiting = host.start(&call.clone().with("prefer", "wait=20"));
    host.shop.let_go(1);
    let (first, waited) = (first.await.unwrap(), waiting.await.unwrap());
    assert!(waited.replayed());
    assert_eq!((&waited.body, &waited.trailers), (&first.body, &first.trailers));
    is_replay_of(&host.send(&call).await, &first);
    assert_eq!(host.effects(), 1);
}

async fn of_many_calls_at_once_one_runs(on: Kind) {
    let host = on.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let call = Call::place("a book").key(KEY);
    let calls: Vec<_> = (0..16).map(|_| host.start(&call)).collect();
    let mut fresh = 0;
    for answer in calls {
        let answer = answer.await.unwrap();
        assert_eq!((answer.number(), answer.said("effect").as_str()), (0, "1"));
        fresh += usize::from(!answer.replayed());
    }
    assert_eq!((host.effects(), fresh), (1, 1));
}

async fn a_key_belongs_to_the_credentials_that_used_it_and_to_a_tenant(on: Kind) {
    let host = on.start().await;
    let call = |token: &str| Call::place("a book").key(KEY).with("authorization", token);
    let first = host.send(&call("Bearer ada")).await;
    let other = host.send(&call("Bearer bob")).await;
    assert_eq!(other.refusal(), (9, "key-reused".into(), "stop".into()));
    is_replay_of(&host.send(&call("Bearer ada")).await, &first);
    assert_eq!(host.effects(), 1);

    let tenants =
        on.start_with(|rules| rules.scope(Scope::header(HeaderName::from_static("x-tenant")))).await;
    let call = |tenant: &str| Call::place("a book").key("order-1").with("x-tenant", tenant);
    let (ada, bob) = (tenants.send(&call("ada")).await, tenants.send(&call("bob")).await);
    assert!(!ada.replayed() && !bob.replayed());
    is_replay_of(&tenants.send(&call("bob")).await, &bob);
    let nobody = tenants.send(&Call::place("a book").key("order-1")).await;
    assert_eq!(nobody.refusal(), (3, "principal-missing".into(), "stop".into()));
    assert_eq!(tenants.effects(), 2);
}

async fn a_client_that_hangs_up_cancels_nothing(on: Kind) {
    let host = on.start_with(|rules| rules.wait(Duration::from_secs(20))).await;
    let call = Call::place("a book").key(KEY).with("x-hold", "1");
    let gone = host.start(&call);
    host.reaches(1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let retry = host.start(&call);
    host.shop.let_go(1);
    let retry = retry.await.unwrap();
    assert_eq!((retry.replayed(), retry.number(), host.effects()), (true, 0, 1));
}

async fn an_answer_over_the_limit_flows_whole_and_its_retry_is_told(on: Kind) {
    let host = on.start_with(|rules| rules.capture_limit(1000)).await;
    let call = Call::place("a book").key(KEY).with("x-large", "300000");
    let first = host.send(&call).await;
    assert_eq!((first.number(), first.body.len()), (0, 300_005));
    let again = host.send(&call).await;
    assert_eq!(again.refusal(), (6, "replay-unavailable".into(), "reconcile".into()));
    assert_eq!(again.headers["grpc-retry-pushback-ms"], "-1");
    assert_eq!(host.effects(), 1);
}

/// A retry may take other codings than the first try did, so none is used unless the service says so.
async fn an_answer_is_not_compressed_unless_the_service_keeps_codings(on: Kind) {
    let host = on.start().await;
    let plain = Call::place("a book").key(KEY);
    let first = host.send(&plain.clone().with("grpc-accept-encoding", "gzip")).await;
    assert_eq!(first.said("takes"), "identity");
    assert!(!first.headers.contains_key("grpc-encoding"));
    is_replay_of(&host.send(&plain).await, &first);

    let keeps = |mut rules: PolicyBuilder| {
        rules.headers.keep_encodings = true;
        rules
    };
    let host = on.start_with(keeps).await;
    let first = host.send(&plain.clone().with("grpc-accept-encoding", "gzip")).await;
    assert_eq!((first.headers["grpc-encoding"].as_bytes(), first.body[0]), (b"gzip".as_slice(), 1));
    // Whatever this one takes: it is the same answer, and never a second run.
    is_replay_of(&host.send(&plain).await, &first);
    assert_eq!(host.effects(), 1);
}

/// What was sent is compared, with its frame: it is not decoded to be judged.
async fn a_compressed_message_is_compared_as_it_was_sent(on: Kind) {
    let host = on.start().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"a book").unwrap();
    let packed = gzip.finish().unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(1);
    frame.put_u32(u32::try_from(packed.len()).unwrap());
    frame.put_slice(&packed);
    let call = Call::place("").key(KEY).with("grpc-encoding", "gzip").raw(frame);
    let first = host.send(&call).await;
    assert_eq!((first.number(), first.said("item").as_str()), (0, "a book"));
    is_replay_of(&host.send(&call).await, &first);
    let plain = host.send(&Call::place("a book").key(KEY)).await;
    assert_eq!(plain.refusal().1, "key-reused");
    assert_eq!(host.effects(), 1);
}

on_every_host!(
    a_call_that_is_sent_again_runs_once_and_gets_the_same_answer,
    a_retry_by_a_library_is_the_same_call,
    trailing_metadata_is_recorded_and_replayed,
    a_call_without_a_key_or_of_a_method_that_is_not_named_passes,
    a_handler_is_told_which_run_it_is_and_never_by_the_client,
    a_duplicate_of_a_running_call_is_told_when_to_come_or_waits,
    of_many_calls_at_once_one_runs,
    a_key_belongs_to_the_credentials_that_used_it_and_to_a_tenant,
    a_client_that_hangs_up_cancels_nothing,
    an_answer_over_the_limit_flows_whole_and_its_retry_is_told,
    an_answer_is_not_compressed_unless_the_service_keeps_codings,
    a_compressed_message_is_compared_as_it_was_sent,
);
