//! Budgets and handles: each place comes back on each path, settings that contradict each other, operators.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use semel_core::record::State;
use semel_core::store::{Resolved, Verdict};
use semel_driver::{Address, Admitted, BuildError, Builder, Idempotency, Peer};
use semel_store_memory::MemoryStore;

use crate::support::{App, Handler, order, rig, send, settle};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn runs_bytes_and_peers_are_limited_and_every_place_comes_back() {
    let rig = rig(|b| b.max_runs(2).max_bytes_in_flight(100).body_limit(100).max_per_peer(1));
    let from = |key: &str, last: u8, body: &str| {
        let mut request = order(key, body);
        request.extensions_mut().insert(Peer(IpAddr::from([10, 0, 0, last])));
        let length = body.len();
        request.headers_mut().insert("content-length", length.into());
        request
    };
    let app = App::gated();
    let first = tokio::spawn(send(rig.idem.clone(), from("a", 1, "{}"), app.handler()));
    app.called(1).await;
    let same_peer = send(rig.idem.clone(), from("b", 1, "{}"), app.handler()).await;
    assert_eq!((same_peer.status.as_u16(), same_peer.code()), (429, "quota-exceeded"));
    let large = send(rig.idem.clone(), from("b", 2, &"x".repeat(99)), app.handler()).await;
    assert_eq!((large.status.as_u16(), large.code()), (503, "overloaded"));
    let second = tokio::spawn(send(rig.idem.clone(), from("b", 2, "{}"), app.handler()));
    app.called(2).await;
    let third = send(rig.idem.clone(), from("c", 3, "{}"), app.handler()).await;
    assert_eq!((third.status.as_u16(), third.code()), (503, "overloaded"));
    app.gate.add_permits(2);
    assert_eq!(first.await.unwrap().status.as_u16(), 201);
    assert_eq!(second.await.unwrap().status.as_u16(), 201);

    // Admitted and dropped, refused, replayed, panicked: none of them keeps its place.
    for _ in 0..3 {
        let (mut parts, _) = from("d", 1, "{}").into_parts();
        let Admitted::Guarded(guarded) = rig.idem.admit(&mut parts) else { panic!("a place is lost") };
        drop(guarded);
        assert!(send(rig.idem.clone(), from("a", 1, "{}"), app.handler()).await.replayed());
        assert_eq!(
            send(rig.idem.clone(), from("a", 1, "{\"x\":1}"), app.handler()).await.code(),
            "key-reused"
        );
        let panics: Handler = Arc::new(|_, _| Box::pin(async { panic!("a handler's own fault") }));
        let got = send(rig.idem.clone(), from("p", 1, "{}"), panics).await;
        assert!(got.panicked || got.code() == "outcome-unknown");
        assert_eq!(rig.idem.running(), 0);
    }
}

#[tokio::test]
async fn detached_runs_are_capped_also_those_past_max_run() {
    let rig = rig(|b| b.max_detached(2).max_run(SECOND * 60));
    let app = App::gated();
    let gone = tokio::spawn(send(rig.idem.clone(), order("a", "{}"), app.handler()));
    app.called(1).await;
    gone.abort();
    let overran = tokio::spawn(send(rig.idem.clone(), order("b", "{}"), app.handler()));
    app.called(2).await;
    rig.clock.advance(SECOND * 62).await;
    assert_eq!(overran.await.unwrap().code(), "outcome-unknown");
    let refused = send(rig.idem.clone(), order("c", "{}"), app.handler()).await;
    assert_eq!(refused.code(), "overloaded");
    app.gate.add_permits(3);
    rig.idem.drain(SECOND).await.unwrap();
    assert_eq!(send(rig.idem.clone(), order("c", "{}"), app.handler()).await.status.as_u16(), 201);
}

#[tokio::test]
async fn an_operator_finds_and_settles_a_record_by_its_address() {
    let rig = rig(|b| b);
    let fails: Handler = Arc::new(|_, _| Box::pin(async { Err("broken") }));
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), fails).await.code(), "outcome-unknown");
    let address = Address::key("k");
    assert!(rig.idem.inspect(&Address::key("k").principal("tenant")).await.unwrap().is_none());
    let settled = rig.idem.resolve(&address, Verdict::NotApplied).await.unwrap();
    assert!(matches!(settled, Resolved::Applied(view) if view.state == State::Released));
    let app = App::open();
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), app.handler()).await.body, "order 1");
    let again = rig.idem.resolve(&address, Verdict::NotApplied).await.unwrap();
    assert!(matches!(again, Resolved::Refused(_)));
    assert!(matches!(
        rig.idem.resolve(&Address::key("x"), Verdict::NotApplied).await.unwrap(),
        Resolved::Absent
    ));
}

