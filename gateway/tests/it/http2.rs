//! HTTP/2 with prior knowledge on either side.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Upstream, get, post, start};

/// What an HTTP/2 application does about a request that it was sent.
#[derive(Clone, Copy)]
enum Act {
    Answer,
    Reset(Reason),
    /// GOAWAY that says the stream was not processed.
    GoAwayBefore,
    /// Closes the connection.
    HangUp,
}

/// An HTTP/2 application that acts alike on every request, and counts them.
async fn application(act: Act) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                if matches!(act, Act::GoAwayBefore) {
                    go_away(stream, &counter).await;
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    counter.fetch_add(1, Ordering::SeqCst);
                    match act {
                        Act::HangUp => return,
                        Act::Reset(reason) => {
                            let mut respond = respond;
                            respond.send_reset(reason);
                        }
                        Act::Answer | Act::GoAwayBefore => {
                            tokio::spawn(respond_to(request, respond));
                        }
                    }
                }
            });
        }
    });
    (address, count)
}

async fn respond_to(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let answer = format!("{} {} {length} {:?}", head.method, head.uri, head.headers.get("te"));
    let mut sending = respond.send_response(Response::new(()), false).unwrap();
    sending.send_data(answer.into(), false).unwrap();
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    sending.send_trailers(trailers).unwrap();
}

/// Speaks just enough HTTP/2 to say GOAWAY with last stream 0 to the first request.
async fn go_away(mut stream: TcpStream, counter: &AtomicUsize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 1 {
            counter.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        }
    }
}

async fn client(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

async fn body_of(response: Response<h2::RecvStream>) -> (u16, String, Option<HeaderMap>) {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data.unwrap());
    }
    (status, String::from_utf8(bytes).unwrap(), body.trailers().await.unwrap())
}

#[tokio::test]
async fn http2_clients_and_http1_clients_share_the_port() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    let mut http2 = client(gateway.address).await;
    for _ in 0..3 {
        let request = Request::post("http://shop.test/orders?x=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (answer, mut body) = http2.send_request(request, false).unwrap();
        body.send_data("1".into(), true).unwrap();
        assert_eq!(body_of(answer.await.unwrap()).await.1, "ok");
    }
    assert_eq!(gateway.connect().await.ask(get("/")).await.text(), "ok");
    let request = &upstream.received()[0].message;
    assert_eq!(request.start, "POST /orders?x=1 HTTP/1.1");
    assert_eq!((request.all("host"), request.all("cookie")), (vec!["shop.test"], vec!["a=1; b=2"]));
    assert_eq!((request.text().as_str(), request.all("via")), ("1", vec!["2.0 semel"]));
    assert_eq!((upstream.count(), upstream.connections()), (4, 1));
}

#[tokio::test]
async fn an_http2_application_gets_streams_of_one_connection() {
    let (address, count) = application(Act::Answer).await;
    let gateway = start(&format!("h2c://{address}/base"), |_| {});
    let mut http1 = gateway.connect().await;
    let answer = http1.ask(post("/orders", "123")).await;
    assert_eq!(answer.text(), "POST http://shop.test/base/orders 3 None");
    let mut http2 = client(gateway.address).await;
    let request = Request::get("http://shop.test/x").header("te", "trailers").body(()).unwrap();
    let (answer, _) = http2.send_request(request, true).unwrap();
    let (_, text, trailers) = body_of(answer.await.unwrap()).await;
    assert_eq!(text, r#"GET http://shop.test/base/x 0 Some("trailers")"#);
    assert_eq!(trailers.unwrap()["x-sum"], "7");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn no_request_that_an_http2_application_saw_is_sent_again() {
    for (act, says) in [
        (Act::Reset(Reason::REFUSED_STREAM), "did not process"),
        (Act::GoAwayBefore, "did not process"),
        (Act::Reset(Reason::INTERNAL_ERROR), "without an answer"),
        (Act::Reset(Reason::CANCEL), "without an answer"),
        (Act::HangUp, "without an answer"),
    ] {
        let (address, count) = application(act).await;
        let gateway = start(&format!("h2c://{address}"), |_| {});
        let answer = gateway.connect().await.ask(post("/orders", "1")).await;
        assert_eq!(answer.status(), 502);
        assert!(answer.text().contains(says), "{} {says}", answer.text());
        assert_eq!(count.load(Ordering::SeqCst), 1, "{says}");
    }
}

/// HTTP/2 has no `Connection`; an HTTP/1.1 application must not get one from there (RFC 9113, 8.2.2).
#[tokio::test]
async fn fields_of_an_http1_connection_are_refused_in_http2() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let gateway = start(&upstream.url(), |_| {});
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "websocket"), ("te", "gzip")]
    {
        let mut http2 = client(gateway.address).await;
        let request = Request::post("http://a/").header(name, value).body(()).unwrap();
        if let Ok((answer, _)) = http2.send_request(request, true) {
            assert!(answer.await.is_err(), "{name}");
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn running_streams_end_before_the_gateway_does() {
    let upstream = Upstream::answering("ok").await.unwrap();
    let mut gateway = start(&upstream.url(), |_| {});
    let mut http2 = client(gateway.address).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (answer, mut body) = http2.send_request(request, false).unwrap();
    body.send_data("half".into(), false).unwrap();
    assert!(upstream.until(|upstream| upstream.open() == 1).await);
    gateway.begin_shutdown();
    // The client learns that no further request is welcome.
    while poll_fn(|cx| http2.poll_ready(cx)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    body.send_data("whole".into(), true).unwrap();
    assert_eq!(body_of(answer.await.unwrap()).await.1, "ok");
    assert_eq!(upstream.received()[0].message.text(), "halfwhole");
    assert_eq!(gateway.ended().await.aborted, 0);
}
