//! An upstream that costs as little as one can, so that it disturbs the least.

use std::io::Write as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// Answers every request with 300 bytes, and says where.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut out = std::io::stdout();
        writeln!(out, "listening on http://{}", listener.local_addr()?)?;
        out.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                // An error is the end of a connection.
                drop(answer(stream).await);
            });
        }
    })
}

async fn answer(mut stream: TcpStream) -> Result<(), Failure> {
    let mut answer =
        b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 300\r\n\r\n".to_vec();
    answer.extend_from_slice(&[b'x'; 300]);
    let mut received = Vec::with_capacity(4096);
    while stream.read_buf(&mut received).await? > 0 {
        while let Some(length) = request(&received)? {
            received.drain(..length);
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// The length of the first request, once all of it is here.
fn request(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let lines = std::str::from_utf8(&bytes[..head])?.lines().filter_map(|line| line.split_once(':'));
    for (name, value) in lines {
        if name.eq_ignore_ascii_case("content-length") {
            let length = head + 4 + value.trim().parse::<usize>()?;
            return Ok((bytes.len() >= length).then_some(length));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            let end = bytes.windows(5).position(|window| window == b"0\r\n\r\n");
            return Ok(end.map(|at| at + 5));
        }
    }
    Ok(Some(head + 4))
}
