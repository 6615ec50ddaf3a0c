//! What a handler can ask for, and what it can say.

use std::fmt;
use std::ops::{Deref, DerefMut};

use http::Response;
use rocket::Request;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::response::{self, Responder};
use semel_core::engine::Override;
use semel_core::store::{LendError, Lender};
use semel_driver::{Body, Idempotent, NextTx, NoSteps, StepsError, StepsOver, Whole};

use crate::head;
use crate::lent::Lent;

/// Which run this is: the key, the attempt and the fence.
///
/// ```
/// # #[macro_use] extern crate rocket;
/// use semel_rocket::Run;
///
/// #[post("/orders")]
/// fn create(run: &Run) -> String {
///     format!("attempt {} with fence {}", run.attempt, run.fence)
/// }
///
/// #[post("/notes")]
/// fn note(run: Option<&Run>) -> &'static str {
///     if run.is_some() { "guarded" } else { "sent without a key" }
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for what is in the request's cache")]
pub struct Run(pub Idempotent);

impl Deref for Run {
    type Target = Idempotent;

    fn deref(&self) -> &Idempotent {
        &self.0
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r Run {
    type Error = NotGuarded;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, NotGuarded> {
        let run = request.local_cache(|| Lent::of(request).extensions.get().cloned().map(Run));
        match run {
            Some(run) => Outcome::Success(run),
            None => Outcome::Error((Status::InternalServerError, NotGuarded)),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Run {
    type Error = NotGuarded;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, NotGuarded> {
        <&Self>::from_request(request).await.map(Self::clone)
    }
}

/// The request is not guarded: it has no key where the key is optional, or its route is mounted beside the fairing.
/// Answered with 500, since it is the server that is set up wrong; ask for `Option<&Run>` where a key is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotGuarded;

impl fmt::Display for NotGuarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this request is not guarded: require a key on its route, or ask for Option<&Run>")
    }
}

impl std::error::Error for NotGuarded {}

/// An answer, and the application's last word on what it means for its record.
///
/// ```
/// # #[macro_use] extern crate rocket;
/// use rocket::http::Status;
/// use semel_core::engine::Override;
/// use semel_core::policy::keep::Outcome;
/// use semel_rocket::Judged;
///
/// /// The order is made, and its receipt is not: the answer is kept, although it is a 500.
/// #[post("/orders")]
/// fn order() -> Judged<(Status, &'static str)> {
///     let answer = (Status::InternalServerError, "no receipt");
///     Judged(Override::new().outcome(Outcome::Applied), answer)
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a word and an answer")]
pub struct Judged<R>(pub Override, pub R);

impl<'r, 'o: 'r, R: Responder<'r, 'o>> Responder<'r, 'o> for Judged<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'o> {
        let Self(word, answer) = self;
        Lent::of(request).told.say(word);
        answer.respond_to(request)
    }
}

/// The transaction in which this request's record is completed: what is written through it is committed together with
/// the recorded answer, or not at all. `D` comes from the store's crate.
///
/// It is committed by nobody but Semel, when the handler has answered: below 400 the writes are committed with the
/// answer, from 400 on they are rolled back, unless the handler says
/// [`Override::commit`](semel_core::engine::Override::commit). It has to be given back, by dropping it, when the handler
/// returns.
pub struct Tx<D: Lender>(D::Guard);

#[rocket::async_trait]
impl<'r, D: Lender> FromRequest<'r> for Tx<D> {
    type Error = NoTransaction;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, NoTransaction> {
        let lent = match NextTx::<D>::of(&Lent::of(request).extensions) {
            Ok(next) => next.open().await,
            Err(error) => Err(error),
        };
        lent.map_or_else(|error| NoTransaction(error).refuse(), |guard| Outcome::Success(Self(guard)))
    }
}

/// A transaction that is opened when the steps of its run are over: the two phases of a handler that calls others and
/// then writes. Asking for it opens nothing.
#[derive(Debug)]
pub struct LaterTx<D: Lender>(semel_driver::LaterTx<D>);

impl<D: Lender> LaterTx<D> {
    /// Opens it, now that the steps are over: [`Steps::finish`] says so.
    ///
    /// # Errors
    ///
    /// The steps were another request's, somebody has taken it, or the database gives none.
    pub async fn begin(self, over: StepsOver) -> Result<Tx<D>, NoTransaction> {
        Ok(Tx(self.0.begin(over).await?))
    }
}

#[rocket::async_trait]
impl<'r, D: Lender> FromRequest<'r> for LaterTx<D> {
    type Error = NoTransaction;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, NoTransaction> {
        let later = semel_driver::LaterTx::of(&Lent::of(request).extensions);
        later.map_or_else(|error| NoTransaction(error).refuse(), |later| Outcome::Success(Self(later)))
    }
}

impl<D: Lender> Deref for Tx<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.0
    }
}

