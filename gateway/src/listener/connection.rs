//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tower_service::Service;

use super::guard::Guard;
use crate::config::{Limits, Timeouts};
use crate::forward::Peer;
use crate::upstream::BoxError;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What all connections of a worker share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
}

/// Serves one connection until it ends. Once `closing` is true it ends after the requests under way.
pub(super) async fn serve<S, R>(
    mut stream: TcpStream,
    peer: SocketAddr,
    service: S,
    settings: Arc<Settings>,
    closing: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let known = detect(&mut stream, &settings, closing.clone()).await;
    let (prefix, http2) = match known {
        Ok(Some(known)) => known,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, "connection ended before a request");
            return;
        }
    };
    let service = TowerToHyperService::new(WithPeer { service, peer: Peer::new(peer) });
    let ended = if http2 {
        serve_http2(Rewound { stream, prefix }, service, &settings, closing).await
    } else {
        let Settings { limits, timeouts } = &*settings;
        // The parser says more kindly than the guard that a head is too large.
        let guard = Guard::new(stream, prefix, limits.header_bytes * 2, timeouts.header_read);
        serve_http1(guard, service, &settings, closing).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

type Served<S> = TowerToHyperService<WithPeer<S>>;

async fn serve_http1<S, R>(
    guard: Guard,
    service: Served<S>,
    settings: &Settings,
    mut closing: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut builder = http1::Builder::new();
    if settings.limits.headers != Limits::PARSER_HEADERS {
        builder.max_headers(settings.limits.headers);
    }
    let connection = builder
        .timer(TokioTimer::new())
        // It also runs between requests; the time of a head alone is bounded by the guard.
        .header_read_timeout(settings.timeouts.keep_alive)
        .max_header_size(settings.limits.header_bytes)
        .max_buf_size(settings.limits.header_bytes.max(64 * 1024))
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2<S, R>(
    stream: Rewound,
    service: Served<S>,
    settings: &Settings,
    mut closing: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.limits.http2_streams)
        .max_header_list_size(u32::try_from(settings.limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(settings.timeouts.keep_alive / 2)
        .keep_alive_timeout(settings.timeouts.keep_alive / 2)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Reads until it is clear whether the client speaks HTTP/2; `None` if it left, or had all the time it gets.
async fn detect(
    stream: &mut TcpStream,
    settings: &Settings,
    mut closing: watch::Receiver<bool>,
) -> io::Result<Option<(Bytes, bool)>> {
    let mut start = BytesMut::with_capacity(PREFACE.len());
    let reading = async {
        let mut patience = settings.timeouts.keep_alive;
        loop {
            let mut rest = (&mut *stream).take((PREFACE.len() - start.len()) as u64);
            match timeout(patience, rest.read_buf(&mut start)).await {
                Ok(read) => {
                    if read? == 0 {
                        return Ok(None);
                    }
                }
                Err(_) => return Ok(None),
            }
            if start[..] == PREFACE[..] {
                return Ok(Some((start.freeze(), true)));
            }
            if !PREFACE.starts_with(&start) {
                return Ok(Some((start.freeze(), false)));
            }
            patience = settings.timeouts.header_read;
        }
    };
    tokio::select! {
        biased;
        known = reading => known,
        _ = closing.wait_for(|closing| *closing) => Ok(None),
    }
}

/// Tells the service who asks.
#[derive(Clone)]
struct WithPeer<S> {
    service: S,
    peer: Peer,
}

impl<S> Service<Request<Incoming>> for WithPeer<S>
where
    S: Service<Request<Incoming>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}

/// A socket whose first bytes were read already.
struct Rewound {
    stream: TcpStream,
    prefix: Bytes,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
