//! A service whose runs take place inside the store's own transaction.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use semel_core::store::Transact;
use semel_driver::{OneCommit, Whole};
use tower_service::Service;

use crate::target;

/// A service for one endpoint: claim, writes and answer of each request are one commit of an embedded database.
///
/// It takes the place of handler and layer in one. In axum: `Router::route_service("/transfers", service)`.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use semel_core::store::Transact;
/// # fn demo<S: Transact>(store: Arc<S>, write: fn(&S::Effects<'_>) -> std::io::Result<()>) -> Result<(), semel_tower::BuildError> {
/// use semel_tower::{OneCommit, OneCommitService};
///
/// let one = Arc::new(OneCommit::build(store, |rules| rules.namespace("shop"))?);
/// let service = OneCommitService::new(&one, move |tx: &S::Effects<'_>, _: &Request<Bytes>| {
///     write(tx)?;
///     Ok::<_, std::io::Error>(Response::new(Bytes::from_static(b"done")))
/// });
/// # drop(service);
/// # Ok(()) }
/// ```
///
/// The rules of [`OneCommit`] hold: a request needs a key, methods without a guard are answered with 405, and `run` is
/// short and does nothing but read and write through what it is given.
pub struct OneCommitService<S, H, E> {
    one: Arc<OneCommit<S>>,
    run: Arc<H>,
    error: PhantomData<fn() -> E>,
}

impl<S, H, E> OneCommitService<S, H, E>
where
    S: Transact,
    H: for<'t> Fn(&S::Effects<'t>, &Request<Bytes>) -> Result<Response<Bytes>, E> + Send + Sync + 'static,
{
    /// Runs requests by `run`: see [`OneCommit::call`].
    pub fn new(one: &Arc<OneCommit<S>>, run: H) -> Self {
        Self { one: Arc::clone(one), run: Arc::new(run), error: PhantomData }
    }
}

impl<S, H, E, B> Service<Request<B>> for OneCommitService<S, H, E>
where
    S: Transact,
    H: for<'t> Fn(&S::Effects<'t>, &Request<Bytes>) -> Result<Response<Bytes>, E> + Send + Sync + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
    B: HttpBody + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Whole>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Whole>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (one, run) = (Arc::clone(&self.one), Arc::clone(&self.run));
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // Inside a nested router the target that counts is the client's own.
            let _local = target::widen(&mut parts);
            Ok(one.call(parts, body, &run).await)
        })
    }
}

impl<S, H, E> Clone for OneCommitService<S, H, E> {
    fn clone(&self) -> Self {
        Self { one: Arc::clone(&self.one), run: Arc::clone(&self.run), error: PhantomData }
    }
}

impl<S, H, E> fmt::Debug for OneCommitService<S, H, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneCommitService").field("one", &self.one).finish_non_exhaustive()
    }
}