impl<D: Lender> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.0
    }
}

impl<D: Lender> fmt::Debug for Tx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}

/// The handler could not be given its transaction. Answered with 503 where a retry may find one, and else with 500,
/// since it is the server that is set up wrong.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for a reason")]
pub struct NoTransaction(pub LendError);

impl NoTransaction {
    fn status(&self) -> Status {
        tracing::error!(error = %self.0, "a handler was given no transaction");
        if self.0.can_retry() { Status::ServiceUnavailable } else { Status::InternalServerError }
    }

    fn refuse<T>(self) -> Outcome<T, Self> {
        Outcome::Error((self.status(), self))
    }
}

impl From<LendError> for NoTransaction {
    fn from(error: LendError) -> Self {
        Self(error)
    }
}

impl<'r> Responder<'r, 'static> for NoTransaction {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Err(self.status())
    }
}

impl fmt::Display for NoTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoTransaction {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// The steps of this run: those that an earlier attempt recorded are not called again.
///
/// A step's error becomes an answer by `?` in a handler that gives `Result<_, StepsFailed>`.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for steps")]
pub struct Steps(pub semel_driver::Steps);

impl Deref for Steps {
    type Target = semel_driver::Steps;

    fn deref(&self) -> &semel_driver::Steps {
        &self.0
    }
}

impl Steps {
    /// Ends the network phase of this run: no step can be begun after it, by nobody.
    pub fn finish(self) -> StepsOver {
        self.0.finish()
    }
}

impl DerefMut for Steps {
    fn deref_mut(&mut self) -> &mut semel_driver::Steps {
        &mut self.0
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Steps {
    type Error = StepsRefused;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, StepsRefused> {
        match semel_driver::Steps::take(&Lent::of(request).extensions) {
            Ok(steps) => Outcome::Success(Self(steps)),
            Err(refused) => {
                let status = refused.clone().into_answer().status().as_u16();
                Outcome::Error((Status::new(status), StepsRefused(refused)))
            }
        }
    }
}

/// The handler asked for steps, and there are none for it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for a reason")]
pub struct StepsRefused(pub NoSteps);

impl fmt::Display for StepsRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StepsRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A step failed, or could not be begun or recorded, as an answer.
#[derive(Debug)]
pub struct StepsFailed {
    text: String,
    answer: Response<Whole>,
}

impl From<StepsError> for StepsFailed {
    fn from(error: StepsError) -> Self {
        Self { text: error.to_string(), answer: error.into_answer() }
    }
}

impl fmt::Display for StepsFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StepsFailed {}

impl<'r> Responder<'r, 'static> for StepsFailed {
    fn respond_to(mut self, request: &'r Request<'_>) -> response::Result<'static> {
        if let Some(word) = self.answer.extensions_mut().remove::<Override>() {
            Lent::of(request).told.say(word);
        }
        Ok(head::answer(self.answer.map(Body::whole)))
    }
}
