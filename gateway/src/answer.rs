//! What a client reads when the gateway cannot forward a request that is not guarded, and what the engine learns
//! of one that is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower_service::Service;

use crate::upstream::{RequestBody, ResponseBody, UpstreamError, UpstreamErrorKind};

/// Turns the failure of a service into an answer (RFC 9457), which carries it for the engine as a
/// [`Failure`](semel_core::engine::Failure).
#[derive(Clone, Debug)]
pub struct Answering<S> {
    inner: S,
}

impl<S> Answering<S> {
    /// Answers for `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, Q, B> Service<Request<Q>> for Answering<S>
where
    S: Service<Request<Q>, Response = Response<ResponseBody<B>>, Error = UpstreamError>,
    B: RequestBody,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = AnsweringFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        AnsweringFuture { future: self.inner.call(request) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Answering`].
    #[derive(Debug)]
    pub struct AnsweringFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, B> Future for AnsweringFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody<B>>, UpstreamError>>,
    B: RequestBody,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.project().future.poll(cx));
        Poll::Ready(Ok(outcome.unwrap_or_else(|error| problem(&error))))
    }
}

fn problem<B: RequestBody>(error: &UpstreamError) -> Response<ResponseBody<B>> {
    tracing::warn!(%error, source = error.source_text(), "request not forwarded");
    let status = match error.kind() {
        UpstreamErrorKind::RequestBody => StatusCode::BAD_REQUEST,
        UpstreamErrorKind::RequestBodyTimeout => StatusCode::REQUEST_TIMEOUT,
        UpstreamErrorKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        UpstreamErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        UpstreamErrorKind::ResponseTimeout | UpstreamErrorKind::BodyTimeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    // Every text here is a constant without a quote.
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{error}"}}"#,
        status.as_u16()
    );
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.extensions_mut().insert(error.failure());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
