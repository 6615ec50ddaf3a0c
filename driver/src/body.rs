//! Bodies: passed through untouched, rebuilt whole, or resumed after a captured prefix.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

/// A body that is here in full, with its trailer section.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Whole {
    /// The bytes.
    pub bytes: Bytes,
    /// The trailer section.
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    /// A body of these bytes, without trailers.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, trailers: None }
    }

    /// The same body with these trailers.
    #[must_use]
    pub fn with_trailers(mut self, trailers: Option<HeaderMap>) -> Self {
        self.trailers = trailers;
        self
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.bytes.is_empty() {
            self.trailers.take().map(Frame::trailers)
        } else {
            Some(Frame::data(std::mem::take(&mut self.bytes)))
        }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.len() as u64;
        if self.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        // HTTP/1.1 has room for trailers only where it is not told the length (RFC 9112, section 7.1.2).
        let mut hint = SizeHint::new();
        hint.set_lower(length);
        hint
    }
}

pin_project! {
    /// A body as Semel hands it on. It never copies what it passes.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProj]
    enum Kind<B> {
        Passed { #[pin] inner: B },
        Whole { whole: Whole },
        Resumed { prefix: VecDeque<Bytes>, rest: Pin<Box<B>> },
    }
}

impl<B> Body<B> {
    /// Passes a body through untouched.
    pub fn passed(inner: B) -> Self {
        Self { kind: Kind::Passed { inner } }
    }

    /// A body that is here in full.
    pub fn whole(whole: Whole) -> Self {
        Self { kind: Kind::Whole { whole } }
    }

    /// What was read of a body, then the rest of it as it comes.
    pub(crate) fn resumed(prefix: VecDeque<Bytes>, rest: Pin<Box<B>>) -> Self {
        Self { kind: Kind::Resumed { prefix, rest } }
    }
}

/// Nothing: for layers that make an answer of their own, such as a time-out's.
impl<B> Default for Body<B> {
    fn default() -> Self {
        Self::whole(Whole::default())
    }
}

impl<B: HttpBody> From<B> for Body<B> {
    fn from(inner: B) -> Self {
        Self::passed(inner)
    }
}

impl<B: HttpBody> HttpBody for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let rest = match self.project().kind.project() {
            KindProj::Whole { whole } => return Poll::Ready(whole.next().map(Ok)),
            KindProj::Resumed { prefix, rest } => match prefix.pop_front() {
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => rest.as_mut(),
            },
            KindProj::Passed { inner } => inner,
        };
        let frame = ready!(rest.poll_frame(cx));
        // `copy_to_bytes` of a `Bytes` is a move.
        Poll::Ready(
            frame.map(|frame| {
                frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            }),
        )
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { whole } => whole.is_end_stream(),
            Kind::Resumed { prefix, rest } => prefix.is_empty() && rest.is_end_stream(),
            Kind::Passed { inner } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { whole } => whole.size_hint(),
            Kind::Passed { inner } => inner.size_hint(),
            Kind::Resumed { prefix, rest } => {
                let read = prefix.iter().map(Bytes::len).sum::<usize>() as u64;
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}
