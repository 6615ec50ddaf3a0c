//! A cable between a client and a server, whatever they speak: it counts what goes through, and it breaks on command.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What becomes of a request, which is all that a client says until the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests name each")]
pub enum Fault {
    /// It reaches the server so much later, even if the client has gone meanwhile.
    LateRequest(Duration),
    /// Its answer reaches the client so much later.
    LateAnswer(Duration),
    /// The connection is reset, and the server has seen nothing of it.
    CutBefore,
    /// The connection is reset once the server has answered, and the client sees nothing of the answer.
    CutAfter,
    /// The server gets it, and its answer goes nowhere; nor does anything else on this connection, from then on.
    Swallow,
    /// It goes nowhere, nor does anything else on this connection, from then on.
    BlackHole,
}

/// A cable. It has a thread of its own, so a test may block. Its connections end when it is dropped.
pub struct Cable {
    address: SocketAddr,
    shared: Arc<Shared>,
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
    /// Keeps the port while nobody listens on it.
    _port: rustix::fd::OwnedFd,
    // Dropping it ends the thread.
    _alive: oneshot::Sender<()>,
}

enum Command {
    /// Refuse connections, or accept them again; say so when it is done.
    Refuse(bool, mpsc::Sender<io::Result<()>>),
}

struct Shared {
    server: Mutex<SocketAddr>,
    trips: AtomicUsize,
    connections: AtomicUsize,
    plan: Mutex<Plan>,
    /// Counts how often everything was cut.
    cuts: watch::Sender<usize>,
}

