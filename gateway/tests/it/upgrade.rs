//! Upgrades become tunnels.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Act, Upstream, answer, get, start};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: x\r\n\r\n";

async fn echoing() -> Upstream {
    Upstream::start(|received| {
        if received.message.one("upgrade") != Some("websocket") {
            return Act::Answer(answer(200, "plain"));
        }
        Act::Take(Box::new(|mut stream| {
            Box::pin(async move {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: y\r\n\r\nhello";
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut bytes = [0; 256];
                while let Ok(length) = stream.read(&mut bytes).await {
                    if length == 0 || stream.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
            })
        }))
    })
    .await
    .unwrap()
}

/// Bytes that would be no HTTP at all go through, since both sides agreed on another protocol.
#[tokio::test]
async fn a_websocket_carries_any_bytes_both_ways() {
    let upstream = echoing().await;
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let head = client.head().await;
    assert_eq!((head.status(), head.one("upgrade")), (101, Some("websocket")));
    assert_eq!((head.one("connection"), head.one("sec-websocket-accept")), (Some("upgrade"), Some("y")));
    assert_eq!(client.exactly(5).await, b"hello");
    let bytes: Vec<u8> = (0..=255).collect();
    for _ in 0..3 {
        client.send(&bytes).await;
        assert_eq!(client.exactly(256).await, bytes);
    }
    let request = &upstream.received()[0].message;
    assert_eq!((request.one("connection"), request.one("sec-websocket-key")), (Some("upgrade"), Some("x")));
    drop(client);
    assert!(upstream.until(|upstream| upstream.open() == 0).await);
}

#[tokio::test]
async fn an_upgrade_that_is_not_taken_up_is_an_ordinary_request() {
    let upstream = Upstream::answering("no").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    assert_eq!(client.ask(ASK).await.text(), "no");
    assert_eq!(client.ask(get("/")).await.text(), "no");
    assert_eq!(upstream.count(), 2);
}

/// A tunnel to HTTP/2 would hide its requests from the gateway.
#[tokio::test]
async fn an_upgrade_to_h2c_is_not_passed_on() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    assert_eq!(client.ask(ask).await.status(), 200);
    assert_eq!(client.ask(get("/")).await.status(), 200);
    let request = &upstream.received()[0].message;
    assert_eq!((request.one("upgrade"), request.one("http2-settings")), (None, None));
}

/// A request behind an upgrade whose answer is open would go into the tunnel unseen.
#[tokio::test]
async fn a_request_behind_an_upgrade_is_refused() {
    let upstream = echoing().await;
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(format!("{ASK}{}", get("/smuggled"))).await;
    let answers = String::from_utf8_lossy(&client.rest().await).into_owned();
    assert!(!answers.contains("plain"), "{answers:?}");
    assert!(!answers.contains("smuggled"), "{answers:?}");
}
