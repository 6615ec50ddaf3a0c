//! Time and tasks, injected: the driver itself names no async runtime but through here.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use semel_core::record::Timestamp;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The clocks and the tasks of the driver.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Time since some start. Never goes back, whatever happens to the wall clock.
    fn now(&self) -> Duration;

    /// The wall clock. Only keys minted in the future are judged by it; records live by the store's clock.
    fn wall(&self) -> Timestamp;

    /// Ready after `length`. May be polled on another thread than the one it was made on.
    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()>;

    /// Runs a background task where handlers cannot starve it: renewals have to come through while a handler
    /// keeps its own thread busy.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Tokio's timer, and a thread of Semel's own for bookkeeping.
#[derive(Debug)]
pub struct TokioRuntime {
    start: Instant,
    bookkeeping: tokio::runtime::Handle,
    // Dropping it ends the thread.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl TokioRuntime {
    /// Starts the bookkeeping thread, which ends when this value is dropped.
    ///
    /// # Errors
    ///
    /// The operating system refuses a thread or an event queue.
    pub fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bookkeeping = runtime.handle().clone();
        let (alive, gone) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("semel-bookkeeping".into()).spawn(move || {
            // An error says that the sender is gone, which is what is waited for.
            let _ended = runtime.block_on(gone);
        })?;
        Ok(Self { start: Instant::now(), bookkeeping, _alive: alive })
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(0).plus(since)
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        // The timer is made at the first poll, so that it belongs to the runtime that polls it.
        Box::pin(async move { tokio::time::sleep(length).await })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.bookkeeping.spawn(task);
    }
}

/// Time ran out.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Runs a future for at most `limit`. A future that is ready at once costs no timer.
pub(crate) async fn within<F: Future>(
    runtime: &dyn Runtime,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep: Option<BoxFuture<'static, ()>> = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let sleep = sleep.get_or_insert_with(|| runtime.sleep(limit));
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