#[derive(Default)]
struct Plan {
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Cable {
    /// One that ends at this server, which need not be there yet.
    ///
    /// # Errors
    ///
    /// No port or no thread.
    pub fn to(server: SocketAddr) -> io::Result<Self> {
        let port = shared_port(0)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&port)?)?;
        let listener = listener(address.port())?;
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            trips: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            plan: Mutex::default(),
            cuts: watch::Sender::default(),
        });
        let (commands, orders) = tokio::sync::mpsc::unbounded_channel();
        let (alive, gone) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let here = Arc::clone(&shared);
        std::thread::Builder::new().name("cable".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // An error says that the sender is gone, which is what is waited for.
                    _ = gone => {}
                    () = accept(address.port(), listener, orders, here) => {}
                }
            });
        })?;
        Ok(Self { address, shared, commands, _port: port, _alive: alive })
    }

    /// Where the client's end is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections end at this server, as when a name or an address is given to another machine.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// How many requests were answered since this was last asked.
    pub fn new_trips(&self) -> usize {
        self.shared.trips.swap(0, Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The next request that has no fault yet has this one. A new connection's first words are a request, too.
    pub fn next(&self, fault: Fault) {
        self.shared.plan().next.push_back(fault);
    }

    /// How many faults of [`next`](Self::next) have met no request.
    pub fn pending(&self) -> usize {
        self.shared.plan().next.len()
    }

    /// Every request has this fault, until [`heal`](Self::heal). A black hole takes answers, too, that are under way.
    pub fn always(&self, fault: Fault) {
        self.shared.plan().always = Some(fault);
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses connections until [`heal`](Self::heal), and resets those there are.
    ///
    /// # Errors
    ///
    /// The cable is broken.
    pub fn refuse(&self) -> io::Result<()> {
        self.order(true)?;
        self.cut();
        Ok(())
    }

    /// From now on requests reach the server, and new connections are as good as ever. What a connection has lost
    /// stays lost.
    ///
    /// # Errors
    ///
    /// The port cannot be listened on.
    pub fn heal(&self) -> io::Result<()> {
        *self.shared.plan() = Plan::default();
        self.order(false)
    }

    fn order(&self, refuse: bool) -> io::Result<()> {
        let (done, heard) = mpsc::channel();
        let ended = || io::Error::other("the cable's thread has ended");
        self.commands.send(Command::Refuse(refuse, done)).map_err(|_| ended())?;
        heard.recv().map_err(|_| ended())?
    }
}

/// A socket on this port, which several may share: 0 is a free one. Whoever is bound and does not listen refuses.
fn shared_port(port: u16) -> io::Result<rustix::fd::OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

fn listener(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = shared_port(port)?;
    listen(&socket, 1024)?;
    Ok(socket.into())
}

async fn accept(
    port: u16,
    first: std::net::TcpListener,
    mut orders: tokio::sync::mpsc::UnboundedReceiver<Command>,
    shared: Arc<Shared>,
) {
    let mut listening = TcpListener::from_std(first).ok();
    loop {
        let accepted = async {
            match &listening {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(Link::default().carry(client, Arc::clone(&shared)));
                }
            }
            order = orders.recv() => {
                let Some(Command::Refuse(refuse, done)) = order else { return };
                let mut result = Ok(());
                if refuse {
                    listening = None;
                } else if listening.is_none() {
                    match listener(port).and_then(TcpListener::from_std) {
                        Ok(listener) => listening = Some(listener),
                        Err(error) => result = Err(error),
                    }
                }
                // Whoever gave the order may have panicked.
                let _unheard = done.send(result);
            }
        }
    }
}

/// One connection.
#[derive(Default)]
struct Link(Mutex<Talk>);

#[derive(Default)]
struct Talk {
    /// The client has spoken last.
    asked: bool,
    /// Of the request that is under way.
    fault: Option<Fault>,
    /// Nothing goes through any more.
    dead: bool,
}

/// The connection is to be reset.
struct Cut;

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Link {
    async fn carry(self, mut client: TcpStream, shared: Arc<Shared>) {
        let mut cuts = shared.cuts.subscribe();
        let server = *shared.server.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut server) = TcpStream::connect(server).await else {
            return reset(&client);
        };
        for stream in [&client, &server] {
            // It is only slower without.
            let _slower = stream.set_nodelay(true);
        }
        let cut = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let both = async {
                tokio::try_join!(
                    self.up(from_client, to_server, &shared),
                    self.down(from_server, to_client, &shared)
                )
            };
            tokio::select! {
                ended = both => ended.is_err(),
                _ = cuts.changed() => true,
            }
        };
        if cut {
            reset(&client);
            reset(&server);
        }
    }

    async fn up(
        &self,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        shared: &Shared,
    ) -> Result<(), Cut> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            let (fault, new) = self.request(shared);
            match fault {
                Some(Fault::CutBefore) => return Err(Cut),
                Some(Fault::BlackHole) => continue,
                Some(Fault::LateRequest(by)) if new => tokio::time::sleep(by).await,
                _ => {}
            }
            to.write_all(&bytes[..count]).await?;
        }
    }

    async fn down(
        &self,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        shared: &Shared,
    ) -> Result<(), Cut> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            let (fault, new) = self.answer(shared);
            match fault {
                Some(Fault::CutAfter) => return Err(Cut),
                Some(Fault::Swallow | Fault::BlackHole) => continue,
                Some(Fault::LateAnswer(by)) if new => tokio::time::sleep(by).await,
                _ => {}
            }
            to.write_all(&bytes[..count]).await?;
        }
    }

    /// The fault of the bytes that the client says, and whether a request begins with them.
    fn request(&self, shared: &Shared) -> (Option<Fault>, bool) {
        let mut talk = self.talk();
        if talk.dead {
            return (Some(Fault::BlackHole), false);
        }
        let new = !std::mem::replace(&mut talk.asked, true);
        if new {
            talk.fault = shared.plan().take();
            talk.dead = talk.fault == Some(Fault::BlackHole);
        }
        (talk.fault, new)
    }

    /// The fault of the bytes that the server says, and whether an answer begins with them.
    fn answer(&self, shared: &Shared) -> (Option<Fault>, bool) {
        let mut talk = self.talk();
        talk.dead |= talk.fault == Some(Fault::Swallow) || shared.plan().always == Some(Fault::BlackHole);
        let new = std::mem::replace(&mut talk.asked, false);
        if new && talk.fault != Some(Fault::BlackHole) {
            shared.trips.fetch_add(1, Ordering::SeqCst);
        }
        (if talk.dead { Some(Fault::BlackHole) } else { talk.fault }, new)
    }

    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn take(&mut self) -> Option<Fault> {
        self.next.pop_front().or(self.always)
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reset(stream: &TcpStream) {
    // Else it is closed, which is nearly as bad for its peer.
    let _closed = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cable").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that says everything twice, and what it has heard.
    fn server() -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, say) = (stream.unwrap(), say.clone());
                std::thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                        let _gone = say.send(text.clone());
                        let _gone = stream.write_all(format!("{text}{text}").as_bytes());
                    }
                });
            }
        });
        (address, heard)
    }

    fn client(cable: &Cable) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(cable.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(stream: &mut std::net::TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes())?;
        let mut answer = vec![0; 2 * text.len()];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn it_counts_what_goes_through_and_each_fault_does_what_it_says() {
        let (address, heard) = server();
        let cable = Cable::to(address).unwrap();
        let mut stream = client(&cable);
        let heard = || heard.recv_timeout(PATIENCE).unwrap();
        for text in ["one", "two"] {
            assert_eq!(ask(&mut stream, text).unwrap(), format!("{text}{text}"));
            assert_eq!(heard(), text);
        }
        assert_eq!((cable.new_trips(), cable.new_trips(), cable.connections()), (2, 0, 1));

        cable.next(Fault::CutBefore);
        assert_eq!(ask(&mut stream, "unheard").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        cable.next(Fault::CutAfter);
        assert_eq!(ask(&mut client(&cable), "done").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(heard(), "done");

        let mut silent = client(&cable);
        silent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        cable.next(Fault::Swallow);
        assert_eq!(ask(&mut silent, "swallowed").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(heard(), "swallowed");
        let mut silent = client(&cable);
        silent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        cable.next(Fault::BlackHole);
        assert!(ask(&mut silent, "lost").is_err() && ask(&mut silent, "lost").is_err());
        assert_eq!(cable.pending(), 0);

        let (began, by) = (Instant::now(), Duration::from_millis(60));
        let mut stream = client(&cable);
        cable.next(Fault::LateAnswer(by));
        assert_eq!(ask(&mut stream, "late").unwrap(), "latelate");
        assert!(began.elapsed() >= by);
        assert_eq!(heard(), "late");
        cable.next(Fault::LateRequest(by));
        stream.write_all(b"later").unwrap();
        drop(stream);
        assert_eq!(heard(), "later", "although nobody waits");
    }

    #[test]
    fn what_is_refused_is_taken_again_on_the_same_port() {
        let (address, _heard) = server();
        let cable = Cable::to(address).unwrap();
        let mut stream = client(&cable);
        assert!(ask(&mut stream, "here").is_ok());
        cable.refuse().unwrap();
        assert!(ask(&mut stream, "cut").is_err());
        let refused = std::net::TcpStream::connect(cable.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        cable.heal().unwrap();
        assert!(ask(&mut client(&cable), "back").is_ok());
    }
}
