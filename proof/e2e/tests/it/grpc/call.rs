//! A client of gRPC that sees fields, messages and trailers as they are on the wire.

use std::net::SocketAddr;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::shop::framed;
use crate::client::PATIENCE;

/// One try of a call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: String,
    fields: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    /// A call of one message.
    pub(super) fn new(method: &str, message: &str) -> Self {
        Self { method: method.to_owned(), fields: Vec::new(), body: framed(message.as_bytes()) }
    }

    /// `Place` with this item.
    pub(super) fn place(item: &str) -> Self {
        Self::new("/shop.Orders/Place", item)
    }

    pub(super) fn key(self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    /// One more piece of metadata.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// These bytes in place of the framed message.
    pub(super) fn raw(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::post(format!("http://shop.test{}", self.method))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        request.body(body).unwrap()
    }

    /// Sends the call over a connection of its own; `None` if the answer broke off.
    pub(super) async fn try_send(&self, to: SocketAddr) -> Option<Answer> {
        let sent = async {
            let response =
                open(to).await.send_request(self.request(Full::new(self.body.clone()))).await.ok()?;
            Answer::read(response).await
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("no answer in time")
    }

    pub(super) async fn send(&self, to: SocketAddr) -> Answer {
        self.try_send(to).await.expect("the answer broke off")
    }

    /// Sends the head and the message, and leaves the call open.
    pub(super) async fn open(&self, to: SocketAddr) -> Open {
        let (mut messages, body) = Channel::new(4);
        messages.send_data(self.body.clone()).await.unwrap();
        let mut connection = open(to).await;
        let answer = connection.send_request(self.request(body));
        let answer = tokio::spawn(async move {
            let _connection = connection;
            tokio::time::timeout(PATIENCE, answer).await.expect("no answer in time").unwrap()
        });
        Open { messages, answer }
    }
}

/// A call whose messages are still being sent.
pub(super) struct Open {
    pub(super) messages: Sender<Bytes>,
    answer: tokio::task::JoinHandle<Response<Incoming>>,
}

impl Open {
    /// Sends no more: the head of the answer, and its body as it comes.
    pub(super) async fn ended(self) -> Response<Incoming> {
        drop(self.messages);
        self.answer.await.unwrap()
    }

    /// The head of the answer, and its body as it comes. The call goes on while the sender is held.
    pub(super) async fn head(self) -> (Sender<Bytes>, Response<Incoming>) {
        (self.messages, self.answer.await.unwrap())
    }
}

async fn open<B>(to: SocketAddr) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The next piece of a body.
pub(super) async fn next(body: &mut Incoming) -> Option<Bytes> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("nothing more in time");
    frame?.unwrap().into_data().ok()
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Option<Self> {
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, StatusCode::OK, "gRPC says everything in its own status: {parts:?}");
        assert_eq!(parts.headers["content-type"], "application/grpc");
        let whole = body.collect().await.ok()?;
        let trailers = whole.trailers().cloned();
        Some(Self { headers: parts.headers, body: whole.to_bytes(), trailers })
    }

    /// `None` where there is none: the answer was cut.
    pub(super) fn status(&self) -> Option<Status> {
        let of = |fields: &HeaderMap| Status::from_header_map(fields);
        self.trailers.as_ref().and_then(of).or_else(|| of(&self.headers))
    }

    /// The number of its status.
    pub(super) fn number(&self) -> i32 {
        self.status().expect("a status").code().into()
    }

    pub(super) fn replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// What its message says of this.
    pub(super) fn said(&self, name: &str) -> String {
        let mut body = self.body.clone();
        assert_eq!(body.get_u8(), 0, "compressed");
        assert_eq!(body.get_u32() as usize, body.len());
        let text = String::from_utf8(body.to_vec()).unwrap();
        let found = text.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }

    /// The status, the code and the way to retry of a refusal by Semel.
    #[track_caller]
    pub(super) fn refusal(&self) -> (i32, String, String) {
        assert!(self.body.is_empty() && self.trailers.is_none(), "trailers alone: {self:?}");
        assert!(!self.replayed());
        let status = self.status().expect("a status");
        let details = status.get_error_details();
        let info = details.error_info().expect("google.rpc.ErrorInfo");
        let code = info.metadata["code"].clone();
        assert_eq!(info.domain, "semel");
        assert_eq!(info.reason, code.to_uppercase().replace('-', "_"));
        assert!(info.metadata["instance"].starts_with("urn:uuid:"));
        assert!(details.help().unwrap().links[0].url.ends_with(&format!("/problems/{code}")));
        let after = self.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        let delay = details.retry_info().and_then(|info| info.retry_delay).map(|delay| delay.as_secs());
        assert_eq!(delay, after, "both say the same");
        (status.code().into(), code, info.metadata["retry"].clone())
    }
}
