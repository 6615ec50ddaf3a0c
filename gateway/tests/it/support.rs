//! A running gateway and a client that sends bytes.

use std::net::SocketAddr;
use std::time::Duration;

use semel_gateway::{Gateway, GatewayConfig, GatewayError, Stopped};
pub(crate) use semel_testkit::upstream::{Act, PATIENCE, Upstream, answer};
use semel_testkit::wire::{self, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A gateway that ends when it is told to, or when the test's runtime does.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<Stopped, GatewayError>>,
}

/// One worker on a free port, before this upstream, with these settings changed.
pub(crate) fn start(upstream: &str, change: impl FnOnce(&mut GatewayConfig)) -> Running {
    let gateway = Gateway::bind(config(upstream, change)).unwrap();
    let (address, admin) = (gateway.local_addr(), gateway.admin_addr());
    let (shutdown, told) = oneshot::channel::<()>();
    let ended = tokio::spawn(gateway.run(async {
        let _ = told.await;
    }));
    Running { address, admin, shutdown: Some(shutdown), ended }
}

pub(crate) fn config(upstream: &str, change: impl FnOnce(&mut GatewayConfig)) -> GatewayConfig {
    let mut config = GatewayConfig::new(upstream.parse().unwrap());
    config.listen = ([127, 0, 0, 1], 0).into();
    config.workers = std::num::NonZeroUsize::MIN;
    change(&mut config);
    config
}

impl Running {
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) fn begin_shutdown(&mut self) {
        drop(self.shutdown.take());
    }

    pub(crate) async fn ended(self) -> Stopped {
        timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap()
    }
}

/// A connection that sends bytes as they are.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer; panics if there is none.
    pub(crate) async fn answer(&mut self) -> Message {
        self.try_answer().await.expect("an answer")
    }

    /// The next whole answer, or nothing if the connection ended before its end.
    pub(crate) async fn try_answer(&mut self) -> Option<Message> {
        timeout(PATIENCE, wire::read_message(&mut self.0, false)).await.unwrap().ok().flatten()
    }

    pub(crate) async fn head(&mut self) -> Message {
        timeout(PATIENCE, wire::read_head(&mut self.0)).await.unwrap().unwrap().unwrap()
    }

    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    /// Everything until the gateway closes, or resets.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("closed in time");
        rest
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }
}

/// A port of this test's own on which nobody listens yet.
pub(crate) fn silent() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