// A route's own limit was not held against the store's, so that its answers could never be kept whole.
#[tokio::test]
async fn settings_that_cannot_hold_name_what_to_change_also_on_a_route() {
    let small = || MemoryStore::builder().max_bytes(10_000).build();
    let text = |error: BuildError| error.to_string();
    let built = Idempotency::builder(small()).build().map(drop);
    let said = text(built.unwrap_err());
    assert!(said.contains("capture_limit") && said.contains("10000"), "{said}");
    let idem = Idempotency::builder(small()).capture_limit(1_000).build().unwrap();
    let said = text(idem.route(|policy| policy.capture_limit(20_000)).map(drop).unwrap_err());
    assert!(said.contains("capture_limit"), "{said}");
    let said = text(idem.route(|policy| policy.max_run(SECOND)).map(drop).unwrap_err());
    assert!(said.contains("`max_run`") && said.contains("`lease`"), "{said}");
    let said = text(idem.route(|policy| policy.broken_status(http::StatusCode::OK)).map(drop).unwrap_err());
    assert!(said.contains("broken_status"), "{said}");
}

/// Each pair that cannot hold is refused where it is set, by both names and with both values: a request would find out
/// later, as a 503 that no retry helps.
#[tokio::test]
async fn settings_of_a_route_and_of_all_routes_that_contradict_each_other_name_both() {
    let base = || Idempotency::builder(MemoryStore::new());
    let (small, waits) = (1_000, |b: Builder| b.wait(SECOND * 5));
    for (built, named) in [
        (
            base().max_bytes_in_flight(small).build(),
            ["`body_limit` (1048576 bytes)", "`max_bytes_in_flight` (1000 bytes)"],
        ),
        (waits(base()).max_waiters(0).build(), ["`wait` is 5s", "`max_waiters` is 0"]),
        (base().reruns(2).build(), ["`reruns` (2)", "`transactional`"]),
    ] {
        let said = built.map(drop).unwrap_err().to_string();
        assert!(named.iter().all(|name| said.contains(name)), "{said}");
    }
    let idem = base().build().unwrap();
    let said = idem.route(|policy| policy.body_limit(99_000_000_000)).map(drop).unwrap_err().to_string();
    assert!(
        said.contains("99000000000") && said.contains("`max_bytes_in_flight` (268435456 bytes)"),
        "{said}"
    );
    let said = idem.route(|policy| policy.reruns(1)).map(drop).unwrap_err().to_string();
    assert!(said.contains("`reruns` (1)"), "{said}");
    assert!(base().max_bytes_in_flight(small).body_limit(small).build().is_ok(), "the limit itself fits");
}

/// Each of these would have refused every request, or every step of the store.
#[tokio::test]
async fn limits_of_nothing_are_refused_by_name() {
    let base = || Idempotency::builder(MemoryStore::new());
    for (built, name) in [
        (base().max_runs(0), "`max_runs` is 0"),
        (base().max_detached(0), "`max_detached` is 0"),
        (base().max_per_peer(0), "`max_per_peer` is 0"),
        (base().store_within(Duration::ZERO), "`store_within` is 0"),
        (base().settle_within(Duration::ZERO), "`settle_within` is 0"),
    ] {
        let said = built.build().map(drop).unwrap_err().to_string();
        assert!(said.contains(name), "{said}");
    }
}

// "No limit" written as the longest duration overflowed in the middle of a request.
#[tokio::test]
async fn the_longest_durations_do_not_overflow() {
    let rig = rig(|b| {
        let retention = semel_core::record::Retention { record: Duration::MAX, ..Default::default() };
        b.store_within(Duration::MAX).settle_within(Duration::MAX).max_run(Duration::MAX).retention(retention)
    });
    let app = App::open();
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), app.handler()).await.status.as_u16(), 201);
    settle().await;
    assert!(send(rig.idem.clone(), order("k", "{}"), app.handler()).await.replayed());
}
