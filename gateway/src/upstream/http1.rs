//! One HTTP/1.1 connection to the application, driven by the task that waits for its answer.
//!
//! A connection in a task of its own would cost two wake-ups and a hop through the scheduler a request. Here the
//! exchange polls it, then the answer's body does, and between requests nobody does: whether the application has
//! closed it meanwhile is asked of the kernel when it is taken out of the pool.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::{Dispatch, UpstreamError, UpstreamErrorKind};
use super::io::{Io, Upload, Wire};
use super::upload::RequestBody;
use super::upload::UploadBody;
use crate::config::Limits;

/// A connection that carries one request at a time.
pub(crate) struct Connection<B: RequestBody> {
    sender: http1::SendRequest<UploadBody<B>>,
    /// `None` once it has ended.
    driver: Option<http1::Connection<TokioIo<Io>, UploadBody<B>>>,
    pub(crate) wire: Arc<Wire>,
}

/// A request that was not answered.
pub(crate) struct Failed<B: RequestBody> {
    pub(crate) error: UpstreamError,
    /// The request itself, if not one byte of it was written.
    pub(crate) request: Option<Request<UploadBody<B>>>,
}

impl<B: RequestBody> Connection<B> {
    pub(crate) async fn open(stream: TcpStream, limits: &Limits) -> Result<Box<Self>, UpstreamError> {
        let wire = Arc::new(Wire::default());
        let io = TokioIo::new(Io::new(stream, Arc::clone(&wire)));
        let (sender, driver) = builder(limits).handshake(io).await.map_err(|error| {
            UpstreamError::new(UpstreamErrorKind::Unreachable, Dispatch::Never, Some(error.into()))
        })?;
        Ok(Box::new(Self { sender, driver: Some(driver), wire }))
    }

    /// Whether it can carry another request. The application may have closed it while it was idle.
    pub(crate) async fn is_fresh(&mut self) -> bool {
        self.wire.verify();
        poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(self.driver.is_some() && self.sender.is_ready())
        })
        .await
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn exchange(
        &mut self,
        mut request: Request<UploadBody<B>>,
    ) -> Result<Response<Incoming>, Failed<B>> {
        request.body_mut().attach(&self.wire);
        let mut answer = pin!(self.sender.try_send_request(request));
        let outcome = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await;
        outcome.map_err(|mut refused| {
            let request = refused.take_message();
            let error = refused.into_error();
            let dispatch =
                if request.is_some() || !self.wire.written() { Dispatch::Never } else { Dispatch::Maybe };
            let kind = if self.wire.upload() == Upload::Failed {
                UpstreamErrorKind::RequestBody
            } else if error.is_parse() {
                UpstreamErrorKind::Malformed
            } else {
                UpstreamErrorKind::Reset
            };
            Failed { error: UpstreamError::new(kind, dispatch, Some(error.into())), request }
        })
    }

    /// Lets the connection do what it can now.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // Dropping it answers whoever still waits for it.
            self.driver = None;
        }
    }

    /// Whether it can be kept for another request, now that request and answer are complete.
    pub(crate) fn settles(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some()
    }

    /// Goes on in a task of its own, for an answer that began before its request ended: both go on at their
    /// own pace then.
    pub(crate) fn detach(self: Box<Self>) {
        if let Some(driver) = self.driver {
            tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(%error, "connection to the upstream ended");
                }
            });
        }
    }
}

/// Sends one request over a connection of its own that may become a tunnel.
pub(crate) async fn upgrade<B: RequestBody>(
    stream: TcpStream,
    limits: &Limits,
    mut request: Request<UploadBody<B>>,
) -> Result<Response<Incoming>, UpstreamError> {
    let wire = Arc::new(Wire::default());
    let io = TokioIo::new(Io::new(stream, Arc::clone(&wire)));
    let (mut sender, driver) = builder(limits).handshake(io).await.map_err(|error| {
        UpstreamError::new(UpstreamErrorKind::Unreachable, Dispatch::Never, Some(error.into()))
    })?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "connection to the upstream ended");
        }
    });
    request.body_mut().attach(&wire);
    sender.send_request(request).await.map_err(|error| {
        let dispatch = if wire.written() { Dispatch::Maybe } else { Dispatch::Never };
        let kind = if error.is_parse() { UpstreamErrorKind::Malformed } else { UpstreamErrorKind::Reset };
        UpstreamError::new(kind, dispatch, Some(error.into()))
    })
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.header_bytes);
    if limits.headers != Limits::PARSER_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// The application has closed it, and the runtime has not looked since: a request written now would be
    /// lost, and nobody could say whether it was read.
    #[tokio::test]
    async fn a_connection_that_was_just_closed_is_not_fresh() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut connection =
            Connection::<Full<bytes::Bytes>>::open(stream, &Limits::default()).await.unwrap();
        assert!(connection.is_fresh().await);
        drop(peer);
        // Neither of these lets the runtime look.
        assert!(!connection.is_fresh().await);
    }
}
