//! The middleware, as actix-web builds it for each worker.

use std::fmt;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::ErrorBadRequest;
use actix_web::{Error, HttpMessage as _};
use futures_util::future::LocalBoxFuture;
use http::Extensions;
use semel_core::engine::Bypass;
use semel_core::policy::Policy;
use semel_driver::{Admitted, Idempotency};

use crate::body::Answer;
use crate::{head, run};

/// Copies what scopes and policies read from a request of actix-web.
type Carry = Arc<dyn Fn(&ServiceRequest, &mut Extensions) + Send + Sync>;

/// A middleware that guards what it wraps: an application, a scope, a resource.
///
/// Make it from a handle that all workers share. A handle made inside of `HttpServer::new`'s closure is one a worker, and
/// with a memory store a retry that meets another worker runs again.
#[derive(Clone)]
pub struct IdempotencyMiddleware {
    idempotency: Idempotency,
    carry: Option<Carry>,
}

impl IdempotencyMiddleware {
    /// Guards by this handle's rules.
    pub fn new(idempotency: Idempotency) -> Self {
        Self { idempotency, carry: None }
    }

    /// Copies values that scopes and budgets read, from the request of actix-web into the extensions of the one that
    /// Semel judges: an account that a middleware outside has put there, a `Peer`. A [`Policy`] and a [`Bypass`] among
    /// actix-web's extensions are copied without it.
    ///
    /// ```
    /// use actix_web::HttpMessage as _;
    /// use semel_actix::IdempotencyMiddleware;
    /// # use semel_actix::{BuildError, Idempotency};
    /// # use semel_core::scope::Scope;
    ///
    /// #[derive(Clone)]
    /// struct Account(u64);
    ///
    /// # fn demo(idempotency: Idempotency) -> Result<IdempotencyMiddleware, BuildError> {
    /// let scope = Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.to_string()));
    /// let idempotency = idempotency.route(|policy| policy.scope(scope))?;
    /// let guard = IdempotencyMiddleware::new(idempotency).carry(|request, extensions| {
    ///     if let Some(account) = request.extensions().get::<Account>() {
    ///         extensions.insert(account.clone());
    ///     }
    /// });
    /// # Ok(guard) }
    /// ```
    ///
    /// For one type that is [`carry_extension`](Self::carry_extension); this replaces what either was told before.
    #[must_use]
    pub fn carry(mut self, copy: impl Fn(&ServiceRequest, &mut Extensions) + Send + Sync + 'static) -> Self {
        self.carry = Some(Arc::new(copy));
        self
    }

    /// Copies one type, beside what was said to be copied before: for [`Scope::extension`](
    /// semel_core::scope::Scope::extension), whatever actix-web's own authentication has found out.
    ///
    /// ```
    /// use actix_web::middleware::from_fn;
    /// use actix_web::{App, HttpMessage as _};
    /// use semel_actix::IdempotencyMiddleware;
    /// # use actix_web::{Error, body::MessageBody, dev::{ServiceRequest, ServiceResponse}, middleware::Next};
    /// # use semel_actix::{BuildError, Idempotency};
    /// # use semel_core::scope::Scope;
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// async fn authenticate(
    ///     request: ServiceRequest,
    ///     next: Next<impl MessageBody>,
    /// ) -> Result<ServiceResponse<impl MessageBody>, Error> {
    ///     request.extensions_mut().insert(User("alice".to_owned()));
    ///     next.call(request).await
    /// }
    ///
    /// # fn demo(idempotency: Idempotency) -> Result<(), BuildError> {
    /// let scope = Scope::extension(|user: &User| user.0.clone());
    /// let guard = IdempotencyMiddleware::new(idempotency.route(|rules| rules.scope(scope))?).carry_extension::<User>();
    /// // The last one is outermost: the user is there when Semel asks.
    /// let app = App::new().wrap(guard).wrap(from_fn(authenticate));
    /// # drop(app);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn carry_extension<T: Clone + Send + Sync + 'static>(mut self) -> Self {
        let before = self.carry.take();
        self.carry(move |request, extensions| {
            if let Some(before) = &before {
                before(request, extensions);
            }
            if let Some(found) = request.extensions().get::<T>() {
                extensions.insert(found.clone());
            }
        })
    }
}

impl<S, B> Transform<S, ServiceRequest> for IdempotencyMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, Answer<B>>>;
    type Error = Error;
    type Transform = IdempotencyService<S>;
    type InitError = ();
    type Future = Ready<Result<IdempotencyService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(IdempotencyService { service: Rc::new(service), guard: self.clone() }))
    }
}

/// A guarded service. Made by [`IdempotencyMiddleware`].
pub struct IdempotencyService<S> {
    service: Rc<S>,
    guard: IdempotencyMiddleware,
}

impl<S, B> Service<ServiceRequest> for IdempotencyService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, Answer<B>>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let mut parts = match head::of_request(&request) {
            Ok(parts) => parts,
            // Never run unguarded what cannot be judged.
            Err(unreadable) => return Box::pin(ready(Err(ErrorBadRequest(unreadable)))),
        };
        if let Some(policy) = request.extensions().get::<Policy>() {
            parts.extensions.insert(policy.clone());
        }
        if request.extensions().get::<Bypass>().is_some() {
            parts.extensions.insert(Bypass);
        }
        if let Some(copy) = &self.guard.carry {
            copy(&request, &mut parts.extensions);
        }
        let fields = parts.headers.len();
        match self.guard.idempotency.admit(&mut parts) {
            Admitted::Bypass => {
                // Untouched, but for what only Semel may say.
                if parts.headers.len() != fields {
                    head::set_fields(&mut request, &parts.headers);
                }
                let answer = self.service.call(request);
                Box::pin(async move { Ok(answer.await?.map_into_left_body()) })
            }
            Admitted::Answer(answer) => Box::pin(ready(Ok(head::answer(request, answer)))),
            Admitted::Guarded(guarded) => {
                guarded.routed(|| request.match_pattern());
                let (service, idempotency) = (Rc::clone(&self.service), self.guard.idempotency.clone());
                Box::pin(run::claim_and_run(service, idempotency, guarded, request, parts))
            }
        }
    }
}

impl fmt::Debug for IdempotencyMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyMiddleware")
            .field("idempotency", &self.idempotency)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for IdempotencyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService").field("guard", &self.guard).finish_non_exhaustive()
    }
}
