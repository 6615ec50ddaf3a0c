//! A client of HTTP/1.1 as bytes: it sends what a library would refuse to, and sees what was on the wire.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use semel_testkit::wire::{Message, read_message};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// What never comes fails a test after this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One try of a request.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    start: String,
    lines: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Option<String>,
}

impl Try {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            start: format!("{method} {path} HTTP/1.1"),
            lines: Vec::new(),
            body: Vec::new(),
            trailers: None,
        }
    }

    /// A POST to `/orders` of a JSON body.
    pub(crate) fn order(body: &str) -> Self {
        Self::new("POST", "/orders").json(body)
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.line("Content-Type", "application/json").body(body.as_bytes())
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// The key in quotes.
    pub(crate) fn key(self, key: &str) -> Self {
        self.line("Idempotency-Key", format!("\"{key}\""))
    }

    /// One more field line, as it is.
    pub(crate) fn line(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.lines.push((name.to_owned(), value.into()));
        self
    }

    /// Sends the body in chunks, and these lines behind it.
    pub(crate) fn trailers(mut self, lines: &str) -> Self {
        self.trailers = Some(lines.to_owned());
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\nHost: shop.test\r\n", self.start).into_bytes();
        for (name, value) in &self.lines {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        match &self.trailers {
            None => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                bytes.extend_from_slice(&self.body);
            }
            Some(trailers) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\nTrailer: Idempotency-Key\r\n\r\n");
                bytes.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
                bytes.extend_from_slice(&self.body);
                bytes.extend_from_slice(format!("\r\n0\r\n{trailers}\r\n").as_bytes());
            }
        }
        bytes
    }
}

/// One connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request and does not wait for anything.
    pub(crate) async fn send(&mut self, request: &Try) {
        self.0.write_all(&request.bytes()).await.unwrap();
    }

    /// Sends a head that declares a body, and nothing of the body.
    pub(crate) async fn send_head(&mut self, request: &Try, declared: usize) {
        let mut bytes = request.head();
        bytes.extend_from_slice(format!("Content-Length: {declared}\r\n\r\n").as_bytes());
        self.0.write_all(&bytes).await.unwrap();
    }

    /// The next answer; `None` if the server hung up instead.
    pub(crate) async fn answer(&mut self, bodyless: bool) -> Option<Message> {
        let read = tokio::time::timeout(PATIENCE, read_message(&mut self.0, bodyless));
        match read.await.expect("no answer in time") {
            Ok(answer) => answer,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no HTTP: {error}"),
        }
    }

    pub(crate) async fn ask(&mut self, request: &Try) -> Message {
        self.send(request).await;
        let bodyless = request.start.starts_with("HEAD ");
        self.answer(bodyless).await.expect("the server hung up")
    }
}

/// Sends a JSON order over HTTP/2 with prior knowledge. What comes back is shown as HTTP/1.1 would have it.
pub(crate) async fn order_over_http2(to: SocketAddr, key: &str, body: &'static str) -> Message {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://shop.test/orders")
        .header("idempotency-key", format!("\"{key}\""))
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body))
        .unwrap();
    let answer =
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("no answer in time");
    let (parts, body) = answer.unwrap().into_parts();
    assert_eq!(parts.version, http::Version::HTTP_2);
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    connection.abort();
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let start = format!("HTTP/2 {}", parts.status.as_u16());
    Message { start, fields: parts.headers.iter().map(field).collect(), body, ..Message::default() }
}

/// What tests look at in an answer.
pub(crate) trait Look {
    fn replayed(&self) -> bool;
    /// A member of the JSON body.
    fn member(&self, name: &str) -> String;
}

impl Look for Message {
    fn replayed(&self) -> bool {
        self.one("idempotency-replayed") == Some("true")
    }

    fn member(&self, name: &str) -> String {
        let json: serde_json::Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"));
        match &json[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}
