//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 1024;

/// Sockets that share one address, among which the kernel distributes connections.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) address: SocketAddr,
    pub(crate) listeners: Vec<TcpListener>,
}

impl Sockets {
    /// Binds `count` sockets, or fails with `AddrInUse` if anybody else listens there.
    pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Self> {
        if address.port() != 0 {
            // Sockets with SO_REUSEPORT would share the address with another gateway's without a word.
            drop(listen(address, false)?);
        }
        let first = listen(address, count > 1)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..count {
            listeners.push(listen(address, true)?);
        }
        Ok(Self { address, listeners })
    }
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two gateways on one address would split the clients between two stores.
    #[test]
    fn an_address_in_use_is_an_error_although_workers_share_theirs() {
        let first = Sockets::bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        assert_eq!(first.listeners.len(), 3);
        let again = Sockets::bind(first.address, 3).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
