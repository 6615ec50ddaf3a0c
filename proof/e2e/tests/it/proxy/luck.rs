//! What an application, or the way to it, can do to a request.

use std::net::SocketAddr;

use semel_testkit::client::{Ask, post};
use semel_testkit::program::Proxy;
use semel_testkit::upstream::{Act, Received, Upstream, answer};
use semel_testkit::wire::Message;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::shop::{ORDERS, Shop};
use super::support::{Place, Sent, assert_problem, assert_replay, code, fresh, one};

/// How an application treats a request.
type Behave = fn() -> Act;

async fn send(proxy: &Proxy, ask: &Ask) -> Message {
    ask.send(proxy.address()).await.unwrap()
}

/// Nothing was sent: the key is free at once, and the caller is told to come back with it.
#[tokio::test]
async fn an_application_that_is_down_frees_the_key() {
    // It has its port, and does not listen yet.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let place = Place::new(&format!("http://{address}"), &[]);
    let proxy = place.proxy().await;
    let Sent { key, ask } = one(ORDERS, "down-2f7a91c3");
    for _ in 0..3 {
        assert_problem(&send(&proxy, &ask).await, 502, "upstream-unreachable", "same-key");
    }
    assert!(place.listed("unknown").await.is_empty());

    socket.listen(16).unwrap();
    let shop = Shop::on(TcpListener::from_std(socket.into()).unwrap());
    let first = send(&proxy, &ask).await;
    assert_eq!(first.status(), 201, "{}", first.text());
    assert_replay(&first, &send(&proxy, &ask).await);
    assert_eq!(shop.orders(&key).len(), 1);
}

/// The application may have acted: the caller is told so, and no retry reaches it again.
#[tokio::test]
async fn an_application_that_breaks_off_is_not_asked_again() {
    const HALF: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf of it";
    const HALF_CHUNKED: &[u8] = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let acts: [(&str, Behave, u16); 8] = [
        ("/hangs-up", || Act::HangUp, 502),
        ("/resets", || Act::Reset, 502),
        ("/half-a-head", || Act::AnswerAndClose(b"HTTP/1.1 201 Cre".to_vec()), 502),
        ("/half-a-body", || Act::AnswerAndClose(HALF.to_vec()), 502),
        ("/half-a-body-and-resets", || Act::AnswerAndReset(HALF.to_vec()), 502),
        ("/half-the-chunks", || Act::AnswerAndClose(HALF_CHUNKED.to_vec()), 502),
        ("/no-http", || Act::AnswerAndClose(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), 502),
        ("/never-answers", || Act::Never, 504),
    ];
    let script = move |received: &Received| {
        let path = received.message.start.split(' ').nth(1).unwrap_or_default();
        acts.iter().find(|(name, ..)| *name == path).map_or(Act::HangUp, |(_, act, _)| act())
    };
    let upstream = Upstream::start(script).await.unwrap();
    let place = Place::new(&upstream.url(), &["--upstream-timeout", "300ms"]);
    let proxy = place.proxy().await;
    for (number, (path, _, status)) in acts.into_iter().enumerate() {
        let ask = post(path, &format!("breaks-off-{number}-b08c51"), "{}");
        let first = send(&proxy, &ask).await;
        assert_problem(&first, status, "outcome-unknown", "reconcile");
        for _ in 0..3 {
            assert_problem(&send(&proxy, &ask).await, 409, "outcome-unknown", "reconcile");
        }
        assert_eq!(upstream.count(), number + 1, "{path}");
    }
    assert_eq!(place.listed("unknown").await.len(), acts.len());
}

