//! `/healthz` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use semel_gateway::{Answering, Forward, Gateway, GatewayConfig, Hooks};

use crate::support::{Client, Upstream, config, get, start};

#[tokio::test]
async fn readiness_follows_the_store_and_liveness_does_not() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let config = config(&upstream.url(), |config| config.admin = Some(([127, 0, 0, 1], 0).into()));
    let gateway = Gateway::bind(config).unwrap();
    let admin = gateway.admin_addr().unwrap();
    let well = Arc::new(AtomicBool::new(true));
    let store = Arc::clone(&well);
    let hooks = Hooks::none().on_ready(move || {
        let well = store.load(Ordering::Relaxed);
        async move { if well { Ok(()) } else { Err("the \"store\" is away".to_owned()) } }
    });
    let make = |config: &GatewayConfig| Answering::new(Forward::<Incoming>::new(config));
    tokio::spawn(gateway.run_service(make, hooks, std::future::pending()));

    let mut client = Client::connect(admin).await;
    assert_eq!(client.ask(get("/healthz")).await.status(), 200);
    assert_eq!(client.ask(get("/readyz")).await.text(), r#"{"ready":true}"#);
    well.store(false, Ordering::Relaxed);
    let answer = client.ask(get("/readyz")).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.text(), r#"{"ready":false,"reason":"the \"store\" is away"}"#);
    assert_eq!(client.ask(get("/healthz")).await.status(), 200);
    assert_eq!(client.ask(get("/orders")).await.status(), 404);
    assert_eq!(
        client.ask("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.status(),
        405
    );
    assert_eq!(upstream.count(), 0);
}

/// A load balancer has to learn of a shutdown while requests still run.
#[tokio::test]
async fn a_gateway_that_shuts_down_is_alive_and_not_ready() {
    let upstream = Upstream::start(|_| crate::support::Act::Never).await.unwrap();
    let mut gateway = start(&upstream.url(), |config| config.admin = Some(([127, 0, 0, 1], 0).into()));
    let mut running = gateway.connect().await;
    running.send(get("/")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    let mut admin = Client::connect(gateway.admin.unwrap()).await;
    assert_eq!(admin.ask(get("/readyz")).await.status(), 200);
    gateway.begin_shutdown();
    let asking = async {
        while admin.ask(get("/readyz")).await.status() == 200 {
            tokio::task::yield_now().await;
        }
        admin.ask(get("/readyz")).await
    };
    let answer = tokio::time::timeout(crate::support::PATIENCE, asking).await.unwrap();
    assert_eq!(answer.text(), r#"{"ready":false,"reason":"shutting down"}"#);
    assert_eq!(admin.ask(get("/healthz")).await.status(), 200);
}
