//! The one thread that talks to the file: it takes whatever queued while the last commit ran, does it all in one
//! transaction, commits, and only then answers.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use semel_core::store::{StoreError, StoreErrorKind};
use semel_store_kit::Watchers;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Pressure;
use crate::clock::Clock;
use crate::error::{Failure, Fault, closed};
use crate::file::File;
use crate::tx::{Access, Statements, Tx};

/// Callers beyond these wait to get in line.
const QUEUE: usize = 1024;
/// At most so many steps a transaction: it is also how long a step can wait for others of its batch.
const BATCH: usize = 512;

/// The way to the writer thread. Dropping it lets the thread finish what is in line, and waits for it.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection, desk: Desk) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("semel-sqlite".into())
            .spawn(move || desk.run(connection, jobs))
            .map_err(|error| {
                StoreError::new(crate::error::NAME, StoreErrorKind::Unavailable, "no thread for the writer")
                    .with_source(error)
            })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has a step done. The step may be run more than once, each time in another transaction; the answer is
    /// that of the one that committed.
    pub(crate) async fn ask<T, S>(&self, access: Access, step: S) -> Result<T, StoreError>
    where
        T: Send + 'static,
        S: FnMut(&mut Tx<'_, '_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Step { access, does: step, outcome: None, reply, tries: 0 });
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(job).await.map_err(|_| closed())?;
        // The thread drops what it did not answer: then it is gone.
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told to every caller.
            let _ = thread.join();
        }
    }
}

/// A step in line.
trait Job: Send {
    fn access(&self) -> Access;
    /// Runs it, and keeps the outcome until its transaction has committed.
    fn run(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), rusqlite::Error>;
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, failure: &Failure);
    /// Counts how often the file broke under it.
    fn broke(&mut self) -> u32;
}

struct Step<T, S> {
    access: Access,
    does: S,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    tries: u32,
}

impl<T, S> Job for Step<T, S>
where
    T: Send,
    S: FnMut(&mut Tx<'_, '_>) -> Result<T, Fault> + Send,
{
    fn access(&self) -> Access {
        self.access
    }

    fn run(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), rusqlite::Error> {
        self.outcome = Some(match (self.does)(tx) {
            Ok(answer) => Ok(answer),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Sqlite(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(closed()));
        // Whoever does not wait any more finds its own claim when it asks again.
        let _ = self.reply.send(outcome);
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        let _ = self.reply.send(Err(failure.error()));
    }

    fn broke(&mut self) -> u32 {
        self.tries += 1;
        self.tries
    }
}

type Jobs = Vec<Box<dyn Job>>;

/// What the writer thread works with.
pub(crate) struct Desk {
    pub(crate) file: File,
    pub(crate) clock: Clock,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) pressure: Arc<Pressure>,
}

/// Why the work on one connection ended.
enum End {
    /// Nobody asks any more.
    Closed,
    /// The disk or the file failed: what the last commit left behind has to be looked at.
    Broken,
}

impl Desk {
    fn run(&self, connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
        let mut jobs = Jobs::new();
        let mut connection = Some(connection);
        loop {
            if jobs.is_empty() && queue.blocking_recv_many(&mut jobs, BATCH) == 0 {
                return;
            }
            let Some(open) = connection.take() else {
                match self.file.reopen() {
                    Ok(reopened) => connection = Some(reopened),
                    Err(failure) => fail_all(&mut jobs, &failure),
                }
                continue;
            };
            match self.serve(&open, &mut queue, &mut jobs) {
                End::Closed => return,
                End::Broken => {}
            }
        }
    }

    fn serve(
        &self,
        connection: &Connection,
        queue: &mut mpsc::Receiver<Box<dyn Job>>,
        jobs: &mut Jobs,
    ) -> End {
        let mut sql = match Statements::prepare(connection) {
            Ok(sql) => sql,
            Err(error) => {
                fail_all(jobs, &Failure::new(self.file.path(), error));
                return End::Broken;
            }
        };
        loop {
            if jobs.is_empty() && queue.blocking_recv_many(jobs, BATCH) == 0 {
                return End::Closed;
            }
            if let Err(failure) = self.settle(&mut sql, jobs) {
                // A step that has met a broken file twice is answered; the others are run again: they find
                // what they did, if they did it.
                for mut job in std::mem::take(jobs) {
                    if job.broke() < 2 { jobs.push(job) } else { job.fail(&failure) }
                }
                return End::Broken;
            }
            if self.pressure.relieve(connection, self.file.busy_timeout).is_err() {
                return End::Broken;
            }
        }
    }

    /// Does and answers all of `jobs`; leaves those that have no answer when the file breaks.
    fn settle(&self, sql: &mut Statements<'_>, jobs: &mut Jobs) -> Result<(), Failure> {
        let failure = match self.attempt(sql, jobs) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if !sql.roll_back() || failure.breaks_file() {
            return Err(failure);
        }
        if failure.kind == StoreErrorKind::Contended || jobs.len() == 1 {
            fail_all(jobs, &failure);
            return Ok(());
        }
        // One of them cannot be done, such as for want of room: the others must not suffer for it.
        let mut rest = std::mem::take(jobs).into_iter();
        while let Some(job) = rest.next() {
            let mut one = vec![job];
            let Err(failure) = self.attempt(sql, &mut one) else { continue };
            if !sql.roll_back() || failure.breaks_file() {
                jobs.append(&mut one);
                jobs.extend(rest);
                return Err(failure);
            }
            fail_all(&mut one, &failure);
            if failure.kind == StoreErrorKind::Contended {
                rest.for_each(|job| job.fail(&failure));
                return Ok(());
            }
        }
        Ok(())
    }

    /// One transaction over all of `jobs`: answers them if it committed.
    fn attempt(&self, sql: &mut Statements<'_>, jobs: &mut Jobs) -> Result<(), Failure> {
        let writes = jobs.iter().any(|job| job.access() == Access::Write);
        let access = if writes { Access::Write } else { Access::Read };
        let changed =
            self.transact(sql, jobs, access).map_err(|error| Failure::new(self.file.path(), error))?;
        // After the commit, so that nothing is answered that went into a file which is no longer there.
        self.file.in_place()?;
        self.watchers.wake(&changed);
        self.pressure.wrote(changed.len());
        for job in jobs.drain(..) {
            job.answer();
        }
        Ok(())
    }

    fn transact(
        &self,
        sql: &mut Statements<'_>,
        jobs: &mut Jobs,
        access: Access,
    ) -> rusqlite::Result<Vec<semel_core::record::RecordId>> {
        let mut tx = Tx::begin(sql, access, &self.clock)?;
        for job in jobs {
            job.run(&mut tx)?;
        }
        tx.commit()
    }
}

fn fail_all(jobs: &mut Jobs, failure: &Failure) {
    for job in jobs.drain(..) {
        job.fail(failure);
    }
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}
