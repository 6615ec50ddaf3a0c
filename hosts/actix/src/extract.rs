//! What a handler can ask for.

use std::fmt;
use std::future::{Ready, ready};
use std::ops::{Deref, DerefMut};

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use futures_util::future::LocalBoxFuture;
use http::{Extensions, Response};
use semel_core::store::{LendError, Lender};
use semel_driver::{Idempotent, NextTx, NoSteps, StepsError, StepsOver, Whole};

use crate::head;

/// What Semel has put into the request, which actix-web's own extensions cannot hold one by one.
pub(crate) struct Lent(pub(crate) Extensions);

fn lent<T>(request: &HttpRequest, take: impl FnOnce(&Extensions) -> T) -> T {
    match request.extensions().get::<Lent>() {
        Some(Lent(extensions)) => take(extensions),
        None => take(&Extensions::new()),
    }
}

/// Which run this is: the key, the attempt and the fence.
///
/// ```
/// use semel_actix::Run;
///
/// async fn create(run: Run) -> String {
///     format!("attempt {} with fence {}", run.attempt, run.fence)
/// }
///
/// async fn note(run: Option<Run>) -> &'static str {
///     if run.is_some() { "guarded" } else { "sent without a key" }
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for an extension")]
pub struct Run(pub Idempotent);

impl Deref for Run {
    type Target = Idempotent;

    fn deref(&self) -> &Idempotent {
        &self.0
    }
}

impl FromRequest for Run {
    type Error = NotGuarded;
    type Future = Ready<Result<Self, NotGuarded>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let run = lent(request, |extensions| extensions.get::<Idempotent>().cloned());
        ready(run.map(Self).ok_or(NotGuarded))
    }
}

/// The request is not guarded: it has no key where the key is optional, or no middleware is on the route. Answered with
/// 500, since it is the server that is set up wrong; ask for `Option<Run>` where a key is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotGuarded;

impl fmt::Display for NotGuarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this request is not guarded: require a key on its route, or ask for Option<Run>")
    }
}

impl std::error::Error for NotGuarded {}

impl ResponseError for NotGuarded {}

/// The transaction in which this request's record is completed: what is written through it is committed together with
/// the recorded answer, or not at all. `D` comes from the store's crate.
///
/// It is committed by nobody but Semel, when the handler has answered: below 400 the writes are committed with the
/// answer, from 400 on they are rolled back, unless the handler says
/// [`Override::commit`](semel_core::engine::Override::commit). It has to be given back, by dropping it, when the handler
/// returns.
pub struct Tx<D: Lender>(D::Guard);

impl<D: Lender> FromRequest for Tx<D> {
    type Error = NoTransaction;
    type Future = LocalBoxFuture<'static, Result<Self, NoTransaction>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let next = lent(request, NextTx::<D>::of);
        Box::pin(async move { next?.open().await.map(Self).map_err(NoTransaction) })
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

impl<D: Lender> FromRequest for LaterTx<D> {
    type Error = NoTransaction;
    type Future = Ready<Result<Self, NoTransaction>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(lent(request, semel_driver::LaterTx::of).map(Self).map_err(NoTransaction))
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
/// since it is the server that is set up wrong. Neither is kept: the key is free.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for a reason")]
pub struct NoTransaction(pub LendError);

impl From<LendError> for NoTransaction {
    fn from(error: LendError) -> Self {
        Self(error)
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

impl ResponseError for NoTransaction {
    fn error_response(&self) -> HttpResponse {
        tracing::error!(error = %self.0, "a handler was given no transaction");
        if self.0.can_retry() {
            let mut answer = HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE)
                .set_body(BoxBody::new("no transaction could be begun"));
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return answer;
        }
        HttpResponse::new(StatusCode::INTERNAL_SERVER_ERROR).set_body(BoxBody::new(self.to_string()))
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

impl FromRequest for Steps {
    type Error = StepsRefused;
    type Future = Ready<Result<Self, StepsRefused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(lent(request, semel_driver::Steps::take).map(Self).map_err(StepsRefused))
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

impl ResponseError for StepsRefused {
    fn error_response(&self) -> HttpResponse {
        head::whole(self.0.clone().into_answer()).map_into_boxed_body()
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

impl ResponseError for StepsFailed {
    fn error_response(&self) -> HttpResponse {
        head::whole(self.answer.clone()).map_into_boxed_body()
    }
}
