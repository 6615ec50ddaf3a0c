//! From a request's head to its claim.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use http_body::Body as HttpBody;
use semel_core::engine::{self, Admission, Buffering, Claiming, Decision, Rejection, Replay, Unclaimed};
use semel_core::observe::Event;
use semel_core::record::{ClaimId, RecordId, Retention};
use semel_core::store::{Begin, Begun, ReleaseAs, ReleaseBy, Settled, StoreError, StoreErrorKind};

use crate::body::Whole;
use crate::budget::{Peer, Place, Refused};
use crate::idempotency::Idempotency;
use crate::read::{self, Unread};
use crate::runtime::within;
use crate::ticket::Ticket;
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
    /// Run it, with this body, in a task of its own.
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
            Admission::Reject(rejection) => Admitted::Answer(self.reject(rejection, None)),
            Admission::Buffer(buffering) => self.place(buffering, parts),
        }
    }

    fn place(&self, buffering: Buffering, parts: &Parts) -> Admitted {
        let limit = buffering.policy().body_limit;
        let bytes = buffering.declared().and_then(|n| usize::try_from(n).ok()).unwrap_or(limit);
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        match self.budget().take(bytes, peer) {
            Ok(place) => Admitted::Guarded(Box::new(Guarded { idempotency: self.clone(), buffering, place })),
            Err(Refused::Full) => Admitted::Answer(self.reject(buffering.overloaded(), None)),
            Err(Refused::Peer) => Admitted::Answer(self.reject(buffering.over_quota(), None)),
        }
    }

    /// Renders a refusal, and says so to observers and in the log under the same `instance`.
    pub(crate) fn reject(&self, rejection: Rejection, id: Option<&RecordId>) -> Response<Whole> {
        let instance = self.instance();
        let (code, status) = (rejection.code(), rejection.status());
        tracing::debug!(
            code = code.as_str(),
            status = status.as_u16(),
            %instance,
            record = id.map(tracing::field::display),
            "refused"
        );
        self.observe(&Event::Rejected { code, status, id, instance: Some(instance) });
        rejection.render(instance).map(Whole::new)
    }

    pub(crate) fn replay(&self, replay: Replay, id: &RecordId) -> Response<Whole> {
        self.observe(&Event::Replayed { id, status: replay.status, age: replay.age });
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
}

impl Guarded {
    /// Reads the body and claims. Dropping the future gives up whatever was claimed.
    pub async fn claim<B: HttpBody>(self, parts: &Parts, body: B) -> Claimed {
        let Self { idempotency, mut buffering, mut place } = self;
        let limit = buffering.policy().body_within;
        let read = within(idempotency.runtime(), limit, read::whole(&mut buffering, body)).await;
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return answer(idempotency.reject(buffering.too_large(), None)),
            Ok(Err(Unread::Cut)) => return answer(idempotency.reject(buffering.incomplete(), None)),
            Err(_) => return answer(idempotency.reject(buffering.too_slow(), None)),
        };
        place.shrink(body.bytes.len());
        let claim = idempotency.mint();
        let wall = idempotency.runtime().wall();
        match buffering.finish(idempotency.store().secret(), parts, &body.bytes, claim, wall) {
            Ok(claiming) => run_claim(idempotency, claiming, place, parts, body).await,
            Err(rejection) => answer(idempotency.reject(rejection, None)),
        }
    }
}

fn answer(response: Response<Whole>) -> Claimed {
    Claimed::Answer(response)
}

async fn run_claim(
    idempotency: Idempotency,
    mut claiming: Claiming,
    place: Place,
    parts: &Parts,
    body: Whole,
) -> Claimed {
    let id = claiming.ask().id;
    let mut waited = Waited::default();
    loop {
        let begun = match idempotency.begin(claiming.ask()).await {
            Ok(begun) => begun,
            Err(error) => {
                return match claiming.failed(&error) {
                    Unclaimed::Reject(rejection) => answer(idempotency.reject(rejection, Some(&id))),
                    Unclaimed::RunUnguarded => {
                        tracing::warn!(record = %id, error = %error, "the store failed: running unguarded, as the route says");
                        idempotency.observe(&Event::FailedOpen);
                        Claimed::Unguarded(body)
                    }
                };
            }
        };
        let decision =
            claiming.answer(begun, idempotency.store().secret(), parts, &body.bytes, idempotency.typical());
        claiming = match decision {
            Decision::Run(running) => {
                return Claimed::Run(Box::new(Ticket::new(idempotency, running, place)), body);
            }
            Decision::Replay(replay) => return answer(idempotency.replay(*replay, &id)),
            Decision::Reject(rejection) => return answer(idempotency.reject(rejection, Some(&id))),
            Decision::AskAgain(claiming) => *claiming,
            Decision::Wait(waiting) => match waited.wait(&idempotency, *waiting).await {
                Ok(claiming) => claiming,
                Err(rejection) => return answer(idempotency.reject(rejection, Some(&id))),
            },
        };
    }
}

impl Idempotency {
    /// Sends a claim, again if its answer is lost: it recognises itself.
    async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let mut unanswered = Unanswered { idempotency: self, ask, armed: true };
        let outcome = self.asking("begin", self.claim_tries(), || self.store().begin(ask)).await;
        // What was never applied needs no release; all else may have been.
        unanswered.armed = outcome.as_ref().is_err_and(|error| !never_applied(error.kind()));
        outcome
    }

    /// Releases a claim whose answer never came, in the background, until the store says what it knows. The
    /// claim's packet may still be on its way, so "no such claim" is asked again for a lease's length.
    fn release_unanswered(&self, id: RecordId, claim: ClaimId, lease: Duration, keep: Retention) {
        let this = self.clone();
        let runtime = Arc::clone(self.runtime_arc());
        let task = async move {
            let until = this.runtime().now() + lease;
            let mut pause = Duration::from_millis(50);
            loop {
                let by = ReleaseBy::Claim(id, claim);
                let settled = within(
                    this.runtime(),
                    this.call_within(),
                    this.store().release(by, ReleaseAs::Retry, &keep),
                )
                .await;
                if let Ok(Ok(Settled::Applied)) = settled {
                    this.observe(&Event::Released { id: &id, fence: None, how: ReleaseAs::Retry });
                    return;
                }
                if this.runtime().now() >= until {
                    return;
                }
                this.runtime().sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        };
        runtime.spawn(Box::pin(task));
    }
}

/// A claim that was sent and not answered. Dropped with its request, it is released in the background: its
/// client hung up before it knew.
struct Unanswered<'a> {
    idempotency: &'a Idempotency,
    ask: &'a Begin,
    armed: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let Begin { id, claim, lease_for, retention, .. } = self.ask;
        self.idempotency.release_unanswered(*id, *claim, *lease_for, *retention);
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
    )
}
