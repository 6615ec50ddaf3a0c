//! Moves what was committed from the log into the database, off the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

/// Changed records between two checkpoints: some four to eight megabytes of log.
const EVERY: usize = 1000;
/// Pages of log beyond which the writer itself finishes the checkpoint: 64 MiB.
const MOST_PAGES: i64 = 16_384;
/// Without work for so long, the log is emptied.
const IDLE: Duration = Duration::from_secs(2);

/// What the writer and the checkpointer tell each other.
#[derive(Debug)]
pub(crate) struct Pressure {
    changed: AtomicUsize,
    too_long: AtomicBool,
    wake: SyncSender<()>,
}

impl Pressure {
    /// The writer committed so many changes.
    pub(crate) fn wrote(&self, records: usize) {
        let before = self.changed.fetch_add(records, Ordering::Relaxed);
        if before / EVERY != before.wrapping_add(records) / EVERY {
            // Full: it is awake already.
            let _ = self.wake.try_send(());
        }
    }

    /// In the writer, between transactions: under steady load the log is never all checkpointed, and would grow
    /// without end. What is left to do then is what was written during the last checkpoint.
    ///
    /// It waits for nobody: another process that reads would hold up every caller of this one.
    pub(crate) fn relieve(&self, connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
        if !self.too_long.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        connection.busy_timeout(Duration::ZERO)?;
        // What is left undone is asked for again by the next checkpoint, which finds the log as long as before.
        let _ = checkpoint(connection, "RESTART");
        connection.busy_timeout(busy_timeout)
    }
}

/// The thread that checkpoints. It ends when the store is dropped.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    stop: Option<SyncSender<()>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// `connection` must not wait for others: it would do so with the writers' lock in its hands.
    pub(crate) fn start(connection: Connection) -> std::io::Result<(Self, Arc<Pressure>)> {
        let (wake, woken) = sync_channel(1);
        let pressure = Arc::new(Pressure {
            changed: AtomicUsize::new(0),
            too_long: AtomicBool::new(false),
            wake: wake.clone(),
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("semel-checkpoint".into()).spawn({
            let (pressure, stopping) = (Arc::clone(&pressure), Arc::clone(&stopping));
            move || run(&connection, &woken, &pressure, &stopping)
        })?;
        Ok((Self { stop: Some(wake), stopping, thread: Some(thread) }, pressure))
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(stop) = self.stop.take() {
            let _ = stop.try_send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>, pressure: &Pressure, stopping: &AtomicBool) {
    let (mut seen, mut emptied) = (0, true);
    loop {
        let idle = match woken.recv_timeout(IDLE) {
            Ok(()) => false,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let changed = pressure.changed.load(Ordering::Relaxed);
        if changed != seen {
            seen = changed;
            emptied = false;
            // An error is the writer's to meet: it has callers to tell.
            if let Ok(Progress { pages, .. }) = checkpoint(connection, "PASSIVE")
                && pages > MOST_PAGES
            {
                pressure.too_long.store(true, Ordering::Relaxed);
            }
        } else if idle && !emptied {
            emptied = checkpoint(connection, "TRUNCATE").is_ok_and(|progress| !progress.blocked);
        }
    }
}

/// What a checkpoint came to.
pub(crate) struct Progress {
    /// Somebody was in the way, and it is not finished.
    pub(crate) blocked: bool,
    /// Pages in the log.
    pages: i64,
}

pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Progress> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| {
        Ok(Progress { blocked: row.get::<_, i64>(0)? != 0, pages: row.get(1)? })
    })
}
