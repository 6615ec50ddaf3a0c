//! What a caller can send.

use semel_testkit::client::{Ask, Client, post};
use semel_testkit::program::Proxy;
use semel_testkit::wire::Message;
use tokio::task::JoinSet;

use super::shop::{GATE_THEN_ORDER, ORDERS, Shop};
use super::support::{Place, assert_problem, assert_replay, assert_same};
use crate::client::order_over_http2;

const BODY: &str = r#"{"item": 7}"#;

async fn open(flags: &[&str]) -> (Shop, Place, Proxy) {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), flags);
    let proxy = place.proxy().await;
    (shop, place, proxy)
}

async fn send(proxy: &Proxy, ask: &Ask) -> Message {
    ask.send(proxy.address()).await.unwrap()
}

fn without_key() -> Ask {
    Ask::new("POST", ORDERS, BODY).field("Content-Type", "application/json")
}

/// Running a request whose caller believes it protected is the worst answer.
#[tokio::test]
async fn malformed_keys_are_refused_and_nothing_runs() {
    let (shop, _place, proxy) = open(&[]).await;
    let long = "k".repeat(256);
    for key in [
        "",
        "\"\"",
        "\"open",
        "two words",
        "a,b",
        "\"a\", \"b\"",
        ":colon",
        "(\"list\")",
        "\"tab\tin\"",
        "k\u{e9}y",
        &long,
    ] {
        let refused = send(&proxy, &without_key().field("Idempotency-Key", key)).await;
        assert_problem(&refused, 400, "key-invalid", "new-key");
    }
    // Two lines, also those that would join into one valid value.
    for lines in [["\"a-1\"", "\"b-2\""], ["same-77f1", "same-77f1"], ["\"half", "half\""]] {
        let both = without_key().field("Idempotency-Key", lines[0]).field("idempotency-key", lines[1]);
        assert_problem(&send(&proxy, &both).await, 400, "key-invalid", "new-key");
    }
    // To name the field in Connection would have the next hop remove it.
    let hidden = without_key().field("Idempotency-Key", "hidden-90ab").field("Connection", "idempotency-key");
    assert_eq!(send(&proxy, &hidden).await.status(), 400);
    assert_eq!(shop.total(), 0);
    // Without a key it runs as it is.
    assert_eq!(send(&proxy, &without_key()).await.status(), 201);
}

#[tokio::test]
async fn a_missing_key_is_refused_where_it_is_required() {
    let (shop, _place, proxy) = open(&["--require-key", "--strict-keys"]).await;
    assert_problem(&send(&proxy, &without_key()).await, 400, "key-missing", "new-key");
    let bare = without_key().field("Idempotency-Key", "bare-11aa");
    assert_problem(&send(&proxy, &bare).await, 400, "key-invalid", "new-key");
    assert_eq!(shop.total(), 0);
    assert_eq!(send(&proxy, &post(ORDERS, "\"quoted-11aa\"", BODY)).await.status(), 201);
}

/// A body of exactly the limit runs, one byte more does not, however its length is said.
#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let (shop, _place, proxy) = open(&["--body-limit", "4KiB"]).await;
    let ask =
        |key: &str, length: usize| Ask::new("POST", ORDERS, vec![b'x'; length]).field("Idempotency-Key", key);
    assert_eq!(send(&proxy, &ask("fits-2c81d0", 4096)).await.status(), 201);
    assert_problem(&send(&proxy, &ask("over-2c81d0", 4097)).await, 413, "content-too-large", "stop");
    let chunked = |key: &str| chunked(ORDERS, key, &[&[b'x'; 4096], b"y"]);
    let refused =
        Client::connect(proxy.address()).await.unwrap().ask(chunked("chunks-2c81d0")).await.unwrap();
    assert_problem(&refused, 413, "content-too-large", "stop");
    assert_eq!(shop.total(), 1);
    // It claimed nothing: the key is as new.
    assert_eq!(send(&proxy, &ask("over-2c81d0", 5)).await.status(), 201);
}

/// The same body is the same request, in one piece or in many.
#[tokio::test]
async fn chunked_bodies_are_compared_by_their_content() {
    let (shop, _place, proxy) = open(&[]).await;
    let whole =
        send(&proxy, &Ask::new("POST", ORDERS, "onetwo").field("Idempotency-Key", "pieces-88d1")).await;
    for pieces in [&[&b"onetwo"[..]][..], &[b"one", b"two"], &[b"o", b"n", b"e", b"t", b"w", b"o"]] {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        assert_replay(&whole, &client.ask(chunked(ORDERS, "pieces-88d1", pieces)).await.unwrap());
    }
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let other = client.ask(chunked(ORDERS, "pieces-88d1", &[b"one", b"three"])).await.unwrap();
    assert_problem(&other, 422, "key-reused", "stop");
    assert_eq!(shop.total(), 1);
}

