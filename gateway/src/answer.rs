//! What a client reads when the gateway cannot forward a request that is not guarded, and what the engine learns
//! of one that is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use semel_core::policy::Policy;
use semel_core::problem::{Code, Docs, Problem};
use tower_service::Service;

use crate::upstream::{RequestBody, ResponseBody, UpstreamError, UpstreamErrorKind};

/// Turns the failure of a service into an answer (RFC 9457), which carries it for the engine as a
/// [`Failure`](semel_core::engine::Failure).
#[derive(Clone, Debug)]
pub struct Answering<S> {
    inner: S,
    rules: Option<Policy>,
}

impl<S> Answering<S> {
    /// Answers for `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, rules: None }
    }

    /// Tells of an application that cannot be reached as these rules tell problems.
    pub(crate) fn by(mut self, rules: &Policy) -> Self {
        self.rules = Some(rules.clone());
        self
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
        let accept = request.headers().get(ACCEPT).cloned();
        AnsweringFuture { future: self.inner.call(request), accept, rules: self.rules.clone() }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Answering`].
    #[derive(Debug)]
    pub struct AnsweringFuture<F> {
        #[pin]
        future: F,
        accept: Option<HeaderValue>,
        rules: Option<Policy>,
    }
}

impl<F, B> Future for AnsweringFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody<B>>, UpstreamError>>,
    B: RequestBody,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(cx));
        Poll::Ready(Ok(
            outcome.unwrap_or_else(|error| failed(&error, this.accept.take(), this.rules.as_ref()))
        ))
    }
}

fn failed<B: RequestBody>(
    error: &UpstreamError,
    accept: Option<HeaderValue>,
    rules: Option<&Policy>,
) -> Response<ResponseBody<B>> {
    tracing::warn!(%error, source = error.source_text(), "request not forwarded");
    let mut response = match error.kind() {
        UpstreamErrorKind::Unreachable | UpstreamErrorKind::Refused | UpstreamErrorKind::ConnectTimeout => {
            unreachable(error, accept, rules)
        }
        UpstreamErrorKind::RequestBody => blank(error, StatusCode::BAD_REQUEST),
        UpstreamErrorKind::RequestBodyTimeout => blank(error, StatusCode::REQUEST_TIMEOUT),
        UpstreamErrorKind::Overloaded => blank(error, StatusCode::SERVICE_UNAVAILABLE),
        UpstreamErrorKind::Unsupported => blank(error, StatusCode::NOT_IMPLEMENTED),
        // As core says for a run that ended so.
        _ => blank(error, error.failure().kind.status()),
    };
    response.extensions_mut().insert(error.failure());
    response
}

/// Nothing was sent: the same problem that a guarded request gets.
fn unreachable<B: RequestBody>(
    error: &UpstreamError,
    accept: Option<HeaderValue>,
    rules: Option<&Policy>,
) -> Response<ResponseBody<B>> {
    let mut asked = HeaderMap::new();
    if let Some(accept) = accept {
        asked.insert(ACCEPT, accept);
    }
    let problem = Problem::new(Code::UpstreamUnreachable)
        .with_detail(error.to_string())
        .with_retry_after(Duration::from_secs(1));
    let told = match rules {
        Some(rules) => rules.render(&problem, &asked),
        None => problem.render(&asked, &Docs::default()),
    };
    told.map(ResponseBody::full)
}

/// A failure that the status says all about (RFC 9457, section 4.2.1).
fn blank<B: RequestBody>(error: &UpstreamError, status: StatusCode) -> Response<ResponseBody<B>> {
    // Every text here is a constant without a quote.
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{error}"}}"#,
        status.as_u16()
    );
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
