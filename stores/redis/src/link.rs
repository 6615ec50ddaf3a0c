//! The connection: one, multiplexed, on a thread of its own, so that no handler can keep a renewal from the wire.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use semel_core::identity::Secret;
use semel_core::store::{StoreError, StoreErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};

use crate::address::Host;
use crate::dial::{Dial, Server};
use crate::error::{error, failed, unexpected};
use crate::secret::{self, Found};

/// How long a step waits for a connection that is being made again.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// How often Sentinels are asked whether the primary still is the one: an old primary that was cut off from them goes on
/// answering, and what it is told then is lost.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A thread that does nothing but move bytes and keep connections.
pub(crate) struct Bookkeeping {
    handle: Handle,
    // Dropping it ends the thread.
    _alive: oneshot::Sender<()>,
}

impl Bookkeeping {
    pub(crate) fn start() -> Result<Self, StoreError> {
        let no_thread = |source: std::io::Error| {
            error(StoreErrorKind::Unavailable, "no thread for its connections").with_source(source)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel();
        std::thread::Builder::new()
            .name("semel-redis".into())
            .spawn(move || {
                // An error says that the sender is gone, which is what is waited for.
                let _ended = runtime.block_on(gone);
            })
            .map_err(no_thread)?;
        Ok(Self { handle, _alive: alive })
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future there and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.handle.spawn(task).await.unwrap_or_else(|_| Err(closed()))
    }
}

/// The connection as it is now.
#[derive(Clone)]
enum Line {
    Up { connection: MultiplexedConnection, number: u64 },
    Down { kind: StoreErrorKind, reason: Arc<str> },
}

/// The one connection, made again when it is lost.
#[derive(Clone)]
pub(crate) struct Link {
    server: Server,
    line: watch::Receiver<Line>,
    trouble: Arc<Trouble>,
}

/// What callers noticed.
#[derive(Default)]
struct Trouble {
    noticed: Notify,
    /// The server answers, but not as one that takes writes.
    wrong_server: AtomicBool,
}

/// The secret that a server has to hold, as each new connection makes sure.
#[derive(Clone)]
pub(crate) struct Agreement {
    pub(crate) key: String,
    pub(crate) secret: Secret,
    pub(crate) configured: bool,
}

impl Link {
    /// Without a connection, it makes its first one by itself.
    pub(crate) fn start(
        on: &Handle,
        dial: Dial,
        connected: Option<(MultiplexedConnection, Host)>,
        agreement: Agreement,
    ) -> Self {
        let (first, host) = if let Some((connection, host)) = connected {
            (Line::Up { connection, number: 0 }, Some(host))
        } else {
            let reason = format!("{}: not connected yet", dial.server).into();
            (Line::Down { kind: StoreErrorKind::Unavailable, reason }, None)
        };
        let (sender, line) = watch::channel(first);
        let trouble = Arc::<Trouble>::default();
        let server = dial.server.clone();
        let keeper = Keeper { dial, line: sender, trouble: Arc::clone(&trouble), agreement };
        on.spawn(keeper.run(host));
        Self { server, line, trouble }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends commands in one write; an error of one command is in its place among the answers.
    ///
    /// Every step is safe to repeat, so commands on a connection that broke are sent once more on the next one.
    pub(crate) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let count = commands.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut broken = None;
        loop {
            let (mut connection, number) = self.line(broken).await?;
            let unanswered = Unanswered(&self.trouble);
            let answer = connection.send_packed_commands(commands, 0, count).await;
            match answer {
                Ok(values) if values.len() == count => {
                    std::mem::forget(unanswered);
                    self.look_for_a_wrong_server(&values);
                    return Ok(values);
                }
                Ok(_) => return Err(unexpected(&self.server)),
                Err(error) if broken.is_none() && error.is_connection_dropped() => broken = Some(number),
                Err(error) => return Err(failed(&self.server, error)),
            }
        }
    }

