//! A client with a connection for each request, so that it can hang up.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
const LARGEST: usize = 1 << 20;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A member of a JSON body, as text.
    pub(super) fn member(&self, name: &str) -> Option<String> {
        let document: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        match document.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// Sends a request on a new connection. Dropping the future hangs up.
pub(super) async fn send(address: SocketAddr, ask: Ask) -> Result<Answer, NoAnswer> {
    match timeout(PATIENCE, exchange(address, ask)).await {
        Ok(answer) => answer.map_err(|error| NoAnswer(error.to_string())),
        Err(_) => Err(NoAnswer(format!("no answer within {PATIENCE:?}"))),
    }
}

async fn exchange(address: SocketAddr, ask: Ask) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(ask.method).uri(ask.path).header(HOST, address.to_string());
    if !ask.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in ask.fields {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(ask.body)))?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    // Both in this future, so that dropping it closes the connection.
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}