/// A gateway behind the gateway says that it does not know: its answer is passed on, marked, and nothing is repeated.
#[tokio::test]
async fn an_answer_that_says_unknown_is_passed_on_once() {
    let script = |received: &Received| {
        let status = received.message.start.split(['/', ' ']).nth(2).and_then(|status| status.parse().ok());
        Act::Answer(answer(status.unwrap_or(500), "from behind"))
    };
    let upstream = Upstream::start(script).await.unwrap();
    let place = Place::new(&upstream.url(), &[]);
    let proxy = place.proxy().await;
    for (number, status) in [502_u16, 504].into_iter().enumerate() {
        let ask = post(&format!("/{status}"), &format!("behind-{status}-77ac01"), "{}");
        let first = send(&proxy, &ask).await;
        assert_eq!((first.status(), first.text().as_str()), (status, "from behind"));
        assert_eq!(first.one("idempotency-outcome"), Some("unknown"));
        assert_problem(&send(&proxy, &ask).await, 409, "outcome-unknown", "reconcile");
        assert_eq!(upstream.count(), number + 1);
    }
    // These say "not done": the key is free.
    for (number, status) in [500_u16, 503, 429].into_iter().enumerate() {
        let ask = post(&format!("/{status}"), &format!("free-{status}-77ac02"), "{}");
        for _ in 0..2 {
            assert_eq!(send(&proxy, &ask).await.status(), status);
        }
        assert_eq!(upstream.count(), 2 + 2 * (number + 1));
    }
}

/// The application closes idle connections just as requests go out on them. Whatever the gateway makes of it, no
/// request arrives twice, and what it says is true.
#[tokio::test]
async fn connections_that_close_as_a_request_goes_out_repeat_nothing() {
    let upstream = Upstream::answering("made").await.unwrap();
    let place = Place::new(&upstream.url(), &["--workers", "1"]);
    let proxy = place.proxy().await;
    let arrived = |key: &str| {
        let received = upstream.received();
        received.iter().filter(|received| received.message.one("idempotency-key") == Some(key)).count()
    };
    for sent in fresh(ORDERS, "closing", 100) {
        let (first, _) = tokio::join!(send(&proxy, &sent.ask), upstream.close_idle());
        let retry = send(&proxy, &sent.ask).await;
        if first.status() == 200 {
            assert_replay(&first, &retry);
            assert_eq!(arrived(&sent.key), 1);
        } else {
            assert_problem(&first, 502, "outcome-unknown", "reconcile");
            assert_eq!(code(&retry), "outcome-unknown");
            assert!(arrived(&sent.key) <= 1);
        }
    }
}

/// The application closed them long before: the request takes another connection, and arrives once.
#[tokio::test]
async fn connections_that_were_closed_before_are_noticed() {
    let upstream = Upstream::answering("made").await.unwrap();
    let place = Place::new(&upstream.url(), &["--workers", "1"]);
    let proxy = place.proxy().await;
    for (number, sent) in fresh(ORDERS, "closed", 20).into_iter().enumerate() {
        assert_eq!(send(&proxy, &sent.ask).await.status(), 200);
        assert!(upstream.close_idle().await);
        assert_eq!(upstream.count(), number + 1);
    }
}

/// It resets an idle connection at the first byte of the next request: whether it saw it nobody knows.
#[tokio::test]
async fn a_connection_that_is_reset_by_the_request_leaves_the_outcome_unknown() {
    let upstream = Upstream::start(|_| Act::AnswerAndRefuseNext(answer(200, "made"))).await.unwrap();
    let place = Place::new(&upstream.url(), &["--workers", "1"]);
    let proxy = place.proxy().await;
    let [kept, refused] = [one(ORDERS, "kept-1-0c9b1a"), one(ORDERS, "refused-1-0c9b1a")];
    assert_eq!(send(&proxy, &kept.ask).await.status(), 200);
    assert_problem(&send(&proxy, &refused.ask).await, 502, "outcome-unknown", "reconcile");
    assert_problem(&send(&proxy, &refused.ask).await, 409, "outcome-unknown", "reconcile");
    assert_eq!(upstream.count(), 1);
    // Somebody looks, finds nothing, and says so.
    place.resolve_not_applied(&refused.key).await;
    assert_eq!(send(&proxy, &refused.ask).await.status(), 200);
    assert_eq!(upstream.count(), 2);
}
