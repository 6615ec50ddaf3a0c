//! Streams: untouched where they are not guarded; where they are by mistake, they end or flow, and never hang.

use std::time::Duration;

use super::call::{Answer, Call, next};
use super::fixture::Kind;
use super::hosts::on_every_host;
use super::shop::framed;
use crate::client::PATIENCE;

const KEY: &str = "0192f5c0-5d1e-7c3a-9f00-0a1b2c3d4e60";

/// The second message is sent only when the answer to the first is here.
async fn a_stream_that_is_not_guarded_goes_to_and_fro(on: Kind) {
    let host = on.start().await;
    for effects in 1..=2 {
        let open = Call::new("/shop.Streams/Chat", "one").key(KEY).open(host.address).await;
        let (mut messages, response) = open.head().await;
        assert!(!response.headers().contains_key("idempotency-replayed"));
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await.unwrap(), framed(b"one"));
        messages.send_data(framed(b"two")).await.unwrap();
        assert_eq!(next(&mut body).await.unwrap(), framed(b"two"));
        assert_eq!(host.effects(), effects);
    }
    for upload in 3..=4 {
        let call = Call::new("/shop.Streams/Upload", "one").key(KEY);
        assert_eq!((host.send(&call).await.number(), host.effects()), (0, upload));
    }
}

async fn an_endless_answer_that_is_not_guarded_flows_at_once(on: Kind) {
    let host = on.start_with(|rules| rules.capture_for(Duration::from_hours(1))).await;
    let open = Call::new("/shop.Streams/Watch", "").key(KEY).open(host.address).await;
    let mut body = open.ended().await.into_body();
    for tick in 0..3 {
        assert_eq!(next(&mut body).await.unwrap(), framed(format!("tick {tick}").as_bytes()));
    }
}

/// Its client waits for an answer before it goes on, and Semel for its end: the time for a body ends that.
async fn a_stream_of_requests_that_is_guarded_is_refused_in_time(on: Kind) {
    let host = on.start_with(|rules| rules.body_within(Duration::from_millis(200))).await;
    for method in ["/shop.Orders/Chat", "/shop.Orders/Upload"] {
        let open = Call::new(method, "one").key(KEY).open(host.address).await;
        let (_messages, response) = open.head().await;
        let refused = Answer::read(response).await.unwrap();
        assert_eq!(refused.refusal(), (10, "body-too-slow".into(), "same-key".into()));
    }
    assert_eq!(host.effects(), 0);
    let unary = host.send(&Call::place("a book").key(KEY)).await;
    assert_eq!((unary.number(), unary.said("attempt").as_str()), (0, "1"), "nothing was claimed");
}

async fn a_stream_of_requests_without_end_that_is_guarded_is_refused_at_the_limit(on: Kind) {
    let host = on.start_with(|rules| rules.body_limit(100_000)).await;
    let mut open = Call::new("/shop.Orders/Upload", "one").key(KEY).open(host.address).await;
    let sending = async {
        // Ends when the server takes no more.
        while open.messages.send_data(framed(&[b'x'; 10_000])).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("it goes on for ever");
    let refused = Answer::read(open.head().await.1).await.unwrap();
    assert_eq!(refused.refusal(), (11, "content-too-large".into(), "stop".into()));
    assert_eq!(host.effects(), 0);
}

/// A stream of requests that ends is a body like any other.
async fn a_stream_of_requests_that_ends_is_guarded_like_one_message(on: Kind) {
    let host = on.start().await;
    let messages = [framed(b"one"), framed(b"two")].concat();
    let call = Call::new("/shop.Orders/Upload", "").key(KEY).raw(messages);
    let (first, again) = (host.send(&call).await, host.send(&call).await);
    assert_eq!((first.number(), first.body.clone()), (0, framed(b"2 messages, effect 1")));
    assert!(again.replayed());
    assert_eq!((again.body, again.trailers), (first.body, first.trailers));
}

async fn an_endless_answer_that_is_guarded_flows_after_it_is_recorded_and_is_not_replayed(on: Kind) {
    let host = on.start_with(|rules| rules.capture_for(Duration::from_millis(200))).await;
    let call = Call::new("/shop.Orders/Watch", "").key(KEY);
    let response = call.open(host.address).await.ended().await;
    let mut body = response.into_body();
    let mut read = Vec::new();
    // More than was captured: the rest is live.
    while !String::from_utf8_lossy(&read).contains("tick 40") {
        read.extend_from_slice(&next(&mut body).await.expect("it has no end"));
    }
    assert!(read.starts_with(&framed(b"tick 0")), "from its beginning");
    let again = host.send(&call).await;
    assert_eq!(again.refusal(), (6, "replay-unavailable".into(), "reconcile".into()));
    assert_eq!(host.effects(), 1);
}

on_every_host!(
    a_stream_that_is_not_guarded_goes_to_and_fro,
    an_endless_answer_that_is_not_guarded_flows_at_once,
    a_stream_of_requests_that_is_guarded_is_refused_in_time,
    a_stream_of_requests_without_end_that_is_guarded_is_refused_at_the_limit,
    a_stream_of_requests_that_ends_is_guarded_like_one_message,
    an_endless_answer_that_is_guarded_flows_after_it_is_recorded_and_is_not_replayed,
);
