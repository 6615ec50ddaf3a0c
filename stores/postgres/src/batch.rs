//! Many callers' steps in one statement and one commit. A batch is whatever queued while the last statement ran:
//! nobody waits for others to come, and a caller alone is served at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use semel_core::store::{StoreError, StoreErrorKind};
use tokio::sync::{Semaphore, oneshot};

use crate::desk::{Desk, Step};
use crate::error::{NAME, closed};
use crate::session::Session;

/// Steps in one statement, and bytes of their answers: it is also how long a step can wait for others.
const STEPS: usize = 64;
const BYTES: usize = 4 << 20;
/// Callers beyond these wait to get in line.
const QUEUE: usize = 1024;

/// A step that can be done together with others of its kind.
pub(crate) trait Batched: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// By its own statement.
    fn alone<'s>(session: &'s mut Session, step: &'s Self) -> Step<'s, Self::Answer>;

    /// By one statement, which has taken effect for all or for none. One answer a step; `None`: it has to be asked
    /// alone.
    fn together<'s>(session: &'s mut Session, steps: &'s [Self]) -> Step<'s, Vec<Option<Self::Answer>>>;

    /// Whether a batch has found what it does next, which is for itself.
    fn goes_alone(&self) -> bool {
        false
    }

    /// What steps of a batch are sorted by: two batches then take their rows in the same order.
    fn id(&self) -> &[u8; 32];

    fn bytes(&self) -> usize;
}

/// Those who wait for the next statement.
pub(crate) struct Batches<B: Batched> {
    room: Semaphore,
    lanes: usize,
    line: Mutex<Line<B>>,
}

struct Line<B: Batched> {
    waiting: VecDeque<Waiting<B>>,
    running: usize,
}

struct Waiting<B: Batched> {
    step: B,
    reply: oneshot::Sender<Result<B::Answer, StoreError>>,
}

impl<B: Batched> Batches<B> {
    /// With at most so many statements at a time.
    pub(crate) fn new(lanes: usize) -> Arc<Self> {
        let line = Mutex::new(Line { waiting: VecDeque::new(), running: 0 });
        Arc::new(Self { room: Semaphore::new(QUEUE), lanes, line })
    }

    pub(crate) async fn ask(self: &Arc<Self>, desk: &Desk, step: B) -> Result<B::Answer, StoreError> {
        let _room = self.room.acquire().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut line = self.line();
            line.waiting.push_back(Waiting { step, reply });
            let start = line.running < self.lanes;
            line.running += usize::from(start);
            start
        };
        if start {
            let lane = Lane { batches: Arc::clone(self), ended: false };
            let worker = desk.worker();
            desk.spawn(async move { lane.run(&worker).await });
        }
        // A lane drops what it did not answer: then the store is gone.
        answer.await.map_err(|_| closed())?
    }

    fn line(&self) -> MutexGuard<'_, Line<B>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One statement after the other, as long as somebody waits.
struct Lane<B: Batched> {
    batches: Arc<Batches<B>>,
    ended: bool,
}

impl<B: Batched> Lane<B> {
    async fn run(mut self, worker: &crate::desk::Worker) {
        while let Some(batch) = self.next() {
            serve(worker, batch).await;
        }
    }

    /// Whatever has queued; `None` when nothing has, and then the lane has ended for those who come next.
    fn next(&mut self) -> Option<Vec<Waiting<B>>> {
        let mut line = self.batches.line();
        let mut bytes = 0;
        let fits = line.waiting.iter().take(STEPS).take_while(|waiting| {
            bytes += waiting.step.bytes();
            bytes <= BYTES
        });
        let count = fits.count().max(1).min(line.waiting.len());
        if count == 0 {
            line.running -= 1;
            drop(line);
            self.ended = true;
            return None;
        }
        Some(line.waiting.drain(..count).collect())
    }
}

impl<B: Batched> Drop for Lane<B> {
    fn drop(&mut self) {
        if !self.ended {
            self.batches.line().running -= 1;
        }
    }
}

async fn serve<B: Batched>(worker: &crate::desk::Worker, mut batch: Vec<Waiting<B>>) {
    batch.sort_by(|one, other| one.step.id().cmp(other.step.id()));
    // A second time, since of several claims of one new record all but one find it only then.
    let mut alone = Vec::new();
    for _ in 0..2 {
        if batch.len() > 1 {
            let left = together(worker, batch).await.into_iter();
            let (single, rest): (Vec<_>, Vec<_>) = left.partition(|waiting| waiting.step.goes_alone());
            alone.extend(single);
            batch = rest;
        }
    }
    for Waiting { step, reply } in batch.into_iter().chain(alone) {
        // Whoever does not wait any more finds its own claim when it asks again.
        let _ = reply.send(worker.serve(&step, B::alone).await);
    }
}

/// Answers what one statement can answer, and gives back the rest.
async fn together<B: Batched>(worker: &crate::desk::Worker, batch: Vec<Waiting<B>>) -> Vec<Waiting<B>> {
    let (steps, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.step, one.reply)).unzip();
    let mut answers: Vec<_> = match worker.serve(&steps[..], B::together).await {
        Ok(answers) => answers.into_iter().map(|answer| answer.map(Ok)).collect(),
        Err(error) => steps.iter().map(|_| for_all(&error)).collect(),
    };
    answers.resize_with(steps.len(), || None);
    let mut rest = Vec::new();
    for ((step, reply), answer) in steps.into_iter().zip(replies).zip(answers) {
        match answer {
            Some(answer) => drop(reply.send(answer)),
            None => rest.push(Waiting { step, reply }),
        }
    }
    rest
}

/// A server that is gone is gone for each of them; of all else, one step may be the cause, and is asked alone.
fn for_all<T>(error: &StoreError) -> Option<Result<T, StoreError>> {
    let gone = matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Timeout);
    let text = error.to_string();
    let text = text.strip_prefix("postgres store: ").unwrap_or(&text);
    gone.then(|| Err(StoreError::new(NAME, error.kind(), text)))
}
