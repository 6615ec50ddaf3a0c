//! An axum router behind hyper's HTTP/1.1 server, over a pipe in memory: no sockets, no system calls.

use axum::Router;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::Failure;

/// The client's end of one connection.
pub(crate) struct Served {
    pipe: DuplexStream,
    buffer: Vec<u8>,
}

impl Served {
    /// Serves on the runtime that is entered.
    pub(crate) fn start(router: Router) -> Result<Self, Failure> {
        let (pipe, other) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(router);
        let connection = http1::Builder::new().serve_connection(TokioIo::new(other), service);
        tokio::runtime::Handle::try_current()?.spawn(connection);
        Ok(Self { pipe, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads its answer: the status, and the length of the body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(StatusCode, usize), Failure> {
        self.pipe.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server hung up".into());
            }
            if let Some(answer) = parse(&self.buffer)? {
                return Ok(answer);
            }
        }
    }
}

/// The answers here have a content length and come one at a time.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(StatusCode, usize)>, Failure> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head])?;
    let status = text.get(9..12).ok_or("no status")?.parse()?;
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("no content length")?;
    let length: usize = length.1.trim().parse()?;
    Ok((bytes.len() - head - 4 >= length).then_some((status, length)))
}
