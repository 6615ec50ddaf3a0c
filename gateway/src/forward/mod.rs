//! The service that sends a request on to the application.

mod hygiene;
mod tunnel;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use tower_service::Service;

use crate::config::{ForwardedPolicy, GatewayConfig, HostPolicy, Protocol, UpstreamUrl};
use crate::upstream::{Dispatch, RequestBody, ResponseBody, Upstream, UpstreamError, UpstreamErrorKind};

/// Who sent a request: an extension that the listener adds to each one.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerInner>);

#[derive(Debug)]
struct PeerInner {
    address: SocketAddr,
    /// The address in the forms of `X-Forwarded-For` and `Forwarded`, written once a connection.
    ip: HeaderValue,
    node: HeaderValue,
}

/// Sends requests to the one upstream of a worker. Clones share its connections.
///
/// A request goes out a second time only if not one byte of it was written the first time. It fails with an
/// [`UpstreamError`], which says whether the application may have seen the request, and its body fails when the
/// answer ends early.
///
/// Has to be called inside a tokio runtime, and belongs to the one in which it was called first.
pub struct Forward<B: RequestBody> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: RequestBody> {
    upstream: Upstream<B>,
    host: HostPolicy,
    forwarded: ForwardedPolicy,
}

impl Peer {
    /// The peer at this address.
    pub fn new(address: SocketAddr) -> Self {
        let plain = address.ip().to_canonical();
        let node = match plain {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self(Arc::new(PeerInner { address, ip: value(&plain.to_string()), node: value(&node) }))
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl<B: RequestBody> Forward<B> {
    /// A service with a connection pool of its own.
    pub fn new(config: &GatewayConfig) -> Self {
        let inner = Inner { upstream: Upstream::new(config), host: config.host, forwarded: config.forwarded };
        Self { inner: Arc::new(inner) }
    }
}

impl<B: RequestBody> Service<Request<B>> for Forward<B> {
    type Response = Response<ResponseBody<B>>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.forward(request).await })
    }
}

impl<B: RequestBody> Inner<B> {
    async fn forward(&self, mut request: Request<B>) -> Result<Response<ResponseBody<B>>, UpstreamError> {
        if request.method() == Method::CONNECT {
            return Err(UpstreamError::new(UpstreamErrorKind::Unsupported, Dispatch::Never, None));
        }
        let protocol = match self.upstream.url().protocol {
            Protocol::Http1 => hygiene::upgrade(request.version(), request.method(), request.headers()),
            Protocol::Http2 => None,
        };
        self.rewrite(&mut request)?;
        let mut answer = match protocol {
            Some(protocol) => tunnel::open(&self.upstream, request, protocol).await?,
            None => self.upstream.send(request).await?,
        };
        let version = answer.version();
        *answer.version_mut() = Version::HTTP_11;
        if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            hygiene::remove_hop_by_hop(answer.headers_mut());
        }
        hygiene::add_via(answer.headers_mut(), version);
        Ok(answer)
    }

    /// Makes the request one of the gateway's own to the application.
    fn rewrite(&self, request: &mut Request<B>) -> Result<(), UpstreamError> {
        let url = self.upstream.url();
        let arrived = request.version();
        let host = named_host(request);
        let peer = request.extensions_mut().remove::<Peer>();
        let headers = request.headers_mut();
        hygiene::clean_request(headers, url.protocol == Protocol::Http1);
        hygiene::add_via(headers, arrived);
        hygiene::add_forwarded(headers, peer.as_ref(), host.as_ref(), self.forwarded);
        let host = match (self.host, host) {
            (HostPolicy::Preserve, Some(host)) => host,
            (HostPolicy::Preserve, None) | (HostPolicy::Upstream, _) => url.host_field.clone(),
        };
        let path = with_base(&url.base, request.uri().path_and_query())?;
        match url.protocol {
            Protocol::Http1 => {
                request.headers_mut().insert(HOST, host);
                *request.version_mut() = Version::HTTP_11;
                *request.uri_mut() = path.map_or_else(|| Uri::from_static("*"), Uri::from);
            }
            Protocol::Http2 => {
                request.headers_mut().remove(HOST);
                *request.version_mut() = Version::HTTP_2;
                let unsupported =
                    || UpstreamError::new(UpstreamErrorKind::Unsupported, Dispatch::Never, None);
                let uri = Uri::builder()
                    .scheme(UpstreamUrl::scheme())
                    .authority(host.as_bytes())
                    .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("*")));
                *request.uri_mut() = uri.build().map_err(|_| unsupported())?;
            }
        }
        Ok(())
    }
}

/// The host that a client means. The target's wins over the field (RFC 9112, 3.2.2).
fn named_host<B>(request: &Request<B>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    }
}

/// The target at the upstream; `None` for `*`.
fn with_base(base: &str, target: Option<&PathAndQuery>) -> Result<Option<PathAndQuery>, UpstreamError> {
    let Some(target) = target else { return Ok(Some(PathAndQuery::from_static("/"))) };
    if target.as_str() == "*" {
        return Ok(None);
    }
    if base.is_empty() {
        return Ok(Some(target.clone()));
    }
    PathAndQuery::from_maybe_shared(Bytes::from(format!("{base}{target}"))).map(Some).map_err(|error| {
        UpstreamError::new(UpstreamErrorKind::Unsupported, Dispatch::Never, Some(error.into()))
    })
}

impl<B: RequestBody> Clone for Forward<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<B: RequestBody> fmt::Debug for Forward<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("upstream", &self.inner.upstream).finish()
    }
}
