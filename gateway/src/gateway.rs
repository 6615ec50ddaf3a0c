//! Binding, running and shutting down.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use semel_driver::Idempotency;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use crate::admin;
use crate::answer::Answering;
use crate::config::{ConfigError, GatewayConfig};
use crate::forward::Forward;
use crate::guarded::GuardedForward;
use crate::hooks::Hooks;
use crate::listener::{self, Signals, Sockets, Worker};
use crate::upstream::BoxError;

/// A gateway that has its addresses and serves once it runs.
#[derive(Debug)]
#[must_use = "a gateway serves only while it runs"]
pub struct Gateway {
    config: GatewayConfig,
    sockets: Sockets,
    admin: Option<Sockets>,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Connections that did not end within [`Timeouts::shutdown`](crate::Timeouts::shutdown) and were cut.
    pub aborted: usize,
}

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else listens there.
    #[error("{setting}: {address} is in use; stop who listens there, or choose another address")]
    AddressInUse {
        /// The setting's name.
        setting: &'static str,
        /// What it was set to.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("{setting}: cannot listen on {address}; choose an address of this machine and a port above 1023")]
    Bind {
        /// The setting's name.
        setting: &'static str,
        /// What it was set to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A worker could not be started.
    #[error("a worker could not be started")]
    Worker(#[source] io::Error),
    /// A worker ended on its own.
    #[error("a worker ended unexpectedly; the log says why")]
    WorkerFailed,
}

impl Gateway {
    /// Checks the settings and takes the addresses. From here on the kernel queues clients.
    pub fn bind(config: GatewayConfig) -> Result<Self, GatewayError> {
        config.validate()?;
        let sockets = bind("listen", config.listen, config.workers.get())?;
        let admin = config.admin.map(|address| bind("admin", address, 1)).transpose()?;
        Ok(Self { config, sockets, admin })
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets.address
    }

    /// Where `/healthz` and `/readyz` are answered.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|sockets| sockets.address)
    }

    /// Forwards everything and guards nothing, until `shutdown` ends and running requests have.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Stopped, GatewayError> {
        let make = |config: &GatewayConfig| Answering::new(Forward::<Incoming>::new(config));
        self.run_service(make, Hooks::none(), shutdown).await
    }

    /// Guards what this handle's rules guard and forwards the rest, until `shutdown` ends and running requests
    /// have, those whose client has gone included.
    ///
    /// `/readyz` follows the store's health.
    pub async fn run_guarded(
        self,
        idempotency: Idempotency,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Stopped, GatewayError> {
        let guarding = idempotency.clone();
        let hooks = hooks(move || vec![idempotency.clone()]);
        let make = move |config: &GatewayConfig| GuardedForward::new(config, guarding.clone());
        self.run_service(make, hooks, shutdown).await
    }

    /// Serves while the store is still being opened: `meanwhile`, made with a [`NotOpen`](crate::NotOpen), judges
    /// requests until `opening` gives the handle that guards from then on. So guarded requests get 503
    /// `store-unavailable`, all others pass, and `/readyz` says why it is not ready.
    ///
    /// When `opening` fails the gateway shuts down as it does at `shutdown`, and the inner error is that of `opening`.
    pub async fn run_opening<E: Send>(
        self,
        meanwhile: Idempotency,
        opening: impl Future<Output = Result<Idempotency, E>> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Result<Stopped, E>, GatewayError> {
        let opened = Arc::<OnceLock<Idempotency>>::default();
        let (later, guarding) = (Arc::clone(&opened), meanwhile.clone());
        // The one that guards now comes last.
        let hooks = hooks(move || [Some(&meanwhile), later.get()].into_iter().flatten().cloned().collect());
        let later = Arc::clone(&opened);
        let make =
            move |config: &GatewayConfig| GuardedForward::until(config, guarding.clone(), Arc::clone(&later));
        let mut failed = None;
        let until = async {
            let mut shutdown = std::pin::pin!(shutdown);
            tokio::select! {
                () = &mut shutdown => return,
                answer = opening => match answer {
                    Ok(idempotency) => drop(opened.set(idempotency)),
                    Err(error) => {
                        failed = Some(error);
                        return;
                    }
                },
            }
            shutdown.await;
        };
        let stopped = self.run_service(make, hooks, until).await?;
        Ok(failed.map_or(Ok(stopped), Err))
    }

    /// Runs the services that `make` returns, one for each worker and made inside its runtime, until `shutdown`
    /// ends and running requests have.
    ///
    /// At shutdown the gateway stops accepting, closes idle connections, lets running requests end, and calls
    /// [`Hooks::on_drain`]; all of it within [`Timeouts::shutdown`](crate::Timeouts::shutdown). Tunnels are not
    /// waited for.
    pub async fn run_service<M, S, R>(
        self,
        make: M,
        hooks: Hooks,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Stopped, GatewayError>
    where
        M: Fn(&GatewayConfig) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let Self { config, sockets, admin } = self;
        let (close, closing) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let connections = config.limits.connections.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let permits = Arc::new(Semaphore::new(connections));
        let mut tasks = JoinSet::new();
        if let Some(admin) = admin {
            for listener in admin.listeners {
                let listener = TcpListener::from_std(listener).map_err(GatewayError::Worker)?;
                tasks.spawn(admin::serve(listener, hooks.clone(), closing.clone()));
            }
        }
        let make = Arc::new(make);
        let config = Arc::new(config);
        let mut threads = Vec::new();
        let mut quiet = JoinSet::new();
        for (number, socket) in sockets.listeners.into_iter().enumerate() {
            let (make, worker_config) = (Arc::clone(&make), Arc::clone(&config));
            let signals =
                Signals { closing: closing.clone(), stop: stopping.clone(), permits: Arc::clone(&permits) };
            let worker = listener::spawn(
                number,
                socket,
                move || make(&worker_config),
                &config.limits,
                &config.timeouts,
                signals,
            );
            let Worker { thread, quiet: became_quiet } = worker.map_err(GatewayError::Worker)?;
            threads.push(thread);
            quiet.spawn(became_quiet);
        }
        tokio::select! {
            () = shutdown => {}
            // Before shutdown a worker falls quiet only by dying.
            _ = quiet.join_next() => return Err(GatewayError::WorkerFailed),
        }
        tracing::info!("shutting down");
        close.send_replace(true);
        let deadline = Instant::now() + config.timeouts.shutdown;
        while timeout_at(deadline, quiet.join_next()).await.is_ok_and(|worker| worker.is_some()) {}
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let ended = timeout_at(deadline, permits.acquire_many(all)).await;
        let aborted = if ended.is_ok() { 0 } else { connections - permits.available_permits() };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        if timeout(left, hooks.drain(left)).await.is_err() {
            tracing::warn!("requests without a client were still running at the end of the shutdown");
        }
        stop.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || {
            let ended: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
            ended.iter().all(Result::is_ok)
        });
        match joined.await {
            Ok(true) => Ok(Stopped { aborted }),
            Ok(false) | Err(_) => Err(GatewayError::WorkerFailed),
        }
    }
}

/// Ready as the store of the last handle is, and drained when all of them are.
fn hooks(handles: impl Fn() -> Vec<Idempotency> + Send + Sync + 'static) -> Hooks {
    let handles = Arc::new(handles);
    let drained = Arc::clone(&handles);
    Hooks::none()
        .on_ready(move || {
            let guarding = handles().pop();
            async move {
                let Some(guarding) = guarding else { return Ok(()) };
                guarding.store().health().await.map_err(|error| error.to_string())
            }
        })
        .on_drain(move |within| {
            let handles = drained();
            async move {
                let until = Instant::now() + within;
                for handle in handles {
                    let left = until.saturating_duration_since(Instant::now());
                    if let Err(error) = handle.drain(left).await {
                        tracing::warn!(%error, "the shutdown's time is over");
                    }
                }
            }
        })
}

fn bind(setting: &'static str, address: SocketAddr, count: usize) -> Result<Sockets, GatewayError> {
    Sockets::bind(address, count).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => GatewayError::AddressInUse { setting, address },
        _ => GatewayError::Bind { setting, address, source },
    })
}
