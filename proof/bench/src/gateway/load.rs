//! Load over plain sockets: mints keys, and accepts no answer that it did not expect.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;
use crate::layer::{ORDER, parse};

/// What a connection sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sends {
    /// Requests without a key.
    Plain,
    /// A new key with each.
    Fresh,
    /// One key a connection, again and again.
    Again,
}

/// Connections that send, each after the answer to the request before.
pub(crate) struct Load(Vec<Connection>);

struct Connection {
    stream: TcpStream,
    sends: Sends,
    /// Which connection of all, so that no two send one key.
    number: usize,
    sent: usize,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Load {
    pub(crate) async fn connect(address: SocketAddr, count: usize, sends: Sends) -> Result<Self, Failure> {
        let mut connections = Vec::new();
        for number in 0..count {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (request, answer) = (Vec::new(), Vec::with_capacity(4096));
            connections.push(Connection { stream, sends, number, sent: 0, request, answer });
        }
        Ok(Self(connections))
    }

    /// Sends so many on each connection.
    pub(crate) async fn send(&mut self, each: usize) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for mut connection in self.0.drain(..) {
            tasks.spawn(async move {
                for _ in 0..each {
                    connection.ask().await?;
                }
                Ok::<_, Failure>(connection)
            });
        }
        while let Some(connection) = tasks.join_next().await {
            self.0.push(connection??);
        }
        Ok(())
    }
}

impl Connection {
    async fn ask(&mut self) -> Result<(), Failure> {
        self.write();
        self.sent += 1;
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let (status, length) = loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("a connection was closed".into());
            }
            if let Some(answer) = parse(&self.answer)? {
                break answer;
            }
        };
        // A subject that answers with an error, or replays what is fresh, would be measured as a fast one.
        let replayed = self.answer.windows(20).any(|window| window == b"idempotency-replayed");
        let expected = matches!(self.sends, Sends::Again) && self.sent > 1;
        if status != 201 || length != 300 || replayed != expected {
            return Err(format!("{:?}: an answer of status {status} with {length} bytes", self.sends).into());
        }
        Ok(())
    }

    fn write(&mut self) {
        let serial = match self.sends {
            Sends::Plain => None,
            Sends::Fresh => Some(self.sent),
            Sends::Again => Some(0),
        };
        self.request.clear();
        self.request.extend_from_slice(
            b"POST /orders HTTP/1.1\r\nhost: shop.test\r\nuser-agent: example/1.0\r\naccept: application/json\r\n\
              authorization: Bearer 4f6c2d7a9b1e4c0d8a35e7f1c2b3a495\r\ncontent-type: application/json\r\n",
        );
        if let Some(serial) = serial {
            let key = format!("8e03978e-{:04x}-43e8-{:04x}-{serial:012x}", self.number, self.sends as u8);
            self.request.extend_from_slice(format!("idempotency-key: \"{key}\"\r\n").as_bytes());
        }
        self.request.extend_from_slice(format!("content-length: {}\r\n\r\n", ORDER.len()).as_bytes());
        self.request.extend_from_slice(ORDER.as_bytes());
    }
}
