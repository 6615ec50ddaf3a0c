//! Bodies go through byte for byte, as they come.

use semel_testkit::wire;
use tokio::io::AsyncWriteExt;

use crate::support::{Act, PATIENCE, SHORT, Upstream, answer, get, post, silent, start};

#[tokio::test]
async fn every_byte_passes_in_both_directions() {
    let upstream =
        Upstream::start(|received| Act::Answer(answer(200, &received.message.body))).await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut client = gateway.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", bytes.len())).await;
    client.send(&bytes).await;
    assert_eq!(client.answer().await.body, bytes);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunk in bytes.chunks(777) {
        client.send(format!("{:X}\r\n", chunk.len())).await;
        client.send(chunk).await;
        client.send("\r\n").await;
    }
    assert_eq!(client.ask("0\r\n\r\n").await.body, bytes);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let upstream = Upstream::start(|received| {
        let start = &received.message.start;
        Act::Answer(if start.contains("/204") {
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
        } else if start.contains("/304") {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 7\r\n\r\n".to_vec()
        } else if start.starts_with("HEAD") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_vec()
        } else {
            answer(200, "whole")
        })
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    assert_eq!(client.ask(get("/204")).await.status(), 204);
    assert_eq!(client.ask(get("/304")).await.one("etag"), Some("\"1\""));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.one("content-length"), Some("7"));
    assert_eq!(client.ask(get("/")).await.text(), "whole");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let upstream = Upstream::start(|_| {
        Act::Answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
              2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
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
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Check\r\n\
             Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Check: 9\r\n\r\n",
        )
        .await;
    assert_eq!((answer.text().as_str(), &answer.trailers[..]), ("ok", &[("x-sum".into(), "7".into())][..]));
    let request = &upstream.received()[0].message;
    assert_eq!(request.trailers, [("x-check".into(), "9".into())]);
    assert_eq!((request.all("te"), request.all("connection")), (vec!["trailers"], vec!["te"]));
}

/// The first bytes of an answer arrive while the request is still being written.
#[tokio::test]
async fn both_bodies_stream_at_once() {
    let upstream = duplex().await;
    let gateway = start(&format!("http://{upstream}"), |_| {});
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("1\r\na\r\n").await;
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.exactly(6).await, b"1\r\na\r\n");
    for letter in ["b", "c"] {
        client.send(format!("1\r\n{letter}\r\n")).await;
        assert_eq!(client.exactly(6).await, format!("1\r\n{letter}\r\n").as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
}

/// An application that answers before it has read: a client that writes all before it reads must not be held up
/// by its own answer.
#[tokio::test]
async fn a_large_answer_does_not_hold_up_a_large_request() {
    const SIZE: usize = 32 << 20;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (reading, mut writing) = stream.split();
        let mut reading = tokio::io::BufReader::new(reading);
        wire::read_head(&mut reading).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let body = vec![7; SIZE];
        let mut sink = tokio::io::sink();
        let (_, _) = tokio::join!(writing.write_all(&body), tokio::io::copy(&mut reading, &mut sink));
    });
    let gateway = start(&upstream, |_| {});
    let mut client = gateway.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).await;
    let body = vec![8; SIZE];
    tokio::time::timeout(PATIENCE, client.send(&body)).await.expect("the request goes through");
    assert_eq!(client.answer().await.body.len(), SIZE);
}

/// An application that sends each byte of a chunked body back at once.
async fn duplex() -> std::net::SocketAddr {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        wire::read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes).await {
                Ok(length) if length > 0 => stream.write_all(&bytes[..length]).await.unwrap(),
                _ => return,
            }
        }
    });
    address
}

#[tokio::test]
async fn a_truncated_answer_is_never_passed_off_as_whole() {
    for (what, bytes) in [
        ("short of its length", &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..]),
        ("without its last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("in a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"),
    ] {
        let upstream = Upstream::start(move |_| Act::AnswerAndClose(bytes.to_vec())).await.unwrap();
        let gateway = start(&upstream.url(), |_| {});
        let mut client = gateway.connect().await;
        client.send(post("/", "1")).await;
        assert_eq!(client.try_answer().await, None, "{what}");
        assert_eq!(upstream.count(), 1, "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let upstream =
        Upstream::start(|_| Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()))
            .await
            .unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.body_idle = SHORT);
    let mut client = gateway.connect().await;
    client.send(get("/")).await;
    assert_eq!(client.try_answer().await, None);
    assert!(upstream.until(|upstream| upstream.open() == 0).await);
}

/// A body that its client cuts short is not a request: the application never gets its end.
#[tokio::test]
async fn a_request_that_its_client_cuts_short_is_not_completed() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(upstream.until(|upstream| upstream.open() == 1).await);
    drop(client);
    assert!(upstream.until(|upstream| upstream.open() == 0).await);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_request_that_stands_still_is_408() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.response = SHORT);
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(client.answer().await.status(), 408);
    assert_eq!(upstream.count(), 0);
}

/// 100 goes out when the request goes on, and not when it is refused.
#[tokio::test]
async fn continue_is_said_only_when_somebody_will_read() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let expecting = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut client = gateway.connect().await;
    assert_eq!(client.ask(expecting).await.start, "HTTP/1.1 100 Continue");
    assert_eq!(client.ask("hi").await.text(), "ok");
    let request = &upstream.received()[0].message;
    assert_eq!((request.text().as_str(), request.one("expect")), ("hi", None));

    let (_socket, url) = silent();
    let gateway = start(&url, |_| {});
    assert_eq!(gateway.connect().await.ask(expecting).await.status(), 502);
}

/// A body goes through in pieces: a gateway that collected it would run out of memory on the next one. While the
/// client does not read, the application cannot write more than the sockets on the way hold.
#[tokio::test]
async fn a_large_body_is_not_collected() {
    const SIZE: usize = 128 << 20;
    const PIECE: usize = 64 << 10;
    let (stalled, mut stalls) = tokio::sync::watch::channel(None);
    let stalled = std::sync::Arc::new(stalled);
    let upstream = Upstream::start(move |_| {
        let stalled = std::sync::Arc::clone(&stalled);
        Act::Take(Box::new(move |mut stream| {
            Box::pin(async move {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![7; PIECE];
                for sent in (0..SIZE).step_by(PIECE) {
                    let mut writing = std::pin::pin!(stream.write_all(&piece));
                    let written = if let Ok(written) = tokio::time::timeout(SHORT, &mut writing).await {
                        written
                    } else {
                        stalled.send_if_modified(|stall| stall.replace(sent).is_none());
                        writing.await
                    };
                    written.unwrap();
                }
            })
        }))
    })
    .await
    .unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(get("/")).await;
    assert_eq!(client.head().await.status(), 200);
    let waiting = stalls.wait_for(Option::is_some);
    let sent = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert!(sent < SIZE / 4, "{sent} bytes were taken from the application");
    for _ in 0..SIZE / PIECE {
        assert!(client.exactly(PIECE).await.iter().all(|byte| *byte == 7));
    }
}
