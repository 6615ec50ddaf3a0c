//! SIGTERM and Ctrl-C.

use std::future::Future;

use crate::exit::{Exit, Fault};

/// Asks for a graceful end at the first signal, and ends the program at once at the second one. Listens from
/// now on; the future is ready at the first signal.
pub(crate) fn graceful() -> Result<impl Future<Output = ()> + Send, Fault> {
    let mut signals = Signals::listen()?;
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

/// Ready when standard input ends: whoever holds its other end, as a pipe, has closed it or is gone.
///
/// A thread of its own waits for it, which the end of the program does not wait for.
pub(crate) fn stdin_ended() -> Result<impl Future<Output = ()> + Send, Fault> {
    let (ended, wait) = tokio::sync::oneshot::channel();
    let read = move || {
        // An error is an end, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    };
    let spawned = std::thread::Builder::new().name("semel-stdin".to_owned()).spawn(read);
    spawned.map_err(|error| Fault::system("cannot start a thread", &error))?;
    Ok(async move {
        let _ = wait.await;
        tracing::info!("ending gracefully: standard input has ended");
    })
}

/// The signals that ask a program to end.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn listen() -> Result<Self, Fault> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Fault::system("cannot listen for signals", &error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The signals that ask a program to end.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "on other systems it can fail")]
    pub(crate) fn listen() -> Result<Self, Fault> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
