//! The HTTP/2 connection of a worker to the application, with prior knowledge (RFC 9113, 3.3).

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::error::{Dispatch, UpstreamError, UpstreamErrorKind};
use super::http1::Failed;
use super::io::{Upload, Wire};
use super::upload::RequestBody;
use super::upload::UploadBody;
use crate::config::{Limits, Timeouts};

/// The connection that all requests of a worker share, and the turn to open another.
#[derive(Debug)]
pub(crate) struct Shared<B: RequestBody> {
    current: Mutex<Option<SendRequest<UploadBody<B>>>>,
    opening: tokio::sync::Mutex<()>,
}

impl<B: RequestBody> Default for Shared<B> {
    fn default() -> Self {
        Self { current: Mutex::new(None), opening: tokio::sync::Mutex::new(()) }
    }
}

impl<B: RequestBody> Shared<B> {
    /// The open connection, or one that `dial` opens; those who come meanwhile wait for it.
    pub(crate) async fn get<F>(
        &self,
        dial: impl FnOnce() -> F,
    ) -> Result<SendRequest<UploadBody<B>>, UpstreamError>
    where
        F: Future<Output = Result<SendRequest<UploadBody<B>>, UpstreamError>>,
    {
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        let _turn = self.opening.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        let sender = dial().await?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(sender)
    }

    fn open(&self) -> Option<SendRequest<UploadBody<B>>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|sender| !sender.is_closed()).cloned()
    }
}

/// Speaks the preface on a new socket.
pub(crate) async fn open<B: RequestBody>(
    stream: TcpStream,
    limits: &Limits,
    timeouts: &Timeouts,
) -> Result<SendRequest<UploadBody<B>>, UpstreamError> {
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(timeouts.response / 2)
        .keep_alive_timeout(timeouts.response / 2)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| {
            UpstreamError::new(UpstreamErrorKind::Unreachable, Dispatch::Never, Some(error.into()))
        })?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "HTTP/2 connection to the upstream ended");
        }
    });
    Ok(sender)
}

/// Sends one request as a stream of its own and waits for the head of its answer.
pub(crate) async fn exchange<B: RequestBody>(
    mut sender: SendRequest<UploadBody<B>>,
    mut request: Request<UploadBody<B>>,
    wire: &Arc<Wire>,
) -> Result<Response<Incoming>, Failed<B>> {
    request.body_mut().attach(wire);
    sender.try_send_request(request).await.map_err(|mut refused| {
        let request = refused.take_message();
        let error = refused.into_error();
        let (kind, dispatch) = if request.is_some() || not_processed(&error) {
            (UpstreamErrorKind::NotProcessed, Dispatch::Never)
        } else if wire.upload() == Upload::Failed {
            (UpstreamErrorKind::RequestBody, Dispatch::Maybe)
        } else {
            (UpstreamErrorKind::Reset, Dispatch::Maybe)
        };
        Failed { error: UpstreamError::new(kind, dispatch, Some(error.into())), request }
    })
}

/// Whether the peer said that it did not process this stream (RFC 9113, 8.7). `h2` reports a GOAWAY to those
/// streams only that lie beyond its last one; an earlier stream whose connection then ends gets an I/O error.
fn not_processed(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return false;
    };
    error.is_remote()
        && (error.is_go_away() || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
}
