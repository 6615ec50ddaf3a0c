//! From a request's head to its claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Response;
use http::request::Parts;
use http_body::Body as HttpBody;
use semel_core::engine::{self, Admission, Buffering, Claiming, Decision, Rejection, Replay, Unclaimed};
use semel_core::observe::Event;
use semel_core::problem::Code;
use semel_core::record::{ClaimId, RecordId, Retention};
use semel_core::store::{Begin, Begun, ReleaseAs, ReleaseBy, Settled, StoreError, StoreErrorKind};
use tracing::Instrument as _;

use crate::body::Whole;
use crate::budget::{Peer, Place, Refused};
use crate::idempotency::Idempotency;
use crate::read::{self, Unread};
use crate::runtime::within;
use crate::ticket::Ticket;
use crate::trace::Trace;
use crate::wait::Waited;

/// What becomes of a request by its head.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a host has to do each of them")]
#[expect(clippy::large_enum_variant, reason = "the large one is rare, and lives for one match")]
pub enum Admitted {
    /// Not guarded: pass it through untouched.
    Bypass,
    /// Answered: the inner service never sees it, and its body is not waited for.
    Answer(Response<Whole>),
    /// Guarded: [`Guarded::claim`] it.
    Guarded(Box<Guarded>),
}

/// What became of a claim.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a host has to do each of them")]
pub enum Claimed {
    /// Run it, with this body, to its end: in a task of its own, or [attended](crate::Client::attended).
    Run(Box<Ticket>, Whole),
    /// The store failed and the route chose to run unguarded.
    Unguarded(Whole),
    /// Answered: a replay or a refusal.
    Answer(Response<Whole>),
}

impl Idempotency {
    /// Judges a request by its head. Removes the fields that only Semel may set.
    pub fn admit(&self, parts: &mut Parts) -> Admitted {
        match engine::admit(self.policy(), parts) {
            Admission::Bypass => {
                self.observe(&Event::Bypassed);
                Admitted::Bypass
            }
            Admission::Reject(rejection) => {
                let trace = Trace::of(parts, &self.policy().namespace);
                self.say_what_is_lacking(&rejection, parts);
                Admitted::Answer(trace.within(|| self.reject(&trace, rejection, None)))
            }
            Admission::Buffer(buffering) => {
                let trace = Trace::of(parts, &buffering.policy().namespace);
                let span = trace.clone_span();
                span.in_scope(|| self.place(buffering, parts, trace))
            }
        }
    }

    /// Once a route: to its clients it looks like a missing login, and would for each of them.
    fn say_what_is_lacking(&self, rejection: &Rejection, parts: &Parts) {
        if rejection.code() == Code::PrincipalMissing
            && let Some(extension) = rejection.policy().scope.lacks_extension(parts)
            && self.lacks_for_the_first_time()
        {
            tracing::warn!(
                extension,
                "a request has no such extension, which its scope reads, so it is refused as principal-missing: the layer that \
                 sets it has to be outside of Semel's (in axum and actix-web it is added later). Said once a route"
            );
        }
    }

    fn place(&self, buffering: Buffering, parts: &Parts, trace: Trace) -> Admitted {
        let limit = buffering.policy().body_limit;
        let bytes = buffering.declared().and_then(|n| usize::try_from(n).ok()).unwrap_or(limit);
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        match self.budget().take(bytes, peer) {
            Ok(place) => {
                Admitted::Guarded(Box::new(Guarded { idempotency: self.clone(), buffering, place, trace }))
            }
            Err(Refused::Full) => Admitted::Answer(self.reject(&trace, buffering.overloaded(), None)),
            Err(Refused::Peer) => Admitted::Answer(self.reject(&trace, buffering.over_quota(), None)),
        }
    }

    /// Renders a refusal, and says so to observers and in the log under the same `instance`.
    pub(crate) fn reject(
        &self,
        trace: &Trace,
        rejection: Rejection,
        id: Option<&RecordId>,
    ) -> Response<Whole> {
        let instance = self.instance();
        let (code, status) = (rejection.code(), rejection.status());
        tracing::debug!(
            code = code.as_str(),
            status = status.as_u16(),
            %instance,
            record = id.map(tracing::field::display),
            "refused"
        );
        self.observe_in(trace, &Event::Rejected { code, status, id, instance: Some(instance) });
        rejection.render(instance).map(Whole::new)
    }

