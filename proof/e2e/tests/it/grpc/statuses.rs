//! Which answers are kept, by the status of the call and not by HTTP's 200.

use super::call::{Answer, Call};
use super::fixture::{Host, Kind};
use super::hosts::on_every_host;

/// The contract's table, for all the codes there are.
fn meant(code: i32) -> &'static str {
    match code {
        1 | 2 | 4 | 13 | 14 => "unknown",
        7 | 8 | 16 => "released",
        _ => "kept",
    }
}

async fn twice(host: &Host, call: &Call) -> (Answer, Answer) {
    (host.send(call).await, host.send(call).await)
}

/// Of an answer that ended with this code, and of its retry.
#[track_caller]
fn is_judged(code: i32, first: &Answer, again: &Answer) {
    assert_eq!((first.number(), first.replayed()), (code, false));
    assert_eq!(first.headers.contains_key("idempotency-outcome"), meant(code) == "unknown", "{code}");
    match meant(code) {
        "kept" => {
            assert!(again.replayed(), "{code}");
            assert_eq!((&again.body, &again.trailers), (&first.body, &first.trailers), "{code}");
        }
        "released" => assert_eq!((again.number(), again.replayed()), (code, false)),
        _ => assert_eq!(again.refusal(), (2, "outcome-unknown".into(), "reconcile".into()), "{code}"),
    }
}

async fn every_status_in_an_answer_of_trailers_alone_is_judged_by_itself(on: Kind) {
    let host = on.start().await;
    let mut effects = 0;
    for code in 1..=16 {
        let call = Call::place("a book").key(&format!("order-{code}")).with("x-status", &code.to_string());
        let (first, again) = twice(&host, &call).await;
        assert!(first.trailers.is_none() && first.headers.contains_key("grpc-status"));
        is_judged(code, &first, &again);
        effects += if meant(code) == "released" { 2 } else { 1 };
        assert_eq!(host.effects(), effects, "{code}");
        if meant(code) == "kept" {
            let told = again.status().unwrap();
            assert_eq!((told.message(), told.details()), ("100% no\nélan", b"\x08\x05details".as_slice()));
            assert_eq!(told.metadata().get("x-why").unwrap(), "because");
            assert_eq!(told.metadata().get_bin("x-why-bin").unwrap().to_bytes().unwrap().as_ref(), [254, 0]);
        }
    }
}

/// The head of these says nothing: judged by it, an UNAVAILABLE would be replayed for a day.
async fn every_status_behind_a_message_is_judged_when_it_is_there(on: Kind) {
    let host = on.start().await;
    let mut effects = 0;
    for code in 0..=16 {
        let mut call = Call::new("/shop.Orders/Part", "").key(&format!("part-{code}"));
        if code != 0 {
            call = call.with("x-status", &code.to_string());
        }
        let (first, again) = twice(&host, &call).await;
        assert!(!first.headers.contains_key("grpc-status") && !first.body.is_empty(), "{code}: {first:?}");
        is_judged(code, &first, &again);
        effects += if meant(code) == "released" { 2 } else { 1 };
        assert_eq!(host.effects(), effects, "{code}");
        if meant(code) == "kept" && code != 0 {
            let told = again.status().unwrap();
            assert_eq!((told.message(), told.details()), ("100% no\nélan", b"\x08\x05details".as_slice()));
            assert_eq!(told.metadata().get("x-why").unwrap(), "because");
        }
    }
}

async fn the_application_has_the_last_word(on: Kind) {
    let host = on.start().await;
    let said = |status: &str, outcome: &str| {
        let call = Call::place("a book").key(&format!("order-{status}-{outcome}"));
        let call = if status == "0" { call } else { call.with("x-status", status) };
        call.with("x-outcome", outcome)
    };
    let (first, again) = twice(&host, &said("14", "applied")).await;
    assert_eq!((first.number(), again.number(), again.replayed()), (14, 14, true));
    assert!(!first.headers.contains_key("idempotency-outcome"), "it was for Semel");
    let (_, again) = twice(&host, &said("0", "not-applied")).await;
    assert_eq!((again.replayed(), again.said("attempt").as_str()), (false, "2"));
    let (_, again) = twice(&host, &said("0", "unknown")).await;
    assert_eq!(again.refusal().1, "outcome-unknown");
}

/// An answer that ends without a status was cut, whatever its messages say.
async fn an_answer_without_a_status_leaves_the_outcome_unknown(on: Kind) {
    let host = on.start().await;
    let call = Call::new("/shop.Orders/Cut", "").key("order-cut");
    let (first, again) = twice(&host, &call).await;
    assert!(first.status().is_none(), "its client sees what there was: {first:?}");
    assert_eq!(again.refusal(), (2, "outcome-unknown".into(), "reconcile".into()));
    assert_eq!(host.effects(), 1);
}

async fn a_panic_leaves_the_outcome_unknown(on: Kind) {
    let host = on.start().await;
    let call = Call::place("a book").key("order-panic").with("x-panic", "1");
    // The stream is reset, or a gateway before it says what that means.
    if let Some(first) = call.try_send(host.address).await {
        assert_eq!(first.refusal().1, "outcome-unknown");
        assert_eq!(first.headers["idempotency-outcome"], "unknown");
    }
    let again = host.send(&call).await;
    assert_eq!(again.refusal(), (2, "outcome-unknown".into(), "reconcile".into()));
    assert_eq!(host.effects(), 1);
}

on_every_host!(
    every_status_in_an_answer_of_trailers_alone_is_judged_by_itself,
    every_status_behind_a_message_is_judged_when_it_is_there,
    the_application_has_the_last_word,
    an_answer_without_a_status_leaves_the_outcome_unknown,
    a_panic_leaves_the_outcome_unknown,
);
