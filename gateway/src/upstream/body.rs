//! The body of an answer, streaming.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::SharedPool;
use super::Slot;
use super::error::{BoxError, Dispatch, UpstreamError, UpstreamErrorKind};
use super::http1::Connection;
use super::upload::RequestBody;

/// The body of an answer: the application's, or a short one of the gateway itself.
///
/// It yields an error when the application's answer ends before its end or stands still. Dropping it early closes
/// the HTTP/1.1 connection it came from.
pub struct ResponseBody<B: RequestBody> {
    source: Source<B>,
}

enum Source<B: RequestBody> {
    Done,
    Full(Bytes),
    Upstream(Streaming<B>),
}

struct Streaming<B: RequestBody> {
    incoming: Incoming,
    /// Bytes that are still to come, where the answer said how many.
    remaining: Option<u64>,
    /// The connection that this body drives, and where it goes in the end.
    connection: Option<(Box<Connection<B>>, SharedPool<B>)>,
    idle: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    stalled: bool,
    /// Counts as a request under way until the body has ended.
    _slot: Slot,
}

impl<B: RequestBody> ResponseBody<B> {
    /// No body at all.
    pub fn empty() -> Self {
        Self { source: Source::Done }
    }

    /// A body that is at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { source: if bytes.is_empty() { Source::Done } else { Source::Full(bytes) } }
    }

    pub(crate) fn upstream(
        incoming: Incoming,
        connection: Option<(Box<Connection<B>>, SharedPool<B>)>,
        idle: Duration,
        slot: Slot,
    ) -> Self {
        let remaining = incoming.size_hint().exact();
        let mut upstream =
            Streaming { incoming, remaining, connection, idle, stall: None, stalled: false, _slot: slot };
        if upstream.incoming.is_end_stream() {
            upstream.finish();
            return Self::empty();
        }
        Self { source: Source::Upstream(upstream) }
    }
}

impl<B: RequestBody> Streaming<B> {
    /// The answer is complete: its connection may carry another.
    fn finish(&mut self) {
        if let Some((mut connection, pool)) = self.connection.take()
            && connection.settles()
        {
            pool.put(connection);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some((connection, _)) = &mut self.connection
        {
            connection.drive(cx);
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        if frame.is_pending() {
            return self.poll_stalled(cx);
        }
        self.stalled = false;
        match ready!(frame) {
            Some(Ok(frame)) => {
                if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
                    *remaining = remaining.saturating_sub(data.len() as u64);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.connection = None;
                Poll::Ready(Some(Err(truncated(Some(error.into())))))
            }
            // An HTTP/2 stream that is reset with NO_ERROR ends like this, too.
            None if self.remaining.is_some_and(|remaining| remaining > 0) => {
                self.connection = None;
                Poll::Ready(Some(Err(truncated(None))))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let stall = match &mut self.stall {
            Some(stall) => {
                if !self.stalled {
                    stall.as_mut().reset(Instant::now() + self.idle);
                }
                stall
            }
            None => self.stall.insert(Box::pin(sleep(self.idle))),
        };
        self.stalled = true;
        ready!(stall.as_mut().poll(cx));
        self.connection = None;
        Poll::Ready(Some(Err(UpstreamError::new(UpstreamErrorKind::BodyTimeout, Dispatch::Maybe, None))))
    }
}

fn truncated(source: Option<BoxError>) -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::Truncated, Dispatch::Maybe, source)
}

impl<B: RequestBody> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match &mut self.source {
            Source::Done => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Done;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Upstream(upstream) => {
                let frame = ready!(upstream.poll(cx));
                let over = match &frame {
                    Some(Ok(_)) if upstream.incoming.is_end_stream() => {
                        upstream.finish();
                        true
                    }
                    Some(Ok(_)) => false,
                    Some(Err(_)) | None => true,
                };
                if over {
                    self.source = Source::Done;
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(upstream) => upstream.incoming.size_hint(),
        }
    }
}

impl<B: RequestBody> Unpin for ResponseBody<B> {}

impl<B: RequestBody> std::fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.source {
            Source::Done => "ResponseBody(done)",
            Source::Full(_) => "ResponseBody(full)",
            Source::Upstream(_) => "ResponseBody(upstream)",
        })
    }
}
