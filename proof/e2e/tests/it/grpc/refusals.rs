//! What Semel itself says, as the status of a call with its details.

use semel_core::policy::{PolicyBuilder, Profile};
use semel_core::store::{StoreError, StoreErrorKind};
use semel_gateway::NotOpen;

use super::call::Call;
use super::fixture::Kind;
use super::hosts::on_every_host;

async fn a_key_that_is_missing_or_malformed_is_refused(on: Kind) {
    let host = on.start_with(PolicyBuilder::require_key).await;
    let missing = host.send(&Call::place("a book")).await;
    assert_eq!(missing.refusal(), (3, "key-missing".into(), "new-key".into()));
    assert_eq!(missing.headers["grpc-retry-pushback-ms"], "-1");
    for call in [
        Call::place("a book").key("\"open"),
        Call::place("a book").key(""),
        Call::place("a book").key("one").key("two"),
        Call::place("a book").key(&"x".repeat(256)),
    ] {
        assert_eq!(host.send(&call).await.refusal(), (3, "key-invalid".into(), "new-key".into()), "{call:?}");
    }
    assert_eq!(host.effects(), 0);
    let unguarded = host.send(&Call::new("/shop.Streams/Place", "a book")).await;
    assert_eq!(unguarded.number(), 0, "a key is required where calls are guarded");
}

async fn a_key_of_another_message_or_method_is_refused_and_changes_nothing(on: Kind) {
    let host = on.start().await;
    let call = Call::place("a book").key("order-1");
    let first = host.send(&call).await;
    for other in [Call::place("a horse"), Call::new("/shop.Orders/Part", "a book")] {
        let refused = host.send(&other.key("order-1")).await;
        assert_eq!(refused.refusal(), (9, "key-reused".into(), "stop".into()));
        let status = refused.status().unwrap();
        assert!(status.message().contains("another payload or under other credentials"));
    }
    let again = host.send(&call).await;
    assert!(again.replayed());
    assert_eq!((again.body, host.effects()), (first.body, 1));
}

async fn a_store_that_is_down_lets_nothing_run(on: Kind) {
    let down = NotOpen::new(&StoreError::new("test", StoreErrorKind::Unavailable, "down")).unwrap();
    let host = on.start_on(down.store(), |rules| rules).await;
    let refused = host.send(&Call::place("a book").key("order-1")).await;
    assert_eq!(refused.refusal(), (14, "store-unavailable".into(), "same-key".into()));
    assert_eq!(refused.headers["grpc-retry-pushback-ms"], "1000");
    assert_eq!(host.effects(), 0);
    assert_eq!(host.send(&Call::place("a book")).await.number(), 0, "what has no key passes");
}

async fn a_message_over_the_limit_is_refused(on: Kind) {
    let host = on.start_with(|rules| rules.body_limit(105)).await;
    let fits = host.send(&Call::place(&"x".repeat(100)).key("order-1")).await;
    assert_eq!(fits.number(), 0, "the limit is of the bytes on the wire, with their frame of five");
    let refused = host.send(&Call::place(&"x".repeat(101)).key("order-2")).await;
    assert_eq!(refused.refusal(), (11, "content-too-large".into(), "stop".into()));
    assert_eq!(host.effects(), 1);
}

/// The envelope of a known HTTP API is nothing that a client of gRPC can read.
async fn a_profile_changes_no_status(on: Kind) {
    let host = on.start_with(|rules| rules.profile(Profile::ALL[0])).await;
    let first = host.send(&Call::place("a book").key("order-1")).await;
    assert_eq!(first.number(), 0);
    let refused = host.send(&Call::place("a horse").key("order-1")).await;
    assert_eq!(refused.refusal(), (9, "key-reused".into(), "stop".into()));
}

on_every_host!(
    a_key_that_is_missing_or_malformed_is_refused,
    a_key_of_another_message_or_method_is_refused_and_changes_nothing,
    a_store_that_is_down_lets_nothing_run,
    a_message_over_the_limit_is_refused,
    a_profile_changes_no_status,
);
