//! What a gateway asks of the service it runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a gateway asks of the service it runs: whether it is ready, and to end what runs without a client.
#[derive(Clone)]
pub struct Hooks {
    ready: Arc<dyn Fn() -> Answer<Result<(), String>> + Send + Sync>,
    drain: Arc<dyn Fn(Duration) -> Answer<()> + Send + Sync>,
}

impl Hooks {
    /// Always ready, nothing to drain.
    pub fn none() -> Self {
        Self { ready: Arc::new(|| Box::pin(async { Ok(()) })), drain: Arc::new(|_| Box::pin(async {})) }
    }

    /// Asked by `/readyz`, for at most 2 s; an error is the reason that it answers.
    pub fn on_ready<F>(mut self, ready: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.ready = Arc::new(move || Box::pin(ready()));
        self
    }

    /// Called once all connections have ended at shutdown, with the time that is left; the workers' runtimes
    /// live until it returns or the time is over.
    pub fn on_drain<F>(mut self, drain: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.drain = Arc::new(move |within| Box::pin(drain(within)));
        self
    }

    pub(crate) async fn ready(&self) -> Result<(), String> {
        (self.ready)().await
    }

    pub(crate) async fn drain(&self, within: Duration) {
        (self.drain)(within).await;
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
