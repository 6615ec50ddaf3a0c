use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// The body of an answer: what was read of it already, and the rest as it comes.
pub struct AnswerBody<B> {
    read: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// What has not been read; none if all has.
    rest: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin> AnswerBody<B> {
    /// Reads the body, if it is no longer than `limit`. Of a longer one the beginning is kept, and the rest flows.
    pub(crate) async fn read(mut body: B, limit: usize) -> Result<Self, B::Error> {
        let mut this = Self { read: VecDeque::new(), trailers: None, rest: None };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if limit == 0 || announced > limit {
            this.rest = Some(body);
            return Ok(this);
        }
        let mut length = 0_usize;
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    length = length.saturating_add(data.len());
                    if !data.is_empty() {
                        this.read.push_back(data);
                    }
                    if length > limit {
                        this.rest = Some(body);
                        return Ok(this);
                    }
                }
                Err(frame) => this.trailers = frame.into_trailers().ok(),
            }
        }
        this.read = VecDeque::from([joined(std::mem::take(&mut this.read))]);
        Ok(this)
    }
}

impl<B> AnswerBody<B> {
    /// The whole body, if it was read to its end.
    pub fn whole(&self) -> Option<&[u8]> {
        match (&self.rest, self.read.front()) {
            (None, Some(all)) if self.read.len() == 1 => Some(all),
            _ => None,
        }
    }

    /// Takes the whole body, if it was read to its end and had no trailers.
    #[cfg(feature = "reqwest")]
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.whole().is_some() && self.trailers.is_none();
        whole.then(|| self.read.pop_front().unwrap_or_default())
    }
}

fn joined(mut read: VecDeque<Bytes>) -> Bytes {
    match read.len() {
        0 | 1 => read.pop_front().unwrap_or_default(),
        _ => {
            let mut all = BytesMut::with_capacity(read.iter().map(Bytes::len).sum());
            for part in &read {
                all.extend_from_slice(part);
            }
            all.freeze()
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        while let Some(data) = self.read.pop_front() {
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Bytes::is_empty)
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX)).sum::<u64>();
        let mut hint = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let upper = hint.upper().map(|upper| upper.saturating_add(read));
        hint = {
            let mut whole = SizeHint::new();
            whole.set_lower(hint.lower().saturating_add(read));
            if let Some(upper) = upper {
                whole.set_upper(upper);
            }
            whole
        };
        hint
    }
}

impl<B> fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("whole", &self.rest.is_none()).finish_non_exhaustive()
    }
}
