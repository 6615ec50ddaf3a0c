//! Bodies, from actix-web's traits to `http_body::Body` and back.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use semel_driver::Body;

/// What a client sends.
pub(crate) struct Sent(Payload);

impl Sent {
    pub(crate) fn new(payload: Payload) -> Self {
        Self(payload)
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        Pin::new(&mut self.0).poll_next(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

pin_project! {
    /// What a handler answers, to be recorded.
    pub struct Taken<B> {
        #[pin]
        body: B,
    }
}

impl<B> Taken<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body }
    }
}

impl<B: MessageBody> HttpBody for Taken<B> {
    type Data = Bytes;
    type Error = Box<dyn StdError>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn StdError>>>> {
        let chunk = ready!(self.project().body.poll_next(cx));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size() {
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::Stream => SizeHint::new(),
        }
    }
}

pin_project! {
    /// The body of an answer that was recorded, or that Semel made.
    pub struct Answer<B> {
        #[pin]
        body: Body<Taken<B>>,
    }
}

impl<B> Answer<B> {
    pub(crate) fn new(body: Body<Taken<B>>) -> Self {
        Self { body }
    }
}

impl<B: MessageBody> MessageBody for Answer<B> {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size_hint().exact().map_or(BodySize::Stream, BodySize::Sized)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn StdError>>>> {
        loop {
            let Some(frame) = ready!(self.as_mut().project().body.poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            // Actix-web has no place for trailers.
            if let Ok(data) = frame?.into_data() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl<B> fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
