use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::outcome::BoxError;
use crate::shell::NotBegun;

/// A request's body in memory: each try sends the same bytes, and trailers if it had any.
#[derive(Clone, Default)]
pub struct RequestBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl RequestBody {
    /// Reads a body of up to `limit` bytes.
    pub(super) async fn read<B>(body: B, limit: usize) -> Result<Self, NotBegun>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let too_large = || NotBegun::TooLarge { limit };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(too_large());
        }
        let mut body = std::pin::pin!(body);
        let mut data = BytesMut::with_capacity(announced);
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| NotBegun::Body(error.into()))?;
            match frame.into_data() {
                Ok(part) if part.remaining() > limit - data.len() => return Err(too_large()),
                Ok(mut part) => {
                    while part.has_remaining() {
                        let chunk = part.chunk();
                        data.extend_from_slice(chunk);
                        let read = chunk.len();
                        part.advance(read);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Self { data: Some(data.freeze()).filter(|data| !data.is_empty()), trailers })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({} bytes)", self.data.as_ref().map_or(0, Bytes::len))
    }
}
