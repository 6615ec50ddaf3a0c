//! An application that behaves as badly as a test asks it to, and counts what it was really sent.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::wire::{self, Message};

/// What to do about a request that was read to its end.
// Exhaustive: a test matches on nothing here, it makes them.
#[allow(clippy::exhaustive_enums)]
pub enum Act {
    /// Write these bytes and wait for the next request.
    Answer(Vec<u8>),
    /// Write these bytes and close, whether or not they are a whole answer.
    AnswerAndClose(Vec<u8>),
    /// Write these bytes and reset the connection.
    AnswerAndReset(Vec<u8>),
    /// Write these bytes, and when the next request arrives on this connection, reset it without reading.
    AnswerAndRefuseNext(Vec<u8>),
    /// Close without an answer.
    HangUp,
    /// Reset without an answer.
    Reset,
    /// Keep the connection open and never answer.
    Never,
    /// Hand the connection over.
    Take(Box<dyn FnOnce(BufReader<TcpStream>) -> TakeFuture + Send>),
}

/// What becomes of a connection that was handed over.
pub type TakeFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request that was read to its end.
#[derive(Clone, Debug)]
pub struct Received {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The request.
    pub message: Message,
}

/// An HTTP/1.1 server on loopback that follows a script. It ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    close_idle: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

type Script = dyn Fn(&Received) -> Act + Send + Sync;

struct Shared {
    script: Box<Script>,
    received: Mutex<Vec<Received>>,
    connections: Mutex<(usize, usize)>,
    changed: Notify,
}

/// How long a test waits for what has to happen. A disk that others write to can stand still for many seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An answer with this status and body, and `Content-Length`.
pub fn answer(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Upstream {
    /// Starts one that does for each request what `script` says.
    pub async fn start(script: impl Fn(&Received) -> Act + Send + Sync + 'static) -> io::Result<Self> {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await?, script)
    }

    /// The same, behind this socket.
    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Received) -> Act + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received: Mutex::default(),
            connections: Mutex::default(),
            changed: Notify::new(),
        });
        let (close_idle, closing) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), closing));
        Ok(Self { address, shared, close_idle, _tasks: tasks })
    }

    /// Starts one that answers every request with 200 and this body.
    pub async fn answering(body: &'static str) -> io::Result<Self> {
        Self::start(move |_| Act::Answer(answer(200, body))).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of requests that were read to their end.
    pub fn count(&self) -> usize {
        self.received().len()
    }

    /// The requests that were read to their end.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of connections that were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The number of connections that are open.
    pub fn open(&self) -> usize {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Closes every connection that waits for a request, and returns once they are closed.
    pub async fn close_idle(&self) -> bool {
        self.close_idle.send_modify(|generation| *generation += 1);
        self.until(|upstream| upstream.open() == 0).await
    }

    /// Waits until this holds; false if it does not within [`PATIENCE`].
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) -> bool {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let changed = self.shared.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        })
        .await
        .is_ok()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, closing: watch::Receiver<usize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.opened();
        let (shared, closing) = (Arc::clone(&shared), closing.clone());
        connections.spawn(async move {
            // A peer that breaks off is what many tests do.
            let _ = serve(stream, number, &shared, closing).await;
            shared.closed();
        });
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    shared: &Shared,
    mut closing: watch::Receiver<usize>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    closing.mark_unchanged();
    loop {
        tokio::select! {
            ready = stream.fill_buf() => if ready?.is_empty() { return Ok(()) },
            _ = closing.changed() => return Ok(()),
        }
        let Some(message) = wire::read_message(&mut stream, false).await? else { return Ok(()) };
        let received = Received { connection, message };
        shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());
        shared.changed.notify_waiters();
        match (shared.script)(&received) {
            Act::Answer(bytes) => stream.get_mut().write_all(&bytes).await?,
            Act::AnswerAndClose(bytes) => return stream.get_mut().write_all(&bytes).await,
            Act::AnswerAndReset(bytes) => {
                stream.get_mut().write_all(&bytes).await?;
                return reset(stream.get_ref());
            }
            Act::AnswerAndRefuseNext(bytes) => {
                stream.get_mut().write_all(&bytes).await?;
                stream.get_ref().readable().await?;
                return reset(stream.get_ref());
            }
            Act::HangUp => return Ok(()),
            Act::Reset => return reset(stream.get_ref()),
            Act::Never => return std::future::pending().await,
            Act::Take(take) => {
                take(stream).await;
                return Ok(());
            }
        }
    }
}

fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

impl Shared {
    fn opened(&self) -> usize {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.0 += 1;
        connections.1 += 1;
        self.changed.notify_waiters();
        connections.0 - 1
    }

    fn closed(&self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).1 -= 1;
        self.changed.notify_waiters();
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}
