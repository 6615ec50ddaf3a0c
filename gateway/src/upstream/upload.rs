//! A request's body on its way to the application.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::error::BoxError;
use super::io::Wire;

/// A request's body that notes on its connection how far it has come.
#[derive(Debug)]
pub(crate) struct UploadBody<B: RequestBody> {
    body: B,
    wire: Option<Arc<Wire>>,
}

impl<B: RequestBody> UploadBody<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, wire: None }
    }

    /// From here on it notes its progress on this connection.
    pub(crate) fn attach(&mut self, wire: &Arc<Wire>) {
        wire.begin();
        if self.body.is_end_stream() {
            wire.upload_ended(true);
        }
        self.wire = Some(Arc::clone(wire));
    }

    fn ended(&mut self, well: bool) {
        if let Some(wire) = &self.wire {
            wire.upload_ended(well);
        }
    }
}

impl<B: RequestBody> Body for UploadBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(wire) = &self.wire {
            wire.set_waits_for_client(frame.is_pending());
        }
        let frame = ready!(frame);
        match frame {
            Some(Ok(frame)) => {
                if let Some(wire) = &self.wire {
                    wire.upload_moved();
                }
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.ended(true);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.ended(false);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.ended(true);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a request's body has to be to go on to the application. Implemented by all that are.
pub trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B> RequestBody for B where B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}