fn chunked(path: &str, key: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let ask = Ask::new("POST", path, "").field("Idempotency-Key", key).field("Transfer-Encoding", "chunked");
    let mut bytes = ask.head();
    for piece in pieces {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A caller that is cut off within its body claims nothing.
#[tokio::test]
async fn a_body_that_is_cut_short_leaves_the_key_free() {
    let (shop, place, proxy) = open(&[]).await;
    let ask = post(ORDERS, "cut-short-41fe09", BODY);
    let bytes = ask.bytes();
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send(&bytes[..bytes.len() - 1]).await.unwrap();
    drop(client);
    let first = send(&proxy, &ask).await;
    assert_eq!((first.status(), first.one("idempotency-replayed")), (201, None));
    assert_eq!(shop.orders("cut-short-41fe09")[0].attempt, "1");
    assert_eq!(place.listed("completed").await.len(), 1);
}

/// Requests that arrive in one packet are answered one after the other, and each key runs once.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (shop, _place, proxy) = open(&[]).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let asks = ["pipe-1-5cd0", "pipe-2-5cd0", "pipe-1-5cd0", "pipe-3-5cd0", "pipe-2-5cd0"];
    let bytes: Vec<u8> = asks.iter().flat_map(|key| post(ORDERS, key, BODY).bytes()).collect();
    client.send(bytes).await.unwrap();
    let mut answers = Vec::new();
    for _ in asks {
        answers.push(client.answer().await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status() == 201));
    assert_replay(&answers[0], &answers[2]);
    assert_replay(&answers[1], &answers[4]);
    assert_eq!(shop.total(), 3);
    for (key, answer) in asks.iter().zip(&answers) {
        let serial = shop.orders(key)[0].serial;
        assert_eq!(answer.one("location"), Some(format!("/orders/{serial}").as_str()));
    }
}

/// A body is asked for only where it will be read.
#[tokio::test]
async fn expect_continue_is_answered_by_the_key() {
    let (shop, _place, proxy) = open(&["--require-key"]).await;
    let expecting = |ask: Ask| ask.field("Expect", "100-continue");
    for refused in [expecting(without_key()), expecting(without_key().field("Idempotency-Key", "\"open"))] {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        client.send(refused.head()).await.unwrap();
        assert_eq!(client.answer().await.unwrap().status(), 400);
    }
    let asked = expecting(post(ORDERS, "expected-6b70aa", BODY));
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send(asked.head()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status(), 100);
    client.send(BODY).await.unwrap();
    let first = client.answer().await.unwrap();
    assert_eq!(first.status(), 201);
    assert_replay(&first, &send(&proxy, &post(ORDERS, "expected-6b70aa", BODY)).await);
    assert_eq!(shop.total(), 1);
}

/// One key over both protocols at once is one order, and both see the same answer.
#[tokio::test]
async fn both_protocols_share_their_keys() {
    const KEY: &str = "both-protocols-1e90";
    let (shop, _place, proxy) = open(&["--wait", "10s"]).await;
    let to = proxy.address();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(async move { post(ORDERS, KEY, BODY).send(to).await.unwrap() });
        callers.spawn(async move { order_over_http2(to, KEY, BODY).await });
    }
    let answers = callers.join_all().await;
    assert!(answers.iter().all(|answer| answer.status() == 201));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| answer.one("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(shop.total(), 1);
}

/// What only Semel may say is not taken from a caller.
#[tokio::test]
async fn forged_fields_do_not_arrive() {
    let (shop, _place, proxy) = open(&[]).await;
    shop.open_gate();
    let ask = post(GATE_THEN_ORDER, "forged-03bb1d", BODY)
        .field("Idempotency-Attempt", "7")
        .field("Idempotency-Fence", "1")
        .field("Idempotency-Outcome", "not-applied");
    let first = send(&proxy, &ask).await;
    assert_eq!((first.status(), shop.orders("forged-03bb1d")[0].attempt.as_str()), (201, "1"));
    assert_same(&first, &send(&proxy, &ask).await);
    assert_eq!(shop.total(), 1);
}
