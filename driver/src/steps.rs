//! Steps: effects outside the database, each recorded in the record before the next begins.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Extensions, Response};
use semel_core::engine::Override;
use semel_core::policy::keep::Outcome;
use semel_core::record::RecordId;
use semel_core::steps::{Entered, Misstep, Misused, StepKey, StepsEnd, Trouble, Walk, Walked};
use semel_core::store::{LeaseRef, LendError, Settled, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::again::BoxError;
use crate::body::Whole;
use crate::idempotency::Idempotency;

/// The most bytes of a final error's text; what is longer is cut there.
const LONGEST_TEXT: usize = 1024;

/// The steps of one run: calls that leave the application's own database, in their order, by name.
///
/// Each is recorded before the next begins, so that a later attempt of the same request goes on after the last one
/// that was recorded. A step whose result is not recorded (a crash, a time-out) may have happened: the next attempt calls
/// it again *with the same key*, which is to be handed to whoever is called as its own idempotency key.
///
/// The closure gets no transaction, and a run's steps are one after the other: `run` takes `&mut self`, and there is
/// one `Steps` a run. The route needs [`steps`](semel_core::policy::PolicyBuilder::steps).
///
/// ```
/// use semel_driver::{StepError, Steps, StepsError};
///
/// async fn charge(key: &str, cents: u64) -> Result<String, std::io::Error> {
///     # Ok(format!("{key} {cents}"))
/// }
///
/// async fn order(mut steps: Steps) -> Result<String, StepsError> {
///     let charge = steps.run("charge", async |key| {
///         // An error that `?` takes is one to try again. `StepError::final_` is recorded, and never tried again.
///         Ok(charge(key.as_str(), 500).await?)
///     });
///     let id = charge.await?;
///     steps.run("mail", async |key| Ok(println!("{key}: charged {id}"))).await?;
///     Ok(id)
/// }
/// ```
#[must_use = "steps that are not run do nothing"]
pub struct Steps {
    slot: Arc<Slot>,
    /// `None` only while it is dropped.
    walk: Option<Walk>,
}

/// The place of a run's steps: as a request extension it can be cloned, and the steps are taken out of it.
#[derive(Clone)]
pub(crate) struct Place(pub(crate) Arc<Slot>);

pub(crate) struct Slot {
    idempotency: Idempotency,
    lease: LeaseRef,
    held: Mutex<Held>,
}

enum Held {
    Here(Walk),
    Lent,
    Unreadable(Trouble),
    /// Finished by the handler, or the handler has ended.
    Closed(Option<Walk>),
}

impl Slot {
    pub(crate) fn new(idempotency: Idempotency, lease: LeaseRef, walk: Result<Walk, Trouble>) -> Arc<Self> {
        let held = match walk {
            Ok(walk) => Held::Here(walk),
            Err(trouble) => Held::Unreadable(trouble),
        };
        Arc::new(Self { idempotency, lease, held: Mutex::new(held) })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>) -> Result<Steps, NoSteps> {
        let mut held = self.locked();
        match std::mem::replace(&mut *held, Held::Lent) {
            Held::Here(walk) => Ok(Steps { slot: Arc::clone(self), walk: Some(walk) }),
            Held::Lent => Err(NoSteps::Lent),
            Held::Unreadable(trouble) => {
                *held = Held::Unreadable(trouble.clone());
                Err(NoSteps::Unreadable(trouble))
            }
            Held::Closed(walk) => {
                *held = Held::Closed(walk);
                Err(NoSteps::Finished)
            }
        }
    }

    fn give_back(&self, walk: Walk) {
        let mut held = self.locked();
        if matches!(*held, Held::Lent) {
            *held = Held::Here(walk);
        }
    }

    /// No more steps from here on, unless somebody has them.
    fn finish(&self) -> Result<(), LendError> {
        let mut held = self.locked();
        *held = match std::mem::replace(&mut *held, Held::Lent) {
            Held::Here(walk) => Held::Closed(Some(walk)),
            Held::Lent => return Err(LendError::StepsOpen),
            over => over,
        };
        Ok(())
    }

    /// The handler has ended: no more steps from here on.
    pub(crate) fn close(&self) -> Walked {
        match std::mem::replace(&mut *self.locked(), Held::Closed(None)) {
            Held::Here(walk) | Held::Closed(Some(walk)) => walk.end(),
            Held::Unreadable(trouble) => Walked::in_trouble(trouble),
            Held::Lent => Walked::in_trouble(Trouble::Lent),
            Held::Closed(None) => Walked::default(),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.slot.give_back(walk);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("record", &self.slot.lease.id).finish_non_exhaustive()
    }
}

impl Steps {
    /// Takes a run's steps out of its request's extensions: for services without extractors. Dropped, they can be
    /// taken again, and go on where they were.
    ///
    /// # Errors
    ///
    /// The route has none, the request is not guarded, or they are in use elsewhere.
    pub fn take(extensions: &Extensions) -> Result<Self, NoSteps> {
        extensions.get::<Place>().ok_or(NoSteps::NotEnabled)?.0.take()
    }

    /// Does a step, or gives the result that an earlier attempt recorded; the closure is not called then. Its result
    /// has at most [`MAX_RESULT`](semel_core::steps::Progress::MAX_RESULT) bytes as JSON: record an id rather than a
    /// document.
    ///
    /// The name belongs to the record: a deploy that renames, removes or reorders steps makes the runs that are under way
    /// fail, and never skips one.
    ///
    /// # Errors
    ///
    /// The step failed, or cannot be begun or recorded. [`StepsError::end`] says what that means for the run.
    pub async fn run<T, F, Fut>(&mut self, name: &str, call: F) -> Result<T, StepsError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(StepKey) -> Fut,
        Fut: Future<Output = Result<T, StepError>>,
    {
        let mut fresh = None;
        let recorded = self
            .step(name, async |key| {
                let value = call(key).await?;
                let bytes = serde_json::to_vec(&value).map_err(|error| Broken::NotJson(error.into()))?;
                fresh = Some(value);
                Ok(bytes.into())
            })
            .await?;
        match fresh {
            Some(value) => Ok(value),
            None => serde_json::from_slice(&recorded).map_err(|_| self.other_type(name)),
        }
    }

    /// As [`run`](Self::run), for a result that is bytes already.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub async fn run_bytes<F, Fut>(&mut self, name: &str, call: F) -> Result<Bytes, StepsError>
    where
        F: FnOnce(StepKey) -> Fut,
        Fut: Future<Output = Result<Bytes, StepError>>,
    {
        self.step(name, async |key| Ok(call(key).await?)).await
    }

    /// Ends the network phase of this run: no step can be begun after it, by nobody. For handlers that write to their
    /// database afterwards: [`LaterTx`](crate::LaterTx) opens their transaction for what this gives.
    pub fn finish(mut self) -> StepsOver {
        let walk = self.walk.take();
        *self.slot.locked() = Held::Closed(walk);
        StepsOver { record: self.slot.lease.id }
    }

    /// Whose steps a request has; `None` if it has none.
    pub(crate) fn record_of(extensions: &Extensions) -> Option<RecordId> {
        extensions.get::<Place>().map(|place| place.0.lease.id)
    }

    /// Ends the network phase of a request before its transaction is opened; an error if somebody has the steps.
    pub(crate) fn close(extensions: &Extensions) -> Result<(), LendError> {
        extensions.get::<Place>().map_or(Ok(()), |place| place.0.finish())
    }

    async fn step(
        &mut self,
        name: &str,
        call: impl AsyncFnOnce(StepKey) -> Result<Bytes, Broken>,
    ) -> Result<Bytes, StepsError> {
        let fail = |cause| StepsError(Box::new(Failed { step: name.to_owned(), cause }));
        let entered = self.walk()?.enter(name).map_err(|misstep| fail(Cause::from(misstep)))?;
        match entered {
            Entered::Done(result) => return Ok(result),
            Entered::Failed(text) => return Err(fail(Cause::Final(readable(&text)))),
            // Before anything is called: a worker that was superseded meanwhile ends here.
            Entered::Start(note) => self.note(&note).await.map_err(fail)?,
        }
        let store = self.slot.idempotency.store();
        let key = StepKey::derive(store.secret(), self.record(), name);
        let (done, result) = match call(key).await {
            Ok(result) => (true, result),
            Err(Broken::Step(StepError(Fate::Final(text)))) => (false, Bytes::from(text)),
            Err(Broken::Step(StepError(Fate::Retry(source)))) => return Err(fail(Cause::Retry(source))),
            Err(Broken::NotJson(source)) => return Err(fail(Cause::NotJson(source))),
        };
        let note =
            self.walk()?.leave(done, result.clone()).map_err(|misused| fail(Cause::Misused(misused)))?;
        self.note(&note).await.map_err(fail)?;
        self.walk()?.left(done, result.clone());
        if done { Ok(result) } else { Err(fail(Cause::Final(readable(&result)))) }
    }

    fn record(&self) -> &RecordId {
        &self.slot.lease.id
    }

    fn walk(&mut self) -> Result<&mut Walk, StepsError> {
        // It is there until the drop.
        self.walk.as_mut().ok_or_else(|| {
            StepsError(Box::new(Failed { step: String::new(), cause: Cause::Differs(Trouble::Lent) }))
        })
    }

    fn other_type(&mut self, name: &str) -> StepsError {
        let trouble = Trouble::OtherType { step: name.to_owned() };
        if let Some(walk) = &mut self.walk {
            let _told = walk.differs(trouble.clone());
        }
        StepsError(Box::new(Failed { step: name.to_owned(), cause: Cause::Differs(trouble) }))
    }

    async fn note(&self, progress: &Bytes) -> Result<(), Cause> {
        let (idempotency, lease) = (&self.slot.idempotency, self.slot.lease);
        let noted = idempotency
            .asking("note", idempotency.settle_tries(), || idempotency.store().note(lease, progress))
            .await;
        match noted {
            Ok(Settled::Applied) => Ok(()),
            Ok(Settled::Superseded(_) | Settled::Absent) => Err(Cause::Superseded),
            Err(error) => Err(Cause::Store(error)),
        }
    }
}

/// The word that a run has no more steps to do, given by [`Steps::finish`]: what follows is the database's.
#[derive(Debug, PartialEq, Eq)]
pub struct StepsOver {
    record: RecordId,
}

impl StepsOver {
    /// Whose steps are over.
    pub(crate) fn record(&self) -> &RecordId {
        &self.record
    }
}

fn readable(text: &Bytes) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// How the closure of a step failed: for good, or not.
///
/// Any error that `?` takes is one to try again: whether the call took effect is unknown as a rule, and the next attempt
/// asks with the same key.
#[derive(Debug)]
pub struct StepError(Fate);

#[derive(Debug)]
enum Fate {
    Retry(BoxError),
    Final(String),
}

impl StepError {
    /// It could not be done, or nobody knows whether it was: the next attempt calls it again with the same key.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self(Fate::Retry(error.into()))
    }

    /// It failed for good: the card was declined. Recorded; every later attempt gets the same error, and does not call
    /// it again. The text has at most 1024 bytes, and is stored: no secrets.
    pub fn final_(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        Self(Fate::Final(text))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

enum Broken {
    Step(StepError),
    NotJson(BoxError),
}

impl From<StepError> for Broken {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// A step did not end with a result. A handler that has nothing better to say returns it: it has an answer of its own,
/// which settles the run as its [`end`](Self::end) says.
pub struct StepsError(Box<Failed>);

struct Failed {
    step: String,
    cause: Cause,
}

enum Cause {
    Final(String),
    Retry(BoxError),
    Superseded,
    Store(StoreError),
    Differs(Trouble),
    Misused(Misused),
    NotJson(BoxError),
}

impl From<Misstep> for Cause {
    fn from(misstep: Misstep) -> Self {
        match misstep {
            Misstep::Differs(trouble) => Self::Differs(trouble),
            Misstep::Misused(misused) => Self::Misused(misused),
        }
    }
}

impl StepsError {
    /// What it means for the run.
    pub fn end(&self) -> StepsEnd {
        match &self.0.cause {
            Cause::Final(_) => StepsEnd::Final,
            Cause::Retry(_) | Cause::Store(_) => StepsEnd::Retry,
            Cause::Superseded => StepsEnd::Superseded,
            Cause::Differs(_) => StepsEnd::Differs,
            Cause::Misused(_) | Cause::NotJson(_) => StepsEnd::Misused,
        }
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        &self.0.step
    }

    /// The text of a final error, as [`StepError::final_`] was given it.
    pub fn final_text(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Final(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the same request with the same key can help: the next attempt goes on after the last recorded step.
    pub fn can_retry(&self) -> bool {
        matches!(self.end(), StepsEnd::Retry | StepsEnd::Superseded)
    }

    /// The answer for a handler that has nothing better to say. It says nothing of what went wrong: that is in the log,
    /// and in [`source`](std::error::Error::source).
    pub fn into_answer(self) -> Response<Whole> {
        let (status, outcome) = self.end().answer();
        tracing::warn!(step = self.step(), end = ?self.end(), "a run ends at a step");
        let text = match outcome {
            Outcome::Applied => "A part of this operation failed for good. It is not tried again.",
            Outcome::NotApplied => {
                "This operation is not complete. Send it again with the same key to go on."
            }
            Outcome::Unknown => "This operation cannot go on by itself.",
        };
        let mut answer = Response::new(Whole::new(Bytes::from_static(text.as_bytes())));
        *answer.status_mut() = status;
        answer.extensions_mut().insert(Override::new().outcome(outcome));
        let headers = answer.headers_mut();
        headers
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
        if outcome == Outcome::NotApplied {
            headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        answer
    }
}

impl fmt::Display for StepsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = &self.0.step;
        match &self.0.cause {
            Cause::Final(_) => write!(f, "step `{step}` failed for good"),
            Cause::Retry(_) => write!(f, "step `{step}` could not be done now"),
            Cause::Superseded => {
                write!(f, "step `{step}` was not begun or recorded: another attempt has the record")
            }
            Cause::Store(_) => write!(f, "step `{step}` could not be recorded"),
            Cause::Differs(trouble) => trouble.fmt(f),
            Cause::Misused(misused) => misused.fmt(f),
            Cause::NotJson(_) => write!(f, "the result of step `{step}` cannot be written as JSON"),
        }
    }
}

impl fmt::Debug for StepsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepsError({self})")
    }
}

impl std::error::Error for StepsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Retry(source) | Cause::NotJson(source) => Some(&**source),
            Cause::Store(source) => Some(source),
            Cause::Final(_) | Cause::Superseded | Cause::Differs(_) | Cause::Misused(_) => None,
        }
    }
}

