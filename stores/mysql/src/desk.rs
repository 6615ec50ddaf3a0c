//! The store's own thread and connections. Handlers that keep their runtime busy cannot hold up a renewal, and a
//! caller that goes away cannot leave a connection in the middle of a statement.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use semel_core::store::{StoreError, StoreErrorKind};
use sqlx::Connection as _;
use sqlx::mysql::MySqlConnectOptions;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::connect::Session;
use crate::error::{After, Fault, NAME, Place, after, churned, closed};
use crate::sql::Names;

/// How often a step is sent again that the server took back for others.
const AGAIN: u32 = 12;
/// How long closing waits for the server's word.
const FAREWELL: Duration = Duration::from_secs(1);

/// A step at work on a connection.
pub(crate) type Step<'s, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 's>>;

/// The way to the store's thread.
pub(crate) struct Desk {
    runtime: Handle,
    connections: Arc<Connections>,
    // Dropping it ends the thread.
    _alive: oneshot::Sender<()>,
}

/// What connections are made of, and those that wait for work.
pub(crate) struct Connections {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) names: Names,
    pub(crate) place: Place,
    pub(crate) timeout: Duration,
    pub(crate) permits: Semaphore,
    pub(crate) idle: Mutex<Vec<Session>>,
}

impl Desk {
    pub(crate) fn start(connections: Connections) -> Result<Self, StoreError> {
        let refused = |error: std::io::Error| {
            StoreError::new(NAME, StoreErrorKind::Unavailable, "no thread for the store").with_source(error)
        };
        let connections = Arc::new(connections);
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = built.map_err(refused)?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel();
        let mine = Arc::clone(&connections);
        std::thread::Builder::new()
            .name("semel-mysql".into())
            .spawn(move || {
                runtime.block_on(async {
                    // An error says that the sender is gone, which is what is waited for.
                    let _ended = gone.await;
                    mine.close().await;
                });
            })
            .map_err(refused)?;
        Ok(Self { runtime: handle, connections, _alive: alive })
    }

    /// Has a step done, within the store's time-out. The step may be sent more than once.
    pub(crate) async fn ask<A, T>(
        &self,
        args: A,
        step: for<'s> fn(&'s mut Session, &'s A) -> Step<'s, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.ask_within(self.connections.timeout, args, step).await
    }

    /// The same, with a time-out of its own.
    pub(crate) async fn ask_within<A, T>(
        &self,
        within: Duration,
        args: A,
        step: for<'s> fn(&'s mut Session, &'s A) -> Step<'s, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let connections = Arc::clone(&self.connections);
        let work = self.runtime.spawn(async move {
            match tokio::time::timeout(within, connections.serve(&args, step)).await {
                Ok(answer) => answer.map_err(|fault| connections.place.fault(fault)),
                Err(_) => Err(connections
                    .place
                    .error(StoreErrorKind::Timeout, format!("no answer within {} ms", within.as_millis()))),
            }
        });
        // The thread drops what it did not answer: then it is gone.
        work.await.map_err(|_| closed())?
    }

    pub(crate) fn place(&self) -> &Place {
        &self.connections.place
    }

    /// The database that the URL names.
    pub(crate) fn database(&self) -> String {
        self.connections.options.get_database().unwrap_or_default().to_owned()
    }
}

impl Connections {
    async fn serve<A, T>(
        &self,
        args: &A,
        step: for<'s> fn(&'s mut Session, &'s A) -> Step<'s, T>,
    ) -> Result<T, Fault> {
        let _permit = self.permits.acquire().await.map_err(|_| Fault::Refused(closed()))?;
        let waiting = self.idle().pop();
        let mut session = match waiting {
            Some(session) => session,
            None => self.connect().await?,
        };
        for round in 1..=AGAIN {
            let fault = match step(&mut session, args).await {
                Ok(answer) => {
                    self.give_back(session);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            let next = match &fault {
                Fault::Refused(_) => After::Keep,
                Fault::Sqlx(error) => after(error),
            };
            match next {
                // Whatever transaction is open ends with its locks.
                After::Keep => {
                    if session.roll_back().await.is_ok() {
                        self.give_back(session);
                    }
                    return Err(fault);
                }
                // Steps recognise themselves, and the server has most likely been restarted since.
                After::Lost if session.used && round == 1 => {
                    self.idle().clear();
                    session = self.connect().await?;
                }
                After::Lost => {
                    self.idle().clear();
                    return Err(fault);
                }
                After::Again => {
                    session.roll_back().await?;
                    let wait = fastrand::u64(0..2 << round.min(6));
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
            }
        }
        self.give_back(session);
        Err(churned())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, mut session: Session) {
        session.used = true;
        self.idle().push(session);
    }

    async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        let _ = tokio::time::timeout(FAREWELL, async {
            for session in idle {
                // The server finds out by itself, too.
                let _ = session.connection.close().await;
            }
        })
        .await;
    }
}
