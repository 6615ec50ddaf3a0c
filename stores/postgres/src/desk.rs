//! The store's own thread and connections. Handlers that keep their runtime busy cannot hold up a renewal, and a
//! caller that goes away cannot leave a connection in the middle of a statement.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use semel_core::identity::Secret;
use semel_core::store::{Migrated, StoreError, StoreErrorKind};
use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::error::{After, Fault, NAME, Place, after, churned, closed};
use crate::migrate::Opening;
use crate::session::Session;
use crate::sql::{Protocol, Sql};

/// How often a step is sent again that the server took back for others.
const AGAIN: u32 = 8;
/// How long closing waits for the server's word.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long opening may take.
const MIGRATION: Duration = Duration::from_secs(30);

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
    pub(crate) options: PgConnectOptions,
    pub(crate) sql: Arc<Sql>,
    pub(crate) protocol: Protocol,
    pub(crate) place: Place,
    pub(crate) timeout: Duration,
    pub(crate) permits: Semaphore,
    pub(crate) idle: Mutex<Vec<Session>>,
}

impl Desk {
    pub(crate) fn start(connections: Arc<Connections>) -> Result<Self, StoreError> {
        let refused = |error: std::io::Error| {
            StoreError::new(NAME, StoreErrorKind::Unavailable, "no thread for the store").with_source(error)
        };
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = built.map_err(refused)?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel();
        let mine = Arc::clone(&connections);
        std::thread::Builder::new()
            .name("semel-postgres".into())
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
        let worker = self.worker();
        let work = self.runtime.spawn(async move { worker.serve(&args, step).await });
        // The thread drops what it did not answer: then it is gone.
        work.await.map_err(|_| closed())?
    }

    /// For work on the store's own thread.
    pub(crate) fn worker(&self) -> Worker {
        Worker(Arc::clone(&self.connections))
    }

    /// Opens the schema on the store's own thread.
    pub(crate) async fn open(&self, opening: Opening) -> Result<Secret, StoreError> {
        let connections = Arc::clone(&self.connections);
        let work = self
            .runtime
            .spawn(async move { connections.patiently("open", connections.open_first(&opening)).await });
        work.await.map_err(|_| closed())?
    }

    /// Brings the schema up to date on the store's own thread.
    pub(crate) async fn migrate(&self, opening: Opening) -> Result<Migrated, StoreError> {
        let connections = Arc::clone(&self.connections);
        let work = self.runtime.spawn(async move {
            connections.patiently("migrated", connections.migrate_first(&opening)).await
        });
        work.await.map_err(|_| closed())?
    }

    pub(crate) fn error(&self, kind: StoreErrorKind, what: &str) -> StoreError {
        self.connections.place.error(kind, what)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.connections.place
    }

    /// The port of the URL; `None` for a socket in a folder.
    pub(crate) fn port(&self) -> Option<u16> {
        let options = &self.connections.options;
        options.get_socket().is_none().then(|| options.get_port())
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}

/// Does steps. Lives on the store's own thread.
pub(crate) struct Worker(Arc<Connections>);

impl Worker {
    /// Has a step done, within the store's time-out. The step may be sent more than once.
    pub(crate) async fn serve<A: ?Sized, T>(
        &self,
        args: &A,
        step: for<'s> fn(&'s mut Session, &'s A) -> Step<'s, T>,
    ) -> Result<T, StoreError> {
        let connections = &self.0;
        match tokio::time::timeout(connections.timeout, connections.serve(args, step)).await {
            Ok(answer) => answer.map_err(|fault| connections.place.fault(fault)),
            Err(_) => Err(connections.place.error(
                StoreErrorKind::Timeout,
                format!("no answer within {} ms", connections.timeout.as_millis()),
            )),
        }
    }
}

impl Connections {
    async fn serve<A: ?Sized, T>(
        &self,
        args: &A,
        step: for<'s> fn(&'s mut Session, &'s A) -> Step<'s, T>,
    ) -> Result<T, Fault> {
        let _permit = self.permits.acquire().await.map_err(|_| Fault::Refused(closed()))?;
        let mut session = self.session().await?;
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
                After::Keep => {
                    self.give_back(session);
                    return Err(fault);
                }
                // Steps recognise themselves, and the server has most likely been restarted since.
                After::Lost if session.used && round == 1 => {
                    self.forget_idle();
                    session = self.connect().await?;
                }
                After::Lost => {
                    self.forget_idle();
                    return Err(fault);
                }
                After::Again => {
                    let wait = fastrand::u64(0..4 << round);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
            }
        }
        self.give_back(session);
        Err(churned())
    }

    async fn open_first(&self, opening: &Opening) -> Result<Secret, Fault> {
        let mut session = self.dial().await?;
        let secret = self.open(&mut session, opening).await?;
        self.warm(&mut session).await?;
        self.give_back(session);
        Ok(secret)
    }

    async fn migrate_first(&self, opening: &Opening) -> Result<Migrated, Fault> {
        let mut session = self.dial().await?;
        let migrated = self.migrate(&mut session, opening).await?;
        self.give_back(session);
        Ok(migrated)
    }

    /// Others may be migrating: they are waited for, for longer than for a step.
    async fn patiently<T>(
        &self,
        done: &str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        let within = self.timeout.max(MIGRATION);
        match tokio::time::timeout(within, work).await {
            Ok(answer) => answer.map_err(|fault| self.place.fault(fault)),
            Err(_) => Err(self
                .place
                .error(StoreErrorKind::Timeout, format!("not {done} within {} ms", within.as_millis()))),
        }
    }

    async fn session(&self) -> Result<Session, Fault> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match waiting {
            Some(session) => Ok(session),
            None => self.connect().await,
        }
    }

    fn give_back(&self, mut session: Session) {
        session.used = true;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(FAREWELL, async {
            for session in idle {
                // The server finds out by itself, too.
                let _ = session.connection.close().await;
            }
        })
        .await;
    }
}