/// A handler asked for steps, and there are none for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSteps {
    /// The route does not have them, or the request is not guarded.
    #[error("this request has no steps: set `steps` on its route, and require a key there")]
    NotEnabled,
    /// They are in use: one run does one step at a time.
    #[error("the steps of this run are in use elsewhere: drop them there first")]
    Lent,
    /// The handler has finished them, or has opened the transaction of its writes, which ends them too.
    #[error(
        "the steps of this run are over: do all of them before `finish`, and before the transaction is opened (a handler \
         that has both asks for `Steps` and `LaterTx`, and not for `Tx`)"
    )]
    Finished,
    /// What is recorded cannot be read by this program.
    #[error(transparent)]
    Unreadable(#[from] Trouble),
}

impl NoSteps {
    /// The answer for a handler that has nothing better to say. It says what to set, and nothing of the request.
    pub fn into_answer(self) -> Response<Whole> {
        let end = match self {
            Self::Unreadable(_) => StepsEnd::Differs,
            Self::NotEnabled | Self::Lent | Self::Finished => StepsEnd::Misused,
        };
        let (status, outcome) = end.answer();
        let mut answer = Response::new(Whole::new(Bytes::from(self.to_string())));
        *answer.status_mut() = status;
        answer.extensions_mut().insert(Override::new().outcome(outcome));
        answer
    }
}

#[cfg(feature = "axum")]
mod axum {
    use axum_core::body::Body;
    use axum_core::extract::FromRequestParts;
    use axum_core::response::{IntoResponse, Response};
    use http::request::Parts;

    use super::{NoSteps, Steps, StepsError};

    impl<S: Sync> FromRequestParts<S> for Steps {
        type Rejection = NoSteps;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoSteps> {
            Self::take(&parts.extensions)
        }
    }

    impl IntoResponse for StepsError {
        fn into_response(self) -> Response {
            self.into_answer().map(Body::new)
        }
    }

    impl IntoResponse for NoSteps {
        fn into_response(self) -> Response {
            self.into_answer().map(Body::new)
        }
    }
}
