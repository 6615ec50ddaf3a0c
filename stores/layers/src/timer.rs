//! Time, injected: the layers name no async runtime.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// A pause on the heap.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The clock and the alarm that [`Guard`](crate::Guard) and [`Tier`](crate::Tier) go by.
///
/// ```
/// use std::time::{Duration, Instant};
/// use semel_store_layers::{Sleep, Timer};
///
/// #[derive(Debug)]
/// struct Mine(Instant);
///
/// impl Timer for Mine {
///     fn now(&self) -> Duration {
///         self.0.elapsed()
///     }
///
///     fn sleep(&self, length: Duration) -> Sleep {
///         # let after = |_length| std::future::ready(());
///         Box::pin(after(length)) // your runtime's own
///     }
/// }
/// ```
pub trait Timer: fmt::Debug + Send + Sync + 'static {
    /// Time since some start. Never goes back, whatever happens to the wall clock.
    fn now(&self) -> Duration;

    /// Ready after `length`. Polled on the task that called the store.
    fn sleep(&self, length: Duration) -> Sleep;
}

/// Tokio's timer. Calls have to be made inside a Tokio runtime with time enabled.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug)]
pub struct TokioTimer(tokio::time::Instant);

#[cfg(feature = "tokio")]
impl TokioTimer {
    /// Starts at zero now.
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[cfg(feature = "tokio")]
impl Timer for TokioTimer {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, length: Duration) -> Sleep {
        // Made at the first poll, so that it belongs to the runtime that polls it.
        Box::pin(async move { tokio::time::sleep(length).await })
    }
}

/// Time ran out.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Runs a future for at most `limit`. One that is ready at once costs no alarm.
pub(crate) async fn within<F: Future>(
    timer: &dyn Timer,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut alarm: Option<Sleep> = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let alarm = alarm.get_or_insert_with(|| timer.sleep(limit));
        alarm.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
