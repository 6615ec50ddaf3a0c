//! Ends of the process that it knows of, and runs that outlive what was planned for them.

use semel_testkit::client::Client;

use super::shop::{ORDER_THEN_GATE, Shop};
use super::support::{Place, assert_problem, assert_replay, code, fresh, keys, one, until};

/// At SIGTERM what runs is finished, recorded and answered, also what nobody waits for any more.
#[tokio::test]
async fn a_graceful_end_settles_what_runs() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[]);
    let proxy = place.proxy().await;
    let (waiting, left) = (one(ORDER_THEN_GATE, "waiting-5aa0c7"), fresh(ORDER_THEN_GATE, "left", 5));
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send(waiting.ask.bytes()).await.unwrap();
    let mut leaving = Vec::new();
    for sent in &left {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        client.send(sent.ask.bytes()).await.unwrap();
        leaving.push(client);
    }
    shop.taken(keys(&left).chain([waiting.key.as_str()])).await;
    drop(leaving);
    proxy.terminate().unwrap();
    // Nobody else is let in.
    let to = proxy.address();
    until(async || Client::connect(to).await.is_err().then_some(())).await;
    shop.open_gate();
    let first = client.answer().await.unwrap();
    assert_eq!(first.status(), 201);
    let status = proxy.ended().await.unwrap();
    assert_eq!(status.code(), Some(0), "{status}");

    let proxy = place.proxy().await;
    assert_replay(&first, &waiting.ask.send(proxy.address()).await.unwrap());
    for sent in &left {
        let replay = sent.ask.send(proxy.address()).await.unwrap();
        assert_eq!((replay.status(), replay.one("idempotency-replayed")), (201, Some("true")));
    }
    assert_eq!(shop.total(), 1 + left.len());
}

/// A run beyond --max-run: its caller is told that nobody knows, and if it ends after all, that is what counts.
#[tokio::test]
async fn a_late_answer_is_still_the_truth() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &["--lease", "500ms", "--max-run", "500ms"]);
    let proxy = place.proxy().await;
    let late = one(ORDER_THEN_GATE, "late-71c0de");
    let first = late.ask.send(proxy.address()).await.unwrap();
    assert_eq!(code(&first), "outcome-unknown", "{}", first.text());
    assert!((500..=504).contains(&first.status()), "{}", first.start);
    until(async || (place.listed("unknown").await.len() == 1).then_some(())).await;
    assert_problem(&late.ask.send(proxy.address()).await.unwrap(), 409, "outcome-unknown", "reconcile");
    shop.open_gate();
    let replay = until(async || {
        let retry = late.ask.send(proxy.address()).await.unwrap();
        (retry.status() == 201).then_some(retry)
    })
    .await;
    assert_eq!(replay.one("idempotency-replayed"), Some("true"));
    assert_eq!(shop.total(), 1);
    assert!(place.listed("unknown").await.is_empty());
}