    pub(crate) fn replay(&self, trace: &Trace, replay: Replay, id: &RecordId) -> Response<Whole> {
        self.observe_in(trace, &Event::Replayed { id, status: replay.status, age: replay.age });
        let mut response = Response::new(Whole::new(replay.body).with_trailers(replay.trailers));
        *response.status_mut() = replay.status;
        *response.headers_mut() = replay.headers;
        response
    }
}

/// A guarded request, before its body.
#[derive(Debug)]
#[must_use]
pub struct Guarded {
    idempotency: Idempotency,
    buffering: Buffering,
    place: Place,
    trace: Trace,
}

impl Guarded {
    /// Names the route for traces, with its parameters as names (`/orders/{id}`): for a host whose framework knows it. It is
    /// asked for only where somebody listens.
    pub fn routed<S: AsRef<str>>(&self, route: impl FnOnce() -> Option<S>) {
        self.trace.routed(route);
    }

    pub(crate) fn span(&self) -> tracing::Span {
        self.trace.clone_span()
    }

    /// Reads the body and claims. Dropping the future gives up whatever was claimed.
    pub async fn claim<B: HttpBody>(self: Box<Self>, parts: &Parts, body: B) -> Claimed {
        let span = self.trace.clone_span();
        let claim = async {
            let idempotency = self.idempotency.clone();
            match self.read(parts, body).await {
                Ok(read) => run_claim(&idempotency, read, parts).await,
                Err(refused) => answer(refused),
            }
        };
        claim.instrument(span).await
    }

    /// Reads the body, up to the claim.
    pub(crate) async fn read<B: HttpBody>(
        self: Box<Self>,
        parts: &Parts,
        body: B,
    ) -> Result<Read, Response<Whole>> {
        let Self { idempotency, mut buffering, mut place, trace } = *self;
        let limit = buffering.policy().body_within;
        let read = within(idempotency.runtime(), limit, read::whole(&mut buffering, body)).await;
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return Err(idempotency.reject(&trace, buffering.too_large(), None)),
            Ok(Err(Unread::Cut)) => return Err(idempotency.reject(&trace, buffering.incomplete(), None)),
            Err(_) => return Err(idempotency.reject(&trace, buffering.too_slow(), None)),
        };
        place.shrink(body.bytes.len());
        let claim = idempotency.mint();
        let wall = idempotency.runtime().wall();
        match buffering.finish(idempotency.store().secret(), parts, &body.bytes, claim, wall) {
            Ok(claiming) => Ok(Read { claiming: Box::new(claiming), place, body, trace }),
            Err(rejection) => Err(idempotency.reject(&trace, rejection, None)),
        }
    }
}

/// A request that is all here, about to be claimed.
pub(crate) struct Read {
    pub(crate) claiming: Box<Claiming>,
    pub(crate) place: Place,
    pub(crate) body: Whole,
    pub(crate) trace: Trace,
}

fn answer(response: Response<Whole>) -> Claimed {
    Claimed::Answer(response)
}

async fn run_claim(idempotency: &Idempotency, read: Read, parts: &Parts) -> Claimed {
    let Read { claiming, place, body, trace } = read;
    let mut claiming = *claiming;
    let id = claiming.ask().id;
    let mut unheard = Unheard::new(idempotency, claiming.ask(), place);
    let mut waited = Waited::default();
    loop {
        let asked_at = idempotency.runtime().now();
        let begun = match unheard.begin(claiming.ask()).await {
            Ok(begun) => begun,
            Err(error) => {
                return match claiming.failed(&error) {
                    Unclaimed::Reject(rejection) => answer(idempotency.reject(&trace, rejection, Some(&id))),
                    Unclaimed::RunUnguarded => {
                        tracing::warn!(record = %id, error = %error, "the store failed: running unguarded, as the route says");
                        idempotency.observe_in(&trace, &Event::FailedOpen);
                        Claimed::Unguarded(body)
                    }
                };
            }
        };
        let decision =
            claiming.answer(begun, idempotency.store().secret(), parts, &body.bytes, idempotency.typical());
        claiming = match decision {
            Decision::Run(running) => {
                let place = unheard.heard();
                let mut ticket = Ticket::new(idempotency.clone(), running, place, asked_at, trace);
                if idempotency.remake().is_some() {
                    ticket.remember(parts);
                }
                return Claimed::Run(Box::new(ticket), body);
            }
            Decision::Replay(replay) => return answer(idempotency.replay(&trace, *replay, &id)),
            Decision::Rederive(rederiving) => {
                let parts = Some(parts.clone());
                return answer(idempotency.rederive(&trace, *rederiving, parts, &id).await);
            }
            Decision::Reject(rejection) => return answer(idempotency.reject(&trace, rejection, Some(&id))),
            Decision::AskAgain(claiming) => *claiming,
            Decision::Wait(waiting) => match waited.wait(idempotency, *waiting).await {
                Ok(claiming) => claiming,
                Err(rejection) => return answer(idempotency.reject(&trace, rejection, Some(&id))),
            },
        };
    }
}

