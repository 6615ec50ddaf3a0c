//! Starting, stopping, and clients that take their time.

use std::num::NonZeroUsize;
use std::time::Duration;

use semel_gateway::{Gateway, GatewayConfig, GatewayError, UpstreamUrl};
use tokio::io::AsyncWriteExt;

use crate::support::{Act, SHORT, Upstream, answer, config, get, post, start};

#[tokio::test]
async fn a_running_request_ends_before_the_gateway_does() {
    let (release, held) = tokio::sync::watch::channel(());
    let upstream = Upstream::start(move |_| {
        let mut held = held.clone();
        Act::Take(Box::new(move |mut stream| {
            Box::pin(async move {
                held.changed().await.unwrap();
                stream.write_all(&answer(200, "late")).await.unwrap();
            })
        }))
    })
    .await
    .unwrap();
    let mut gateway = start(&upstream.url(), |_| {});
    let mut idle = gateway.connect().await;
    let mut running = gateway.connect().await;
    running.send(post("/", "1")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    gateway.begin_shutdown();
    // An idle connection closes at once, so by now the gateway is shutting down.
    assert!(idle.rest().await.is_empty());
    release.send(()).unwrap();
    let answer = running.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "late"));
    assert!(running.rest().await.is_empty());
    assert_eq!(gateway.ended().await.aborted, 0);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_deadline() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let mut gateway = start(&upstream.url(), |config| config.timeouts.shutdown = SHORT);
    let mut client = gateway.connect().await;
    client.send(get("/")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    gateway.begin_shutdown();
    assert_eq!(gateway.ended().await.aborted, 1);
    assert!(client.rest().await.is_empty());
}

/// A head that trickles in holds no connection longer than its time, while idle ones have theirs.
#[tokio::test]
async fn a_slow_head_is_cut_and_an_idle_connection_is_not() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.header_read = SHORT);
    let mut patient = gateway.connect().await;
    assert_eq!(patient.ask(get("/")).await.status(), 200);
    for start in ["G", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut slow = gateway.connect().await;
        slow.send(start).await;
        assert!(!String::from_utf8_lossy(&slow.rest().await).contains("200"));
    }
    assert_eq!(patient.ask(get("/")).await.status(), 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn an_idle_connection_closes_when_its_time_is_over() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.keep_alive = SHORT);
    let mut fresh = gateway.connect().await;
    let mut used = gateway.connect().await;
    assert_eq!(used.ask(get("/")).await.status(), 200);
    assert!(fresh.rest().await.is_empty());
    assert!(used.rest().await.is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.limits.connections = 1);
    let mut first = gateway.connect().await;
    assert_eq!(first.ask(get("/")).await.status(), 200);
    let mut second = gateway.connect().await;
    second.send(get("/")).await;
    let early = tokio::time::timeout(Duration::from_millis(50), second.0.get_ref().readable()).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(second.answer().await.status(), 200);
}

#[tokio::test]
async fn several_workers_share_one_address() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let mut gateway = start(&upstream.url(), |config| config.workers = NonZeroUsize::new(3).unwrap());
    for _ in 0..20 {
        assert_eq!(gateway.connect().await.ask(get("/")).await.status(), 200);
    }
    gateway.begin_shutdown();
    assert_eq!(gateway.ended().await.aborted, 0);
    assert_eq!(upstream.count(), 20);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let taken = upstream.address();
    let error = Gateway::bind(config(&upstream.url(), |config| config.listen = taken)).unwrap_err();
    assert!(matches!(error, GatewayError::AddressInUse { setting: "listen", address } if address == taken));
    let error = Gateway::bind(config(&upstream.url(), |config| config.admin = Some(taken))).unwrap_err();
    assert!(matches!(error, GatewayError::AddressInUse { setting: "admin", .. }), "{error}");
}

#[test]
fn settings_that_cannot_work_are_named_with_what_to_do() {
    for (url, says) in [
        ("localhost:3000", "http://host:port"),
        ("https://a", "\"https\""),
        ("http://", "http://host:port"),
        ("http://a:", "http://host:port"),
        ("http://u:p@a", "user name"),
        ("http://a/?q", "query"),
        ("http://a/#f", "fragment"),
    ] {
        let error = url.parse::<UpstreamUrl>().unwrap_err().to_string();
        assert!(error.starts_with("upstream: ") && error.contains(says), "{url}: {error}");
    }
    let mut config = GatewayConfig::new("http://[::1]:3000/base/".parse().unwrap());
    assert_eq!(config.upstream.to_string(), "http://[::1]:3000/base");
    config.limits.header_bytes = 100;
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "limits.header_bytes: 100 is too small; use at least 8192"
    );
}
