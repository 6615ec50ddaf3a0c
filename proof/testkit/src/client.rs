//! A client that sends bytes as they are and shows what comes back.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::wire::{self, Message};

/// How long a caller waits: longer than a gateway offers an answer to a store that does not take it.
pub const PATIENCE: Duration = crate::upstream::PATIENCE;

/// One HTTP/1.1 connection. Nothing waits longer than [`PATIENCE`]; what does is an error of kind `TimedOut`.
pub struct Client(BufReader<TcpStream>);

/// A request in the making. Its `Host` is `shop.test`, so that a gateway that comes back on another port sees
/// the same request.
#[derive(Clone, Debug)]
pub struct Ask {
    head: String,
    body: Vec<u8>,
}

/// `POST path` with this key, written as it is, and a JSON body.
pub fn post(path: &str, key: &str, body: impl Into<Vec<u8>>) -> Ask {
    Ask::new("POST", path, body).field("Content-Type", "application/json").field("Idempotency-Key", key)
}

/// `GET path`.
pub fn get(path: &str) -> Ask {
    Ask::new("GET", path, "")
}

impl Ask {
    /// A request with `Content-Length` if it has a body, and no key.
    pub fn new(method: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        let ask =
            Self { head: format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\n"), body: body.into() };
        if ask.body.is_empty() {
            return ask;
        }
        let length = ask.body.len().to_string();
        ask.field("Content-Length", &length)
    }

    /// One more field line.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.head = format!("{}{name}: {value}\r\n", self.head);
        self
    }

    /// The head, with the empty line that ends it.
    pub fn head(&self) -> Vec<u8> {
        format!("{}\r\n", self.head).into_bytes()
    }

    /// Everything.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it over a connection of its own.
    ///
    /// # Errors
    ///
    /// No connection, or it ended before a whole answer.
    pub async fn send(&self, to: SocketAddr) -> io::Result<Message> {
        Client::connect(to).await?.ask(self.bytes()).await
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The connection is refused.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = in_time(TcpStream::connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Connects with the smallest receive buffer that the system has: a long answer gets stuck on its way.
    ///
    /// # Errors
    ///
    /// The connection is refused.
    pub async fn connect_narrow(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_recv_buffer_size(1)?;
        socket.set_nonblocking(true)?;
        let stream = in_time(TcpSocket::from_std_stream(socket.into()).connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(1024, stream)))
    }

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        in_time(self.0.get_mut().write_all(bytes.as_ref())).await
    }

    /// Reads the next whole answer, an interim one included.
    ///
    /// # Errors
    ///
    /// The connection ended before its end.
    pub async fn answer(&mut self) -> io::Result<Message> {
        in_time(wire::read_message(&mut self.0, false)).await?.ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the head of the next answer.
    ///
    /// # Errors
    ///
    /// The connection ended before its end.
    pub async fn head(&mut self) -> io::Result<Message> {
        in_time(wire::read_head(&mut self.0)).await?.ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends these bytes and reads the next answer.
    ///
    /// # Errors
    ///
    /// The connection ended before its end.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Message> {
        self.send(bytes).await?;
        self.answer().await
    }

    /// Reads until the peer closes, or resets, and gives what came.
    ///
    /// # Errors
    ///
    /// The peer does neither in time.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match in_time(self.0.read_to_end(&mut rest)).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            _ => Ok(rest),
        }
    }
}

/// Bounds what a test waits for.
///
/// # Errors
///
/// `TimedOut` after [`PATIENCE`], or those of `what`.
pub async fn in_time<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, what).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}
