//! Bytes that two parsers could read in two ways never reach the application.

use crate::support::{SHORT, Upstream, get, post, start};

const HEAD: &str = "POST /orders HTTP/1.1\r\nHost: a\r\n";

/// What, and what the application would have to be protected from.
fn refused() -> Vec<(&'static str, String)> {
    let head = |rest: &str| format!("{HEAD}{rest}");
    let chunked = |rest: &str| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{rest}");
    vec![
        ("CL with TE", head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("TE with CL", head("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")),
        ("two CL", head("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("the same CL twice", head("Content-Length: 1\r\nContent-Length: 1\r\n\r\na")),
        ("a list of CL", head("Content-Length: 1, 1\r\n\r\na")),
        ("signed CL", head("Content-Length: +1\r\n\r\na")),
        ("negative CL", head("Content-Length: -1\r\n\r\na")),
        ("hexadecimal CL", head("Content-Length: 0x1\r\n\r\na")),
        ("CL of nothing", head("Content-Length:\r\n\r\n")),
        ("huge CL", head("Content-Length: 99999999999999999999\r\n\r\n")),
        ("TE identity", head("Transfer-Encoding: identity\r\n\r\n")),
        ("TE gzip, chunked", head("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("TE chunked, identity", head("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("TE twice", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("TE xchunked", head("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("TE quoted", head("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n")),
        ("TE with a vertical tab", head("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n")),
        (
            "TE in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("bare LF ends a field", "POST /orders HTTP/1.1\r\nHost: a\nContent-Length: 1\r\n\r\na".into()),
        ("bare LF ends the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n".into()),
        ("bare LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n".into()),
        ("bare CR in a value", head("X: a\rb\r\n\r\n")),
        ("bare CR before a name", head("\rContent-Length: 1\r\n\r\na")),
        ("NUL in a value", head("X: a\0b\r\n\r\n")),
        ("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("folded line", head("X: a\r\n b\r\n\r\n")),
        ("folded first line", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n".into()),
        ("folded TE", head("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n")),
        ("space before the colon", head("Content-Length : 1\r\n\r\na")),
        ("tab before the colon", head("Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n")),
        ("no colon", head("Content-Length\r\n\r\n")),
        ("empty name", head(": 1\r\n\r\n")),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        ("the same Host twice", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".into()),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("Host with a comma", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into()),
        ("Host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".into()),
        ("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into()),
        ("HTTP/0.9", "GET /\r\n".into()),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n".into()),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("chunk size in words", chunked("five\r\nabcde\r\n0\r\n\r\n")),
        ("empty chunk size", chunked("\r\nabcde\r\n0\r\n\r\n")),
        ("signed chunk size", chunked("+5\r\nabcde\r\n0\r\n\r\n")),
        ("chunk size with 0x", chunked("0x5\r\nabcde\r\n0\r\n\r\n")),
        ("chunk size over 64 bits", chunked("10000000000000005\r\nabcde\r\n0\r\n\r\n")),
        ("space behind a chunk size", chunked("5 \r\nabcde\r\n0\r\n\r\n")),
        ("chunk longer than said", chunked("3\r\nabcde\r\n0\r\n\r\n")),
        ("chunk without its end", chunked("5\r\nabcde0\r\n\r\n")),
        ("bare LF behind a chunk size", chunked("5\nabcde\r\n0\r\n\r\n")),
        ("bare LF behind a chunk", chunked("5\r\nabcde\n0\r\n\r\n")),
        ("bare LF in a chunk extension", chunked("5;a\nb\r\nabcde\r\n0\r\n\r\n")),
        ("bare CR in a chunk extension", chunked("5;a\rb\r\nabcde\r\n0\r\n\r\n")),
        ("endless chunk extension", chunked(&format!("5;{}\r\nabcde\r\n0\r\n\r\n", "x".repeat(2000)))),
        ("bare LF in the trailers", chunked("0\r\nX: 1\n\r\n")),
        ("framing in the trailers", chunked("0\r\nContent-Length: 5\r\n\r\n")),
        ("folded trailers", chunked("0\r\nX: 1\r\n 2\r\n\r\n")),
    ]
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_their_connection_ends() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.header_read = SHORT);
    for (what, bytes) in refused() {
        let mut client = gateway.connect().await;
        // Whoever smuggles hopes that this one is answered.
        client.send(format!("{bytes}{}", get("/smuggled"))).await;
        let answers = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(answers.starts_with("HTTP/1.1 400 "), "{what}: {answers:?}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{what}: {answers:?}");
        assert_eq!(upstream.count(), 0, "{what}");
    }
    assert_eq!(gateway.connect().await.ask(get("/")).await.status(), 200);
}

/// The same bytes one at a time: no cut between two reads hides them.
#[tokio::test]
async fn ambiguous_heads_are_refused_when_they_arrive_byte_by_byte() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |config| config.timeouts.header_read = SHORT * 25);
    for (what, bytes) in refused().into_iter().filter(|(_, bytes)| bytes.len() < 120) {
        let mut client = gateway.connect().await;
        for byte in bytes.as_bytes() {
            use tokio::io::AsyncWriteExt;
            if client.0.get_mut().write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answers = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(!answers.contains("HTTP/1.1 200"), "{what}: {answers:?}");
        assert_eq!(upstream.count(), 0, "{what}");
    }
}

/// A good request before a bad one on the same connection keeps its answer.
#[tokio::test]
async fn a_refusal_does_not_take_back_the_answer_before_it() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    client.send(format!("{}{HEAD}Content-Length: 1\r\nContent-Length: 1\r\n\r\na", post("/", "1"))).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(client.answer().await.status(), 400);
    assert!(client.rest().await.is_empty());
    assert_eq!(upstream.count(), 1);
}

/// What looks like a request inside a body is a body.
#[tokio::test]
async fn a_request_in_a_body_stays_there() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut client = gateway.connect().await;
    let inner = "GET /smuggled HTTP/1.1\nHost: a\n\n";
    assert_eq!(client.ask(post("/", inner)).await.status(), 200);
    let chunked =
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{:x};q=1\r\n{inner}\r\n0\r\n\r\n", inner.len());
    assert_eq!(client.ask(chunked).await.status(), 200);
    let bodies: Vec<String> = upstream.received().iter().map(|received| received.message.text()).collect();
    assert_eq!(bodies, [inner, inner]);
}

#[tokio::test]
async fn connect_is_refused() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let answer = gateway.connect().await.ask("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").await;
    assert_eq!((answer.status(), upstream.count()), (501, 0));
}
