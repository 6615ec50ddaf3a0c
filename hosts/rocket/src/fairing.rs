//! The fairing, which brings the guarded routes and the application that runs them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use http::Extensions;
use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::route::Route;
use rocket::shield::Shield;
use rocket::{Build, Orbit, Request, Rocket};
use semel_driver::Idempotency;

use crate::app::Slot;
use crate::route::{Carry, Guard, Watched};

/// How long a shutdown waits.
const DRAIN: Duration = Duration::from_secs(30);

/// A fairing that mounts guarded routes.
///
/// Their handlers run in a Rocket of their own, inside of the one that listens: it gives them bodies that are all here,
/// which nothing else in Rocket can. Its state, fairings and catchers are those given to [`around`](Self::around).
pub struct IdempotencyFairing {
    idempotency: Idempotency,
    /// `None` once it is launched.
    inside: Mutex<Option<Rocket<Build>>>,
    mounts: Vec<Mount>,
    carry: Option<Carry>,
    drain: Duration,
    app: Slot,
}

struct Mount {
    base: String,
    routes: Vec<Route>,
    idempotency: Idempotency,
}

impl IdempotencyFairing {
    /// Guards by this handle's rules, where a mount brings no others.
    pub fn new(idempotency: Idempotency) -> Self {
        let (inside, app) = (Mutex::default(), Slot::default());
        Self { idempotency, inside, mounts: Vec::new(), carry: None, drain: DRAIN, app }
    }

    /// What guarded handlers find around them: the state, the fairings, the catchers and the configuration of this
    /// Rocket. What it answers is recorded with all that its fairings add, so they do not see a replay; those of the
    /// Rocket that this fairing is attached to do.
    ///
    /// Without it they have the configuration of that outer Rocket, and nothing else. Routes mounted on it directly are
    /// reached by nobody, and headers of `Shield` come from the outer Rocket.
    ///
    /// ```
    /// # #[macro_use] extern crate rocket;
    /// use rocket::State;
    /// use semel_rocket::{Idempotency, IdempotencyFairing};
    ///
    /// struct Prices(u64);
    ///
    /// #[post("/")]
    /// fn order(prices: &State<Prices>) -> String {
    ///     format!("that makes {}", prices.0)
    /// }
    ///
    /// # fn demo(idempotency: Idempotency) -> rocket::Rocket<rocket::Build> {
    /// let guarded = IdempotencyFairing::new(idempotency)
    ///     .around(rocket::build().manage(Prices(12)))
    ///     .mount("/orders", routes![order]);
    /// rocket::build().attach(guarded)
    /// # }
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn around(self, inside: Rocket<Build>) -> Self {
        Self { inside: Mutex::new(Some(inside)), ..self }
    }

    /// Mounts these routes, guarded by the fairing's rules.
    ///
    /// # Panics
    ///
    /// When Rocket is ignited, as [`Rocket::mount`] does: the base is no path.
    #[must_use]
    pub fn mount(self, base: impl Into<String>, routes: impl Into<Vec<Route>>) -> Self {
        let idempotency = self.idempotency.clone();
        self.mount_by(&idempotency, base, routes)
    }

    /// Mounts these routes, guarded by the rules of another handle.
    ///
    /// ```
    /// # #[macro_use] extern crate rocket;
    /// # use semel_rocket::{BuildError, Idempotency, IdempotencyFairing};
    /// # #[post("/")] fn order() {}
    /// # #[post("/")] fn note() {}
    /// # fn demo(idempotency: Idempotency) -> Result<IdempotencyFairing, BuildError> {
    /// let orders = idempotency.route(|policy| policy.require_key())?;
    /// let guarded = IdempotencyFairing::new(idempotency)
    ///     .mount("/notes", routes![note])
    ///     .mount_by(&orders, "/orders", routes![order]);
    /// # Ok(guarded) }
    /// # fn main() {}
    /// ```
    ///
    /// # Panics
    ///
    /// As [`mount`](Self::mount).
    #[must_use]
    pub fn mount_by(
        mut self,
        idempotency: &Idempotency,
        base: impl Into<String>,
        routes: impl Into<Vec<Route>>,
    ) -> Self {
        let (base, routes, idempotency) = (base.into(), routes.into(), idempotency.clone());
        self.mounts.push(Mount { base, routes, idempotency });
        self
    }

