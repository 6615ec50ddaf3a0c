//! The first signal asks for a graceful end, the second one ends the program at once.

use std::future::Future;

use crate::exit::{Exit, Fault};

/// Listens from now on. The future is ready at the first signal.
pub(super) fn listen() -> Result<impl Future<Output = ()> + Send, Fault> {
    let mut signals = Signals::new().map_err(|error| Fault::system("cannot listen for signals", &error))?;
    Ok(async move {
        signals.next().await;
        tracing::info!("ending gracefully; a second signal ends at once");
        tokio::spawn(async move {
            signals.next().await;
            // Running requests are cut: their records go by their recovery rule, as after a crash.
            std::process::exit(Exit::Interrupted as i32);
        });
    })
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "the other systems' can fail")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
