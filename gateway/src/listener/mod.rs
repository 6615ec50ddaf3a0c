//! Accepts clients: one thread, one single-threaded runtime and one socket a worker.

mod connection;
mod framing;
mod guard;
mod socket;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tower_service::Service;

pub(crate) use socket::Sockets;

use crate::config::{Limits, Timeouts};
use crate::upstream::BoxError;
use connection::Settings;

/// How long to wait when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// What the coordinator tells its workers.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Stop accepting, end connections after the requests under way.
    pub(crate) closing: watch::Receiver<bool>,
    /// End, whatever is still under way.
    pub(crate) stop: watch::Receiver<bool>,
    /// A permit a connection.
    pub(crate) permits: Arc<Semaphore>,
}

/// A running worker. Its `quiet` answers once it accepts no more, or fails if the worker dies before.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) thread: thread::JoinHandle<()>,
    pub(crate) quiet: oneshot::Receiver<()>,
}

/// Starts a worker on this socket. `make` is called inside the worker's runtime.
pub(crate) fn spawn<M, S, R>(
    number: usize,
    socket: StdListener,
    make: M,
    limits: &Limits,
    timeouts: &Timeouts,
    signals: Signals,
) -> io::Result<Worker>
where
    M: FnOnce() -> S + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let settings = Arc::new(Settings { limits: limits.clone(), timeouts: timeouts.clone() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (became_quiet, quiet) = oneshot::channel();
    let thread = thread::Builder::new().name(format!("semel-worker-{number}")).spawn(move || {
        runtime.block_on(async move {
            let mut stop = signals.stop.clone();
            match TcpListener::from_std(socket) {
                Ok(listener) => accept(listener, make(), settings, signals).await,
                Err(error) => {
                    tracing::error!(%error, "a worker cannot listen");
                    return;
                }
            }
            if became_quiet.send(()).is_ok() {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        });
    })?;
    Ok(Worker { thread, quiet })
}

async fn accept<S, R>(listener: TcpListener, service: S, settings: Arc<Settings>, signals: Signals)
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let start = |(stream, peer): (TcpStream, _), permit: OwnedSemaphorePermit| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let (service, settings) = (service.clone(), Arc::clone(&settings));
        let closing = signals.closing.clone();
        tokio::spawn(async move {
            connection::serve(stream, peer, service, settings, closing).await;
            drop(permit);
        });
    };
    let mut closing = signals.closing.clone();
    loop {
        let next = async {
            let permit = Arc::clone(&signals.permits).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            next = next => match next {
                Some((Ok(accepted), permit)) => start(accepted, permit),
                Some((Err(error), _)) if gone(&error) => {}
                Some((Err(error), _)) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(EXHAUSTED).await;
                }
                None => break,
            },
        }
    }
    // The kernel resets what it has accepted and nobody has taken.
    while let Ok(permit) = Arc::clone(&signals.permits).try_acquire_owned() {
        match now_or_never(listener.accept()) {
            Some(Ok(accepted)) => start(accepted, permit),
            Some(Err(_)) | None => break,
        }
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    match std::pin::pin!(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
