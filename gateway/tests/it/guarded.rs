//! Semel between listener and upstream: what a retry meets. Runs are counted at the upstream.

use semel_driver::Idempotency;
use semel_gateway::{Gateway, GatewayConfig};
use semel_store_memory::MemoryStore;
use tokio::io::AsyncWriteExt;

use crate::support::{Act, Client, SHORT, Upstream, answer, config, get, silent};

fn guarded(
    upstream: &str,
    change: impl FnOnce(&mut GatewayConfig),
) -> (std::net::SocketAddr, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let gateway = Gateway::bind(config(upstream, change)).unwrap();
    let address = gateway.local_addr();
    let idempotency = Idempotency::builder(MemoryStore::new()).build().unwrap();
    let (shutdown, told) = tokio::sync::oneshot::channel::<()>();
    let ended = tokio::spawn(async move {
        let stopped = gateway.run_guarded(idempotency, async { drop(told.await) }).await.unwrap();
        assert_eq!(stopped.aborted, 0);
    });
    (address, shutdown, ended)
}

fn order(key: &str, body: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"{key}\"\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_the_application_one_request() {
    let upstream = Upstream::answering("made").await.unwrap();
    let (gateway, _running, _) = guarded(&upstream.url(), |_| {});
    let mut client = Client::connect(gateway).await;
    let first = client.ask(order(KEY, "{}")).await;
    assert_eq!((first.text().as_str(), first.one("idempotency-replayed")), ("made", None));
    let retry = Client::connect(gateway).await.ask(order(KEY, "{ }")).await;
    assert_eq!((retry.text().as_str(), retry.one("idempotency-replayed")), ("made", Some("true")));
    assert_eq!(client.ask(order(KEY, "[]")).await.status(), 422);
    assert_eq!(upstream.count(), 1);
    let request = &upstream.received()[0].message;
    assert_eq!(request.one("idempotency-attempt"), Some("1"));
    assert!(request.one("idempotency-fence").is_some());
    // What is not guarded goes through.
    assert_eq!(client.ask(get("/")).await.text(), "made");
}

/// HTTP/1.1 sends trailers only behind chunks and only those that were announced: a guarded answer once lost them.
#[tokio::test]
async fn trailers_of_a_guarded_answer_reach_its_client_and_its_retry() {
    let upstream = Upstream::start(|_| {
        Act::Answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
              2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
                .to_vec(),
        )
    })
    .await
    .unwrap();
    let (gateway, _running, _) = guarded(&upstream.url(), |_| {});
    for replayed in [None, Some("true")] {
        let ask = order(KEY, "{}").replace("Host:", "TE: trailers\r\nConnection: TE\r\nHost:");
        let answer = Client::connect(gateway).await.ask(ask).await;
        assert_eq!(answer.one("idempotency-replayed"), replayed);
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.trailers, [("x-sum".into(), "7".into())], "replayed: {replayed:?}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn parallel_duplicates_run_once() {
    let upstream = Upstream::answering("made").await.unwrap();
    let (gateway, _running, _) = guarded(&upstream.url(), |config| config.workers = 2.try_into().unwrap());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..50 {
        clients.spawn(async move { Client::connect(gateway).await.ask(order(KEY, "{}")).await.status() });
    }
    let statuses = clients.join_all().await;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert_eq!(upstream.count(), 1);
}

/// Nothing was sent, so the key is free at once.
#[tokio::test]
async fn an_unreachable_application_frees_the_key() {
    let (socket, url) = silent();
    let (gateway, _running, _) = guarded(&url, |_| {});
    let mut client = Client::connect(gateway).await;
    let refused = client.ask(order(KEY, "{}")).await;
    assert_eq!(refused.status(), 502);
    assert!(refused.text().contains("upstream-unreachable"), "{}", refused.text());
    // The application comes up on the same address.
    let listener = socket.listen(16).unwrap();
    let upstream = Upstream::on(listener, |_| Act::Answer(answer(201, "made"))).unwrap();
    assert_eq!(client.ask(order(KEY, "{}")).await.status(), 201);
    assert_eq!(upstream.count(), 1);
}

/// The application may have made the order: no retry makes another.
#[tokio::test]
async fn an_application_that_breaks_off_leaves_the_outcome_unknown() {
    for (act, status) in [("hang up", 502), ("reset", 502), ("half an answer", 502), ("never", 504)] {
        let upstream = Upstream::start(move |_| match act {
            "hang up" => Act::HangUp,
            "reset" => Act::Reset,
            "half an answer" => {
                Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec())
            }
            _ => Act::Never,
        })
        .await
        .unwrap();
        let (gateway, _running, _) = guarded(&upstream.url(), |config| config.timeouts.response = SHORT);
        let mut client = Client::connect(gateway).await;
        let first = client.ask(order(KEY, "{}")).await;
        assert!(first.text().contains("outcome-unknown"), "{act}: {}", first.text());
        assert!([status, 500].contains(&first.status()), "{act}: {}", first.start);
        let retry = client.ask(order(KEY, "{}")).await;
        assert_eq!(retry.status(), 409, "{act}");
        assert!(retry.text().contains("outcome-unknown"), "{act}: {}", retry.text());
        assert_eq!(upstream.count(), 1, "{act}");
    }
}

/// A client that hangs up has made an order all the same; its retry gets the answer, and a shutdown waits.
#[tokio::test]
async fn a_client_that_leaves_finds_its_answer_later_and_a_shutdown_waits_for_it() {
    let (release, held) = tokio::sync::watch::channel(());
    let upstream = Upstream::start(move |_| {
        let mut held = held.clone();
        Act::Take(Box::new(move |mut stream| {
            Box::pin(async move {
                held.changed().await.unwrap();
                stream.write_all(&answer(201, "made")).await.unwrap();
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            })
        }))
    })
    .await
    .unwrap();
    let (gateway, shutdown, ended) = guarded(&upstream.url(), |_| {});
    let mut leaving = Client::connect(gateway).await;
    leaving.send(order(KEY, "{}")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    drop(leaving);
    assert_eq!(Client::connect(gateway).await.ask(order(KEY, "{}")).await.status(), 409);
    drop(shutdown);
    release.send(()).unwrap();
    tokio::time::timeout(crate::support::PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(upstream.count(), 1);
}

/// A request that is refused by its head is not asked for its body.
#[tokio::test]
async fn a_malformed_key_gets_no_100_continue() {
    let upstream = Upstream::answering("made").await.unwrap();
    let (gateway, _running, _) = guarded(&upstream.url(), |_| {});
    for keys in ["Idempotency-Key: \"\"\r\n", "Idempotency-Key: \"a\"\r\nIdempotency-Key: \"b\"\r\n"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\n{keys}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(Client::connect(gateway).await.ask(request).await.status(), 400);
    }
    assert_eq!(upstream.count(), 0);
}
