//! The line between a run and its client.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::runtime::BoxFuture;

/// The run's end of the line to its client.
#[derive(Debug)]
pub struct Client<T>(Line<T>);

#[derive(Debug)]
enum Line<T> {
    /// To another task. `None` once it is answered.
    Tasks(Option<oneshot::Sender<T>>),
    /// To whoever polls the run itself.
    Attended(Arc<Shared<T>>),
}

/// The client's end: ready with the answer, or `None` if the run was torn down.
#[derive(Debug)]
#[must_use = "the answer comes only to whoever waits"]
pub struct Awaited<T>(oneshot::Receiver<T>);

impl<T> Client<T> {
    /// A line between two tasks: the run's and its client's.
    pub fn line() -> (Self, Awaited<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Line::Tasks(Some(sender))), Awaited(receiver))
    }

    /// Puts a run into its client's own task for as long as the client is there: a task of its own costs more than
    /// all else that a request costs, and is needed only by those whose clients go.
    ///
    /// `run` claims, says [`begins`](Self::begins) when the handler is about to run, and answers.
    pub fn attended<F>(run: impl FnOnce(Self) -> F, detach: fn(BoxFuture<'static, ()>)) -> Attended<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let run = Box::pin(run(Self(Line::Attended(Arc::clone(&shared)))));
        Attended { run: Some(run), shared, detach }
    }

    /// From here on the run goes on whatever its client does.
    pub fn begins(&self) {
        if let Line::Attended(shared) = &self.0 {
            shared.begun.store(true, Ordering::Release);
        }
    }

    /// Answers, once. A later answer, or one to a client that has gone, is dropped.
    pub fn answer(&mut self, answer: T) {
        match &mut self.0 {
            Line::Tasks(line) => {
                if let Some(sender) = line.take() {
                    drop(sender.send(answer));
                }
            }
            Line::Attended(shared) => shared.answer(answer),
        }
    }

    /// Ready when the client has gone without an answer.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Line::Tasks(Some(sender)) => sender.poll_closed(cx),
            // No waker: a run whose client goes is polled anew by the task that it goes to.
            Line::Attended(shared) if shared.gone.load(Ordering::Acquire) => Poll::Ready(()),
            Line::Tasks(None) | Line::Attended(_) => Poll::Pending,
        }
    }
}

impl<T> Future for Awaited<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// A run in its client's task: ready with the answer. Dropped before the run [begins](Client::begins) it gives the
/// claim up; dropped later, or answered before the run's end, it hands the run to a task of its own.
#[must_use = "the run goes on only while it is polled"]
pub struct Attended<T> {
    /// `None` once it has ended.
    run: Option<BoxFuture<'static, ()>>,
    shared: Arc<Shared<T>>,
    detach: fn(BoxFuture<'static, ()>),
}

#[derive(Debug)]
struct Shared<T> {
    begun: AtomicBool,
    gone: AtomicBool,
    answer: Mutex<Option<T>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { begun: AtomicBool::new(false), gone: AtomicBool::new(false), answer: Mutex::new(None) }
    }
}

impl<T> Shared<T> {
    fn answer(&self, answer: T) {
        // After the client has gone nobody takes it out: it would live as long as the run.
        if !self.gone.load(Ordering::Acquire) {
            self.answer.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(answer);
        }
    }
}

impl<T> Attended<T> {
    /// A run that has begun goes on elsewhere; any other gives its claim up.
    fn let_go(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.shared.gone.store(true, Ordering::Release);
        if self.shared.begun.load(Ordering::Acquire) {
            (self.detach)(run);
        }
    }
}

impl<T> Future for Attended<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Out of its place while it is polled: one that panics is never polled again, and settles by policy.
        if let Some(mut run) = self.run.take()
            && run.as_mut().poll(cx).is_pending()
        {
            self.run = Some(run);
        }
        let answer = self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match answer {
            Some(answer) => {
                self.let_go();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Attended<T> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<T> std::fmt::Debug for Attended<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attended").field("ended", &self.run.is_none()).finish_non_exhaustive()
    }
}