    async fn line(&self, broken: Option<u64>) -> Result<(MultiplexedConnection, u64), StoreError> {
        if let Line::Up { connection, number } = &*self.line.borrow()
            && broken != Some(*number)
        {
            return Ok((connection.clone(), *number));
        }
        let mut line = self.line.clone();
        let up = line.wait_for(|line| matches!(line, Line::Up { number, .. } if broken != Some(*number)));
        match tokio::time::timeout(PATIENCE, up).await {
            Ok(Ok(line)) => match &*line {
                Line::Up { connection, number } => Ok((connection.clone(), *number)),
                Line::Down { .. } => Err(closed()),
            },
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(match &*self.line.borrow() {
                Line::Down { kind, reason } => StoreError::new(crate::error::NAME, *kind, &**reason),
                Line::Up { .. } => {
                    error(StoreErrorKind::Unavailable, format!("{}: the connection was lost", self.server))
                }
            }),
        }
    }

    fn look_for_a_wrong_server(&self, values: &[Value]) {
        let read_only = |value: &Value| matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "MASTERDOWN"));
        if values.iter().any(read_only) {
            self.trouble.wrong_server.store(true, Ordering::Relaxed);
            self.trouble.noticed.notify_one();
        }
    }
}

/// A request that was given up or failed: somebody has to see whether the connection still lives, since a network that
/// was cut says nothing.
struct Unanswered<'a>(&'a Trouble);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.noticed.notify_one();
    }
}

/// Watches the connection and makes it again.
struct Keeper {
    dial: Dial,
    line: watch::Sender<Line>,
    trouble: Arc<Trouble>,
    agreement: Agreement,
}

impl Keeper {
    async fn run(self, mut host: Option<Host>) {
        for number in 1.. {
            if let Some(host) = &host
                && !self.until_lost(host).await
            {
                return;
            }
            host = self.connect_again(number).await;
            if host.is_none() {
                return;
            }
        }
    }

    /// Answers whether anybody still wants a connection.
    async fn until_lost(&self, host: &Host) -> bool {
        loop {
            tokio::select! {
                () = self.trouble.noticed.notified() => {
                    if !self.is_alive().await {
                        return true;
                    }
                }
                () = tokio::time::sleep(CHECK_EVERY), if self.dial.can_change() => {
                    if !self.dial.still_leads_to(host).await {
                        return true;
                    }
                }
                () = self.line.closed() => return false,
            }
        }
    }

    async fn is_alive(&self) -> bool {
        if self.trouble.wrong_server.swap(false, Ordering::Relaxed) {
            return false;
        }
        let connection = match &*self.line.borrow() {
            Line::Up { connection, .. } => connection.clone(),
            Line::Down { .. } => return false,
        };
        ping(connection, self.dial.timeout.min(Duration::from_secs(2))).await
    }

    /// Makes the connection of this number. Answers to whom, or nothing where nobody wants one any more.
    async fn connect_again(&self, number: u64) -> Option<Host> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect().await {
                Ok((connection, host)) => {
                    tracing::info!(server = %self.dial.server, %host, "connected to redis again");
                    self.line.send_replace(Line::Up { connection, number });
                    return Some(host);
                }
                Err(error) => {
                    tracing::debug!(%error, "redis cannot be reached");
                    let reason = error.to_string();
                    let reason = reason.strip_prefix("redis store: ").unwrap_or(&reason).into();
                    self.line.send_replace(Line::Down { kind: error.kind(), reason });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
                () = self.line.closed() => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A connection to a server that takes writes and holds our secret.
    async fn connect(&self) -> Result<(MultiplexedConnection, Host), StoreError> {
        let (mut connection, host) = self.dial.connect().await?;
        let found = secret::agree(&mut connection, &self.dial.server, &self.agreement).await?;
        if found == Found::Nothing {
            tracing::warn!(
                server = %self.dial.server,
                "redis has lost this store's data: requests that were sent before may run a second time"
            );
        }
        Ok((connection, host))
    }
}

pub(crate) async fn ping(mut connection: MultiplexedConnection, within: Duration) -> bool {
    let ping = redis::cmd("PING");
    let answered = tokio::time::timeout(within, connection.send_packed_command(&ping)).await;
    matches!(answered, Ok(Ok(_)))
}

pub(crate) fn closed() -> StoreError {
    error(StoreErrorKind::Unavailable, "the store is closed")
}
