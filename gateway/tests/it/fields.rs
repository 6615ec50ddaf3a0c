//! Which fields arrive.

use semel_gateway::{ForwardedPolicy, HostPolicy};

use crate::support::{Act, Upstream, answer, get, start};

#[tokio::test]
async fn fields_of_a_connection_end_at_the_gateway_both_ways() {
    let upstream = Upstream::start(|_| {
        Act::Answer(
            b"HTTP/1.1 200 OK\r\nConnection: X-Internal\r\nX-Internal: 1\r\nKeep-Alive: timeout=5\r\n\
              Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        )
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let answer = gateway
        .connect()
        .await
        .ask(
            "GET /a%2fb//c?q=%20&q HTTP/1.1\r\nHost: shop.test\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Many: 1\r\nX-Many: 2\r\n\
             X-Bytes: \u{e9}\r\nVia: 1.0 outer\r\n\r\n",
        )
        .await;
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.all("via"), ["1.1 inner", "1.1 semel"]);
    for name in ["x-internal", "keep-alive", "connection"] {
        assert_eq!(answer.all(name), [""; 0], "{name}");
    }
    let request = &upstream.received()[0].message;
    assert_eq!(request.start, "GET /a%2fb//c?q=%20&q HTTP/1.1");
    assert_eq!(request.all("host"), ["shop.test"]);
    assert_eq!(request.all("x-many"), ["1", "2"]);
    assert_eq!(request.all("x-bytes"), ["\u{e9}"]);
    assert_eq!(request.all("via"), ["1.0 outer", "1.1 semel"]);
    for name in ["x-hop", "keep-alive", "proxy-connection", "te", "connection"] {
        assert_eq!(request.all(name), [""; 0], "{name}");
    }
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["shop.test"]);
}

/// Two hosts in one request: the target's counts, and the application sees one (RFC 9112, 3.2.2).
#[tokio::test]
async fn the_host_in_the_target_wins() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    gateway.connect().await.ask("GET http://real.test/x HTTP/1.1\r\nHost: fake.test\r\n\r\n").await;
    let request = &upstream.received()[0].message;
    assert_eq!((request.start.as_str(), request.all("host")), ("GET /x HTTP/1.1", vec!["real.test"]));
}

#[tokio::test]
async fn http_1_0_gets_a_host_and_an_answer_it_can_read() {
    let upstream = Upstream::start(|_| {
        Act::Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec())
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\nok"), "{answer:?}");
    let request = &upstream.received()[0].message;
    assert_eq!(request.start, "GET / HTTP/1.1");
    assert_eq!(request.all("host"), [upstream.address().to_string()]);
}

#[tokio::test]
async fn the_base_path_the_upstreams_host_and_trusted_forwarded_fields_are_settings() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&format!("{}/base/", upstream.url()), |config| {
        config.host = HostPolicy::Upstream;
        config.forwarded = ForwardedPolicy::Append;
    });
    gateway.connect().await.ask("GET /x?y HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n").await;
    let request = &upstream.received()[0].message;
    assert_eq!(request.start, "GET /base/x?y HTTP/1.1");
    assert_eq!(request.all("host"), [upstream.address().to_string()]);
    assert_eq!(request.all("x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-host"), ["a"]);
}

#[tokio::test]
async fn heads_beyond_the_limits_are_431() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| {
        config.limits.header_bytes = 8192;
        config.limits.headers = 20;
    });
    let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(8192));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(20));
    let long =
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\nY: {}\r\n\r\n", "x".repeat(5000), "y".repeat(5000));
    for (request, status) in [(big, 431), (many, 431), (long, 431)] {
        let answer = gateway.connect().await.ask(request).await;
        assert_eq!(answer.status(), status, "{}", answer.start);
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.connect().await.ask(get("/")).await.status(), 200);
}

/// An answer too large for the limits is the application's fault, and nothing of it reaches the client.
#[tokio::test]
async fn an_answer_with_too_large_a_head_is_502() {
    let upstream = Upstream::start(|_| {
        Act::Answer(
            format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(20_000)).into(),
        )
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |config| config.limits.header_bytes = 8192);
    assert_eq!(gateway.connect().await.ask(get("/")).await.status(), 502);
}

#[tokio::test]
async fn two_pipelined_requests_get_their_answers_in_order() {
    let upstream =
        Upstream::start(|received| Act::Answer(answer(200, received.message.start.clone()))).await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(format!("{}{}", get("/1"), get("/2"))).await;
    assert_eq!(client.answer().await.text(), "GET /1 HTTP/1.1");
    assert_eq!(client.answer().await.text(), "GET /2 HTTP/1.1");
    assert_eq!(upstream.count(), 2);
}
