//! What is sent again, and what is not: a second POST is a second order.

use crate::support::{Act, SHORT, Upstream, answer, get, post, silent, start};

#[tokio::test]
async fn a_connection_is_used_again() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    for _ in 0..5 {
        assert_eq!(client.ask(post("/orders", "1")).await.text(), "ok");
    }
    assert_eq!((upstream.count(), upstream.connections()), (5, 1));
}

/// The application closed an idle connection: the request goes out on a fresh one, once.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    for round in 1..=20 {
        assert_eq!(client.ask(post("/orders", "1")).await.status(), 200);
        assert!(upstream.close_idle().await);
        assert_eq!(upstream.count(), round);
    }
    assert_eq!(upstream.connections(), 20);
}

/// The application closes as the request goes out: it may have been read, so it is not sent again.
#[tokio::test]
async fn a_request_that_was_written_to_a_dying_connection_is_not_sent_again() {
    let upstream = Upstream::start(|_| Act::AnswerAndRefuseNext(answer(200, "first"))).await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    assert_eq!(client.ask(post("/orders", "1")).await.text(), "first");
    assert_eq!(client.ask(post("/orders", "2")).await.status(), 502);
    assert_eq!((upstream.count(), upstream.connections()), (1, 1));
    // The client's connection and the gateway live on.
    assert_eq!(client.ask(post("/orders", "3")).await.text(), "first");
}

/// Safe methods too: the gateway does not know what the application does on GET.
#[tokio::test]
async fn not_even_a_get_is_sent_twice() {
    let upstream = Upstream::start(|_| Act::HangUp).await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    assert_eq!(gateway.connect().await.ask(get("/")).await.status(), 502);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn an_application_that_breaks_off_gets_one_delivery() {
    for act in ["hang up", "reset", "half a head", "no HTTP"] {
        let upstream = Upstream::start(move |_| match act {
            "hang up" => Act::HangUp,
            "reset" => Act::Reset,
            "half a head" => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
            _ => Act::AnswerAndClose(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        })
        .await
        .unwrap();
        let gateway = start(&upstream.url(), |_| {});
        let answer = gateway.connect().await.ask(post("/orders", "1")).await;
        assert_eq!(answer.status(), 502, "{act}");
        assert_eq!(answer.one("content-type"), Some("application/problem+json"));
        assert_eq!((upstream.count(), upstream.connections()), (1, 1), "{act}");
    }
}

#[tokio::test]
async fn an_application_that_never_answers_costs_the_response_time_out() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.response = SHORT);
    assert_eq!(gateway.connect().await.ask(post("/orders", "1")).await.status(), 504);
    assert_eq!(upstream.count(), 1);
    // The connection with the pending answer is not used for anybody else.
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    assert_eq!(gateway.connect().await.ask(post("/orders", "2")).await.status(), 504);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn nobody_listening_is_502_and_nothing_was_sent() {
    let (_socket, url) = silent();
    let gateway = start(&url, |_| {});
    let answer = gateway.connect().await.ask(post("/orders", "1")).await;
    assert_eq!(answer.status(), 502);
    // The same problem that a guarded request gets: clients switch on its code.
    assert!(answer.text().contains(r#""code":"upstream-unreachable""#), "{}", answer.text());
    assert!(answer.text().contains("refused the connection"), "{}", answer.text());
}

/// A client that hangs up ends the exchange; its connection to the application carries nothing else.
#[tokio::test]
async fn a_client_that_leaves_does_not_leave_its_answer_to_the_next() {
    let upstream = Upstream::start(|received| {
        if received.message.start.contains("/slow") { Act::Never } else { Act::Answer(answer(200, "mine")) }
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(get("/slow")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    drop(client);
    assert_eq!(gateway.connect().await.ask(get("/fast")).await.text(), "mine");
    assert_eq!(upstream.connections(), 2);
}

/// `close` in the application's answer ends its connection, not the client's.
#[tokio::test]
async fn connection_close_is_between_the_gateway_and_the_application() {
    let upstream = Upstream::start(|_| {
        Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec())
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        let answer = client.ask(post("/", "1")).await;
        assert_eq!((answer.status(), answer.one("connection")), (200, None));
    }
    assert_eq!((upstream.count(), upstream.connections()), (3, 3));
}

/// Idle connections close on their own, before the application does it in the middle of a request.
#[tokio::test]
async fn idle_connections_to_the_application_close_in_time() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.upstream_idle = SHORT);
    let mut client = gateway.connect().await;
    client.ask(get("/")).await;
    assert_eq!(upstream.open(), 1);
    assert!(upstream.until(|upstream| upstream.open() == 0).await);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_503_and_go_nowhere() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let gateway = start(&upstream.url(), |config| config.limits.upstream_requests = 1);
    let mut first = gateway.connect().await;
    first.send(post("/", "1")).await;
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    assert_eq!(gateway.connect().await.ask(post("/", "2")).await.status(), 503);
    assert_eq!(upstream.count(), 1);
}
