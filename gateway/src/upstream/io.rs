//! The socket of a connection to the application, and what is known of the request on it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How far a request's body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    Sending,
    Done,
    Failed,
}

/// What a connection's socket, its request's body and its exchange tell each other.
#[derive(Debug)]
pub(crate) struct Wire {
    born: Instant,
    /// Ask the kernel before the next read whether the peer has hung up.
    verify: AtomicBool,
    /// Something was written since [`Wire::begin`].
    written: AtomicBool,
    upload: AtomicU8,
    /// When the request's body last moved or ended, in microseconds since `born`.
    moved: AtomicU64,
    /// The connection has asked for more of the request's body than its client has sent.
    waits_for_client: AtomicBool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            verify: AtomicBool::default(),
            written: AtomicBool::default(),
            upload: AtomicU8::default(),
            moved: AtomicU64::default(),
            waits_for_client: AtomicBool::default(),
        }
    }
}

impl Wire {
    /// A request begins.
    pub(crate) fn begin(&self) {
        self.written.store(false, Ordering::Relaxed);
        self.upload.store(0, Ordering::Relaxed);
    }

    /// Before reuse: an idle connection that the peer has closed is found by asking the kernel, since the
    /// runtime may not have looked yet.
    pub(crate) fn verify(&self) {
        self.verify.store(true, Ordering::Relaxed);
    }

    pub(crate) fn written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn upload(&self) -> Upload {
        match self.upload.load(Ordering::Relaxed) {
            0 => Upload::Sending,
            1 => Upload::Done,
            _ => Upload::Failed,
        }
    }

    pub(crate) fn upload_ended(&self, well: bool) {
        self.upload.store(if well { 1 } else { 2 }, Ordering::Relaxed);
        self.upload_moved();
    }

    pub(crate) fn upload_moved(&self) {
        let since = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved.store(since, Ordering::Relaxed);
    }

    pub(crate) fn set_waits_for_client(&self, waits: bool) {
        self.waits_for_client.store(waits, Ordering::Relaxed);
    }

    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Relaxed)
    }

    /// When the body of a request last moved, which may have been one before this.
    pub(crate) fn moved(&self) -> Instant {
        self.born + Duration::from_micros(self.moved.load(Ordering::Relaxed))
    }
}

/// A socket that notes whether anything was written.
pub(crate) struct Io {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl Io {
    pub(crate) fn new(stream: TcpStream, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }

    /// Whether the peer has closed, or sent what nobody asked for.
    fn stale(&self) -> io::Result<bool> {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.wire.verify.swap(false, Ordering::Relaxed) && self.stale()? {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Io {
    fn note(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(written)) if written > 0) {
            self.wire.written.store(true, Ordering::Relaxed);
        }
        result
    }
}