/// A claim, until it is known whose it is. Dropped before, it is released in the background: its client hung up,
/// the store did not answer, or one of its packets was lost and may still arrive.
struct Unheard<'a> {
    idempotency: &'a Idempotency,
    id: RecordId,
    claim: ClaimId,
    lease: Duration,
    keep: Retention,
    place: Option<Place>,
    /// A packet is under way that nobody has answered.
    lost: bool,
}

impl<'a> Unheard<'a> {
    fn new(idempotency: &'a Idempotency, ask: &Begin, place: Place) -> Self {
        let Begin { id, claim, lease_for, retention, .. } = ask;
        let (id, claim, lease, keep) = (*id, *claim, *lease_for, *retention);
        Self { idempotency, id, claim, lease, keep, place: Some(place), lost: false }
    }

    /// Sends the claim, again if its answer is lost: it recognises itself.
    async fn begin(&mut self, ask: &Begin) -> Result<Begun, StoreError> {
        let idempotency = self.idempotency;
        let before = std::mem::replace(&mut self.lost, true);
        let sent = AtomicU32::new(0);
        let outcome = idempotency
            .asking("begin", idempotency.claim_tries(), || {
                sent.fetch_add(1, Ordering::Relaxed);
                idempotency.store().begin(ask)
            })
            .await;
        let lost_now = match &outcome {
            Ok(_) => false,
            Err(error) => !never_applied(error.kind()),
        };
        self.lost = before || lost_now || sent.into_inner() > 1;
        outcome
    }

    /// It is ours: whoever settles it goes on. A packet of it that arrives late finds its own claim.
    fn heard(mut self) -> Option<Place> {
        self.lost = false;
        self.place.take()
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if !self.lost {
            return;
        }
        let this = self.idempotency.clone();
        let Some(counted) = this.unanswered() else {
            tracing::warn!(record = %self.id, "too many claims without an answer: this one goes by its recovery rule");
            return;
        };
        let (id, claim, lease, keep) = (self.id, self.claim, self.lease, self.keep);
        let place = self.place.take();
        let runtime = Arc::clone(this.runtime_arc());
        runtime.spawn(Box::pin(async move {
            let _counted = counted;
            release_unheard(this, ReleaseBy::Claim(id, claim), id, lease, keep, place).await;
        }));
    }
}

/// Releases a claim whose answer never came until the store says that it is released. The claim's packet may
/// still be on its way, so "no such claim" is asked again for a lease's length.
async fn release_unheard(
    this: Idempotency,
    by: ReleaseBy,
    id: RecordId,
    lease: Duration,
    keep: Retention,
    mut place: Option<Place>,
) {
    let until = this.runtime().now().saturating_add(lease);
    let mut pause = Duration::from_millis(50);
    loop {
        let release = this.store().release(by, ReleaseAs::Retry, &keep);
        let settled = within(this.runtime(), this.call_within(), release).await;
        if let Ok(Ok(settled)) = settled {
            if settled == Settled::Applied {
                this.observe(&Event::Released { id: &id, fence: None, how: ReleaseAs::Retry });
                return;
            }
            // Whoever drains waits until the store has been told, not for packets that may never come.
            drop(place.take());
        }
        if this.runtime().now() >= until {
            return;
        }
        this.runtime().sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

const fn never_applied(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::Full
            | StoreErrorKind::TooLarge
            | StoreErrorKind::Undecodable
            | StoreErrorKind::NewerSchema
            | StoreErrorKind::Config
            | StoreErrorKind::NotOpen
    )
}
