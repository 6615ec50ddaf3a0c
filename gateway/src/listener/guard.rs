//! A client's socket behind [`Framing`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::framing::{Framing, Refused};

/// How long, and for how many bytes, a refused client is heard out so that it can read the refusal: closing a
/// socket with unread bytes resets it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// No parser takes a NUL in a head: it answers 400 and closes. It looks at a head only once that seems complete.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// A socket that ends where a request becomes ambiguous, and that bounds the time of a head.
pub(super) struct Guard {
    stream: TcpStream,
    /// What was read before the protocol was known.
    prefix: Bytes,
    framing: Framing,
    /// Set once it has ended; what is left of [`NO_HEAD`].
    refused: Option<&'static [u8]>,
    head_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    timing: bool,
    /// Who wants to read once the answer to an upgrade has begun.
    reader: Option<Waker>,
    lingering: Option<usize>,
}

impl Guard {
    pub(super) fn new(stream: TcpStream, prefix: Bytes, max_line: usize, head_timeout: Duration) -> Self {
        Self {
            stream,
            prefix,
            framing: Framing::new(max_line),
            refused: None,
            head_timeout,
            timer: None,
            timing: false,
            reader: None,
            lingering: None,
        }
    }

    fn inspect(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let Err(Refused { at, in_head }) = self.framing.feed(&buf.filled()[start..]) else { return };
        tracing::info!("a request that two parsers could read in two ways was refused");
        buf.set_filled(start + at);
        self.refused = Some(if in_head { NO_HEAD } else { b"" });
        self.end(buf);
    }

    /// What the parser reads instead of what was refused, and then the end of the stream.
    fn end(&mut self, buf: &mut ReadBuf<'_>) {
        if let Some(rest) = &mut self.refused {
            let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
            buf.put_slice(now);
            *rest = later;
        }
    }

    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.in_head() {
            self.timing = false;
            return Poll::Pending;
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.timing {
                    timer.as_mut().reset(Instant::now() + self.head_timeout);
                }
                timer
            }
            None => self.timer.insert(Box::pin(sleep(self.head_timeout))),
        };
        self.timing = true;
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's head took too long")))
    }

    fn note_answer(&mut self, bytes: &[u8]) {
        if self.framing.awaits_answer() {
            self.framing.answered(bytes);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let heard = self.lingering.get_or_insert(0);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if *heard == 0 {
            timer.as_mut().reset(Instant::now() + LINGER);
            *heard = 1;
        }
        let mut scratch = [0; 4096];
        loop {
            if timer.as_mut().poll(cx).is_ready() || *heard > LINGER_BYTES {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *heard += buf.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.refused.is_some() {
            this.end(buf);
            return Poll::Ready(Ok(()));
        }
        if this.framing.awaits_answer() {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let start = buf.filled().len();
        if this.prefix.is_empty() {
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(result) => result?,
                Poll::Pending => return this.poll_head_timeout(cx),
            }
        } else {
            let length = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(length));
        }
        this.inspect(buf, start);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.note_answer(buf);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        if let Some(first) = bufs.iter().find(|buf| !buf.is_empty()) {
            self.note_answer(first);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.refused.is_some() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
