//! The transaction of a run, for any tower service and as an extractor of axum.

use std::fmt;
use std::ops::{Deref, DerefMut};

use http::Extensions;
use semel_core::store::{LendError, Lender};
use semel_driver::{NextTx, StepsOver};

/// The transaction in which this request's record is completed: whatever is written through it is committed together
/// with the recorded answer, or not at all.
///
/// `D` comes from the store's crate, and what it derefs to is what statements are sent on; with
/// `semel_store_postgres::Postgres` that is sqlx's `PgConnection`:
///
/// ```text
/// async fn pay(mut tx: Tx<Postgres>, Json(payment): Json<Payment>) -> Result<Response, Error> {
///     sqlx::query("INSERT INTO ledger …").execute(&mut *tx).await?;
///     Ok((StatusCode::CREATED, Json(payment)).into_response())
/// }
/// ```
///
/// It is committed by nobody but Semel, when the handler has answered: below 400 the writes are committed with the
/// answer; from 400 on they are rolled back and the answer is kept alone (or not at all, as the route's
/// [`Keep`](semel_core::policy::Keep) says), unless the handler says
/// [`Override::commit`](semel_core::engine::Override::commit). An error, a panic and a lost lease roll back.
///
/// Dropping it gives it back, and it can be taken again. It has to be given back when the handler returns: what a spawned
/// task still holds is never committed, and the client is told 500.
///
/// On a route with [`Steps`](crate::Steps) it is opened when they are over, and opening it ends them: no network within a database phase,
/// no database within a network phase. A handler that has both asks for [`LaterTx`].
pub struct Tx<D: Lender>(D::Guard);

impl<D: Lender> Tx<D> {
    /// Opens the transaction of a request, or takes it again after it was given back: the extensions are the request's.
    ///
    /// # Errors
    ///
    /// The request has none, somebody has taken it, the request's steps are in use, or the database gives none.
    pub async fn take(extensions: &Extensions) -> Result<Self, LendError> {
        NextTx::<D>::of(extensions)?.open().await.map(Self)
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

/// A transaction that is opened when the steps of its run are over: the two phases of a handler that calls others and
/// then writes. Asking for it opens nothing.
///
/// ```text
/// async fn order(mut steps: Steps, later: LaterTx<Postgres>) -> Result<Response, Error> {
///     let charge = steps.run("charge", async |key| …).await?;
///     let mut tx = later.begin(steps.finish()).await?;
///     sqlx::query("INSERT INTO ledger …").bind(charge).execute(&mut *tx).await?;
///     …
/// }
/// ```
pub struct LaterTx<D: Lender>(semel_driver::LaterTx<D>);

impl<D: Lender> LaterTx<D> {
    /// The transaction of a request with steps, not opened: for services without extractors.
    ///
    /// # Errors
    ///
    /// The request has no transaction, or no steps for it to come after.
    pub fn of(extensions: &Extensions) -> Result<Self, LendError> {
        semel_driver::LaterTx::of(extensions).map(Self)
    }

    /// Opens it, now that the steps are over.
    ///
    /// # Errors
    ///
    /// The steps were another request's, somebody has taken it, or the database gives none.
    pub async fn begin(self, over: StepsOver) -> Result<Tx<D>, LendError> {
        self.0.begin(over).await.map(Tx)
    }
}

impl<D: Lender> fmt::Debug for LaterTx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "axum")]
mod extract {
    use axum_core::extract::FromRequestParts;
    use axum_core::response::{IntoResponse, Response};
    use http::header::RETRY_AFTER;
    use http::request::Parts;
    use http::{HeaderValue, StatusCode};

    use super::{LaterTx, LendError, Lender, Tx};

    impl<D: Lender, S: Sync> FromRequestParts<S> for Tx<D> {
        type Rejection = NoTransaction;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoTransaction> {
            Self::take(&parts.extensions).await.map_err(NoTransaction)
        }
    }

    impl<D: Lender, S: Sync> FromRequestParts<S> for LaterTx<D> {
        type Rejection = NoTransaction;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoTransaction> {
            Self::of(&parts.extensions).map_err(NoTransaction)
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

    impl IntoResponse for NoTransaction {
        fn into_response(self) -> Response {
            tracing::error!(error = %self.0, "a handler was given no transaction");
            if self.0.can_retry() {
                let after = [(RETRY_AFTER, HeaderValue::from_static("1"))];
                return (StatusCode::SERVICE_UNAVAILABLE, after, "no transaction could be begun")
                    .into_response();
            }
            (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
        }
    }

    impl std::fmt::Display for NoTransaction {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }

    impl std::error::Error for NoTransaction {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.0.source()
        }
    }
}

#[cfg(feature = "axum")]
pub use extract::NoTransaction;