    /// Copies values that scopes and budgets read, from the request of the outer Rocket into the extensions of the one
    /// that Semel judges: what a request fairing has left in its cache, a [`Peer`](crate::Peer), a
    /// [`Policy`](semel_core::policy::Policy), a [`Bypass`](semel_core::engine::Bypass).
    ///
    /// ```
    /// use semel_rocket::{IdempotencyFairing, Peer};
    /// # use semel_rocket::{BuildError, Idempotency};
    /// # use semel_core::scope::Scope;
    ///
    /// #[derive(Clone)]
    /// struct Account(u64);
    ///
    /// # fn demo(idempotency: Idempotency) -> Result<IdempotencyFairing, BuildError> {
    /// let scope = Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.to_string()));
    /// let idempotency = idempotency.route(|policy| policy.scope(scope))?;
    /// let guarded = IdempotencyFairing::new(idempotency).carry(|request, extensions| {
    ///     if let Some(account) = request.local_cache(|| None::<Account>) {
    ///         extensions.insert(account.clone());
    ///     }
    ///     if let Some(address) = request.client_ip() {
    ///         extensions.insert(Peer(address));
    ///     }
    /// });
    /// # Ok(guarded) }
    /// ```
    #[must_use]
    pub fn carry(mut self, copy: impl Fn(&Request<'_>, &mut Extensions) + Send + Sync + 'static) -> Self {
        self.carry = Some(Arc::new(copy));
        self
    }

    /// How long a shutdown waits for requests of guarded routes to end, runs whose clients have gone among them, before
    /// Rocket goes on with it. Default 30 s. A run that is not settled by then goes by its recovery rule.
    #[must_use]
    pub fn drain_within(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    fn guard(&self, number: usize, mount: &Mount) -> Guard {
        let (idempotency, carry) = (mount.idempotency.clone(), self.carry.clone());
        Guard { mount: number, idempotency, carry, app: self.app.clone() }
    }
}

#[rocket::async_trait]
impl Fairing for IdempotencyFairing {
    fn info(&self) -> Info {
        Info { name: "Semel", kind: Kind::Ignite | Kind::Liftoff | Kind::Shutdown }
    }

    async fn on_ignite(&self, outer: Rocket<Build>) -> fairing::Result {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut inside = inside.unwrap_or_else(|| rocket::custom(outer.figment()));
        for route in inside.routes() {
            tracing::warn!(%route, "mounted beside the fairing that guards: nobody reaches it");
        }
        // Else both would set its headers, and the outer one would log that it finds them there.
        inside = inside.attach(Shield::new());
        for (number, Mount { base, routes, .. }) in self.mounts.iter().enumerate() {
            let watched: Vec<_> = routes.iter().cloned().map(|route| Watched::over(route, number)).collect();
            inside = inside.mount(base.as_str(), watched);
        }
        if let Err(error) = self.app.launch(inside).await {
            tracing::error!(%error, "the Rocket around the guarded routes does not launch");
            error.pretty_print();
            return Err(outer);
        }
        Ok(self.mounts.iter().enumerate().fold(outer, |outer, (number, mount)| {
            let guard = self.guard(number, mount);
            let before: Vec<_> = mount.routes.iter().map(|route| guard.clone().before(route)).collect();
            outer.mount(mount.base.as_str(), before)
        }))
    }

    /// A handler may ask either Rocket to end, and either end is the end of both.
    async fn on_liftoff(&self, outer: &Rocket<Orbit>) {
        let Some(inside) = self.app.app().map(|app| app.shutdown()) else { return };
        let outer = outer.shutdown();
        tokio::spawn(async move {
            select(inside.clone(), outer.clone()).await;
            inside.notify();
            outer.notify();
        });
    }

    async fn on_shutdown(&self, _: &Rocket<Orbit>) {
        if let Some(closed) = self.app.close() {
            closed.end(self.drain).await;
        }
    }
}

impl fmt::Debug for IdempotencyFairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyFairing")
            .field("idempotency", &self.idempotency)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}
