//! Bodies of requests that do not arrive as they should.

use std::time::Duration;

use crate::client::{Look as _, Try};
use crate::fixture::Kind;
use crate::hosts::on_every_host;

const BODY: &str = r#"{"item":1}"#;

/// A caller that trickles holds nothing: it is told to hurry, and its key is as new.
async fn a_body_that_is_too_slow_claims_nothing(on: Kind) {
    let host = on.start_with(|rules| rules.body_within(Duration::from_millis(200))).await;
    let order = Try::order(BODY).key("slow-body-5be0c2");
    let mut connection = host.open().await;
    connection.send_head(&order, BODY.len()).await;
    let refused = connection.answer(false).await.unwrap();
    assert_eq!((refused.status(), refused.member("code")), (408, "body-too-slow".into()));
    assert_eq!((refused.member("retry"), host.effects()), ("same-key".into(), 0));
    let first = host.send(&order).await;
    assert_eq!((first.status(), first.replayed(), first.member("attempt")), (201, false, "1".into()));
}

/// Half a body is another request than the whole one: it must not be claimed under its key.
async fn a_body_that_is_cut_short_claims_nothing(on: Kind) {
    let host = on.start().await;
    let order = Try::order(BODY).key("short-body-5be0c2");
    let mut connection = host.open().await;
    connection.send_head(&order, BODY.len()).await;
    drop(connection);
    let first = host.send(&order).await;
    assert_eq!((first.status(), first.replayed(), first.member("attempt")), (201, false, "1".into()));
    assert_eq!(host.effects(), 1);
}

on_every_host!(a_body_that_is_too_slow_claims_nothing, a_body_that_is_cut_short_claims_nothing);
