//! The two sides of a guarded route: the one that clients reach, and the one inside that runs.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::request::Parts;
use http::{Extensions, Method};
use rocket::http::Status;
use rocket::route::{Handler, Outcome, Route};
use rocket::{Data, Request};
use semel_core::policy::Policy;
use semel_driver::{Admitted, Body, Idempotency};

use crate::app::Slot;
use crate::body::PEEKED;
use crate::head::Target;
use crate::lent::Lent;
use crate::{body, head, run};

/// Copies what scopes and policies read from a request of Rocket.
pub(crate) type Carry = Arc<dyn Fn(&Request<'_>, &mut Extensions) + Send + Sync>;

/// Claims, and has the application inside run what it claimed.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) mount: usize,
    pub(crate) idempotency: Idempotency,
    pub(crate) carry: Option<Carry>,
    pub(crate) app: Slot,
}

impl Guard {
    /// The route that clients reach in the place of this one. What its guards ask of Rocket is asked inside.
    pub(crate) fn before(self, route: &Route) -> Route {
        let mut before = Route::ranked(route.rank, route.method, route.uri.as_str(), self);
        before.name.clone_from(&route.name);
        before.format.clone_from(&route.format);
        before
    }
}

#[rocket::async_trait]
impl Handler for Guard {
    async fn handle<'r>(&self, request: &'r Request<'_>, mut data: Data<'r>) -> Outcome<'r> {
        let Some(app) = self.app.app() else {
            return Outcome::Error(Status::ServiceUnavailable);
        };
        // Never run unguarded what cannot be judged.
        let Ok(mut parts) = head::of_request(request) else {
            return Outcome::Error(Status::BadRequest);
        };
        if let Some(copy) = &self.carry {
            copy(request, &mut parts.extensions);
        }
        let complete = data.peek_complete();
        if head::may_be_a_post(request, data.peek(PEEKED).await) && !self.names(&parts) {
            parts.method = Method::POST;
        }
        // The application inside gets Rocket's method: it rewrites nothing but POSTs either.
        let (target, sent) = (Target::of(request), body::sent(data, complete));
        match self.idempotency.admit(&mut parts) {
            Admitted::Bypass => {
                let limit = self.idempotency.policy().body_limit;
                run::pass(app, self.mount, request, &target, &parts.headers, sent, limit).await
            }
            Admitted::Answer(answer) => Outcome::Success(head::answer(answer.map(Body::whole))),
            Admitted::Guarded(guarded) => {
                guarded.routed(|| request.route().map(by_names));
                run::claim_and_run(app, self.mount, request, target, guarded, parts, sent).await
            }
        }
    }
}

impl Guard {
    /// Whether the rules name the method that Rocket came to.
    fn names(&self, parts: &Parts) -> bool {
        let rules = parts.extensions.get::<Policy>().unwrap_or(self.idempotency.policy());
        rules.methods.contains(&parts.method)
    }
}

/// A route's path as collectors of traces write it: `/orders/{id}`.
fn by_names(route: &Route) -> String {
    route.uri.path().replace('<', "{").replace('>', "}")
}

/// Runs only what the rules of its own mount have judged, and sees a handler panic before Rocket makes a 500 of it.
#[derive(Clone)]
pub(crate) struct Watched {
    mount: usize,
    handler: Box<dyn Handler>,
}

impl Watched {
    /// The same route, watched.
    pub(crate) fn over(mut route: Route, mount: usize) -> Route {
        route.handler = Box::new(Self { mount, handler: route.handler });
        route
    }
}

#[rocket::async_trait]
impl Handler for Watched {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let lent = Lent::of(request);
        if lent.mount != Some(self.mount) {
            let route = request.route();
            tracing::error!(
                ?route,
                "a guarded request came to a route of another mount, whose rules have not judged it, and is not run: mount \
                 both together, or give them different paths"
            );
            return Outcome::Error(Status::InternalServerError);
        }
        // In a block, so that a panic of the call itself is caught like one of its future.
        let call = AssertUnwindSafe(async { self.handler.handle(request, data).await });
        call.catch_unwind().await.unwrap_or_else(|panic| {
            lent.told.panicked();
            // Rocket says in its log which handler it was.
            std::panic::resume_unwind(panic)
        })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("idempotency", &self.idempotency).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rocket::http::Method;
    use rocket::route::dummy_handler;

    use super::*;

    #[test]
    fn a_route_is_named_with_its_base_and_the_names_of_its_parameters() {
        let route = Route::new(Method::Post, "/<id>/lines?<q>", dummy_handler);
        let route = route.map_base(|_| "/orders".to_owned()).unwrap();
        assert_eq!(by_names(&route), "/orders/{id}/lines");
    }
}
