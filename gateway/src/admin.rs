//! `/healthz` and `/readyz`, on an address of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::hooks::Hooks;
use crate::upstream::ResponseBody;

const CONNECTIONS: usize = 64;
const HEADER_READ: Duration = Duration::from_secs(5);
const HEALTH: Duration = Duration::from_secs(2);

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, hooks: Hooks, closing: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (hooks, closing) = (hooks.clone(), closing.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (hooks, closing) = (hooks.clone(), closing.clone());
                async move { Ok::<_, Infallible>(answer(&request, &hooks, &closing).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "admin: connection ended");
            }
            drop(permit);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    hooks: &Hooks,
    closing: &watch::Receiver<bool>,
) -> Response<ResponseBody<Incoming>> {
    let known = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !known {
        return json(StatusCode::NOT_FOUND, r#"{"paths":["/healthz","/readyz"]}"#);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = json(StatusCode::METHOD_NOT_ALLOWED, r#"{"methods":["GET","HEAD"]}"#);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if request.uri().path() == "/healthz" {
        return json(StatusCode::OK, r#"{"alive":true}"#);
    }
    let reason = if *closing.borrow() {
        Some("shutting down".to_owned())
    } else {
        match timeout(HEALTH, hooks.ready()).await {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_) => Some("the health check took too long".to_owned()),
        }
    };
    match reason {
        None => json(StatusCode::OK, r#"{"ready":true}"#),
        Some(reason) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(r#"{{"ready":false,"reason":"{}"}}"#, escape(&reason)),
        ),
    }
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<ResponseBody<Incoming>> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = matches!(character, '"' | '\\').then_some('\\');
            escaped.into_iter().chain([if character.is_control() { ' ' } else { character }])
        })
        .collect()
}
