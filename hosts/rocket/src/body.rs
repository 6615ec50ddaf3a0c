//! Bodies, from Rocket's readers to `http_body::Body` and back.

use std::io::{self, ErrorKind, SeekFrom};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, stream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::StreamBody;
use rocket::data::{ByteUnit, Data};
use rocket::local::asynchronous::LocalResponse;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, ReadBuf};
use tokio::sync::mpsc;

/// Rocket reads this much of every body before anybody is asked: the length of `_method=delete`.
pub(crate) const PEEKED: usize = 14;

const CHUNK: usize = 8 * 1024;

/// What a client sends, whole: whoever reads it says how much is too much. `complete` is what Rocket said of it before
/// anything else looked: whoever looks again at a body that broke off is told that it ended.
pub(crate) fn sent<'r>(
    data: Data<'r>,
    complete: bool,
) -> StreamBody<impl stream::Stream<Item = io::Result<Frame<Bytes>>> + Send + use<'r>> {
    let unread = data.open(ByteUnit::max_value());
    // A body that broke off while Rocket peeked at it looks to all who read on as if it had ended.
    let broken = !complete && unread.hint() < PEEKED;
    StreamBody::new(stream::try_unfold((unread, broken), |(mut unread, broken)| async move {
        if broken {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let length = unread.read_buf(&mut chunk).await?;
        Ok((length > 0).then(|| (Frame::data(chunk.freeze()), (unread, broken))))
    }))
}

/// What a handler answers, as it comes out of its request.
#[derive(Debug)]
pub(crate) struct Taken {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    length: Option<u64>,
}

/// The end at which an answer's body is [pumped](pump) in, and the one at which it comes out.
pub(crate) fn line(answer: &LocalResponse<'_>) -> (mpsc::Sender<io::Result<Bytes>>, Taken) {
    let (into, chunks) = mpsc::channel(1);
    (into, Taken { chunks, length: length(answer) })
}

/// The length of an answer, where Rocket knows it.
pub(crate) fn length(answer: &LocalResponse<'_>) -> Option<u64> {
    answer.body().preset_size().map(|length| length as u64)
}

/// Moves an answer's body out of its request, until it ends or nobody wants more of it.
pub(crate) async fn pump(mut answer: LocalResponse<'_>, into: mpsc::Sender<io::Result<Bytes>>) {
    let all = async {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let chunk = match answer.read_buf(&mut chunk).await {
                Ok(0) => return,
                Ok(_) => Ok(chunk.freeze()),
                Err(error) => Err(error),
            };
            let broken = chunk.is_err();
            if into.send(chunk).await.is_err() || broken {
                return;
            }
        }
    };
    if AssertUnwindSafe(all).catch_unwind().await.is_err() {
        // A body that panics has broken off. If nobody listens, nobody has to know.
        let _unheard = into.send(Err(io::Error::other("the answer's body panicked"))).await;
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A body, for Rocket to read.
pub(crate) struct Reader<B> {
    body: Pin<Box<B>>,
    chunk: Bytes,
}

impl<B> Reader<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body: Box::pin(body), chunk: Bytes::new() }
    }
}

impl<B: HttpBody<Data = Bytes, Error = io::Error>> AsyncRead for Reader<B> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let Some(frame) = ready!(self.body.as_mut().poll_frame(cx)) else {
                return Poll::Ready(Ok(()));
            };
            // Rocket has no place for trailers.
            if let Ok(data) = frame?.into_data() {
                self.chunk = data;
            }
        }
        let length = self.chunk.len().min(into.remaining());
        into.put_slice(&self.chunk.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// A body of known length. Rocket asks that it can be wound back, and does so only where it has to find the length.
pub(crate) struct Sized<R>(pub(crate) R);

impl<R: AsyncRead + Unpin> AsyncRead for Sized<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<R: Unpin> AsyncSeek for Sized<R> {
    fn start_seek(self: Pin<&mut Self>, _: SeekFrom) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Err(ErrorKind::Unsupported.into()))
    }
}
