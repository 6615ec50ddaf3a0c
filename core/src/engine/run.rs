//! The run: what the handler's answer, or the lack of one, means for the record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, StatusCode};

use super::asker::{Asker, Rejection};
use super::settle::{Settling, Then};
use super::transact::{self, Again, Transacting};
use crate::key::Key;
use crate::policy::keep::{Class, Keep, Outcome};
use crate::policy::{Answers, HeaderRules, Policy};
use crate::problem::Code;
use crate::record::{
    Fence, Fingerprint, NotKept, PrincipalTag, Recovery, Reference, Retention, StoredBody, StoredResponse,
    codec,
};
use crate::steps::{Trouble, Walk, Walked};
use crate::store::{Acquired, Begin, Lease, LeaseRef, Writes};

/// A claimed request whose handler is running, or about to.
#[derive(Debug)]
#[must_use = "a claim that is not settled keeps its key in flight until the lease is over"]
pub struct Running {
    pub(super) asker: Asker,
    pub(super) lease: Lease,
    pub(super) fingerprint: Fingerprint,
    pub(super) principal: Option<PrincipalTag>,
    pub(super) recovery: Recovery,
    key: Key,
    attempt: u32,
    progress: Option<Bytes>,
    pub(super) transacting: Option<Transacting>,
    /// Apart, because a run goes through every state of the engine.
    walked: Option<Box<Walked>>,
}

/// Whether a request may have reached whoever was to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Dispatch {
    /// Proven: not one byte of it was seen. Its key is free at once.
    Never,
    /// It may have been.
    Maybe,
}

/// A run that ended without an answer. As a response extension it marks an answer that a host made up
/// because there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two facts, and a host states both")]
pub struct Failure {
    /// Whether the request may have been seen.
    pub dispatch: Dispatch,
    /// How it ended.
    pub kind: FailureKind,
}

/// How a run ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler in this process failed, panicked, or ran out of time: 500.
    Handler,
    /// The upstream could not be reached, hung up, or answered what is no answer: 502.
    Upstream,
    /// The upstream did not answer in time: 504.
    UpstreamTimeout,
}

impl FailureKind {
    /// The status for the run's own client when nobody knows the outcome.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Handler => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The problem for a request that was never dispatched.
    const fn never(self) -> Code {
        match self {
            Self::Handler => Code::Overloaded,
            Self::Upstream | Self::UpstreamTimeout => Code::UpstreamUnreachable,
        }
    }
}

/// A response extension: what the handler decides for this one answer.
///
/// ```
/// use semel_core::engine::Override;
/// use semel_core::policy::keep::Outcome;
/// let mut response = http::Response::new("declined, but the charge went through");
/// *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
/// response.extensions_mut().insert(Override::new().outcome(Outcome::Applied));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "insert it into the response's extensions"]
pub struct Override {
    outcome: Option<Outcome>,
    keep: Option<Keep>,
    retention: Option<Retention>,
    answers: Option<Answers>,
    reference: Option<Reference>,
    body_dropped: bool,
    forget: bool,
    conflict: bool,
}

impl Override {
    /// Decides nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the work was done: the last word over every rule.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Commits what was written through the run's transaction although the status is 400 or above. The same as
    /// [`outcome`](Self::outcome)`(`[`Outcome::Applied`]`)`.
    pub fn commit(self) -> Self {
        self.outcome(Outcome::Applied)
    }

    /// Says that the run's transaction met others, as a database says by a serialization failure or a deadlock:
    /// everything is rolled back, and the handler runs again where its route allows it
    /// ([`reruns`](crate::policy::PolicyBuilder::reruns)). Where it does not, the answer is judged as any other.
    pub fn conflict(mut self) -> Self {
        self.conflict = true;
        self
    }

    /// Judges this answer by another rule than the route's.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Keeps this record for another time than the route's.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Keeps this answer in another way than the route's.
    pub fn answers(mut self, answers: Answers) -> Self {
        self.answers = Some(answers);
        self
    }

    /// Keeps this answer by a reference, whatever the route's way: a retry gets what the application's `on_replay`
    /// makes of it. Together with [`answers`](Self::answers)`(`[`Answers::Stored`]`)` the answer is stored as well, and
    /// made again only once its body's life is over.
    pub fn reference(mut self, reference: Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Keeps the record without the body: a retry is told `replay-unavailable`.
    pub fn drop_body(mut self) -> Self {
        self.body_dropped = true;
        self
    }

    /// Opts out: nothing is kept, and the key is as free as if it had never been used.
    pub fn forget(mut self) -> Self {
        self.forget = true;
        self
    }
}

/// What the head of an answer means.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Next {
    /// Read its body, up to the limit, before anything is sent.
    Capture(Box<Capturing>),
    /// Settle now: its body does not matter for the record.
    Settle(Box<Settling>),
}

/// The head of an answer.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "what a host knows of an answer before its body")]
pub struct Head<'a> {
    /// Status, fields and extensions. Fields that only Semel reads are removed from it.
    pub parts: &'a mut Parts,
    /// The body has at least so many bytes.
    pub at_least: u64,
}

impl Running {
    pub(super) fn new(asker: Asker, key: Key, begin: &Begin, acquired: Acquired) -> Self {
        Self {
            asker,
            lease: acquired.lease,
            fingerprint: begin.fingerprint,
            principal: begin.principal,
            recovery: begin.recovery,
            key,
            attempt: acquired.attempt,
            progress: acquired.progress,
            transacting: None,
            walked: None,
        }
    }

    /// What a settling run keeps, should it have to run again.
    pub(super) fn split(mut self) -> (Self, Option<Box<Again>>) {
        let again = self.transacting.map(|transacting| {
            let walked = self.walked.take().and_then(|walked| walked.progress);
            let progress = match walked {
                // Run again in place: what its steps did stands.
                Some(progress) if !progress.steps.is_empty() => {
                    Some(codec::encode_progress(&progress).into())
                }
                _ => self.progress.take(),
            };
            Box::new(Again::new(self.key.clone(), self.attempt, progress, transacting))
        });
        (self, again)
    }

    /// The same run, once more.
    pub(super) fn again(settling: Settling, again: Again) -> Self {
        let Settling { asker, lease, fingerprint, principal, recovery, .. } = settling;
        let Again { key, attempt, progress, transacting, .. } = again;
        let transacting = Some(Transacting { reruns: transacting.reruns.saturating_sub(1) });
        let walked = None;
        Self { asker, lease, fingerprint, principal, recovery, key, attempt, progress, transacting, walked }
    }

    /// The rules it runs by.
    pub fn policy(&self) -> &Policy {
        &self.asker.policy
    }

    /// The names of its lease, for renewals.
    pub fn lease(&self) -> LeaseRef {
        self.lease.as_ref()
    }

    /// The caller's key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// 1 for the first run.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The fence.
    pub fn fence(&self) -> Fence {
        self.lease.fence()
    }

    /// What an earlier attempt's steps recorded.
    pub fn progress(&self) -> Option<&Bytes> {
        self.progress.as_ref()
    }

    /// Begins the steps of this attempt, where the route has them.
    pub fn walk(&self) -> Option<Result<Walk, Trouble>> {
        self.asker.policy.steps.then(|| Walk::open(self.progress.as_ref(), self.attempt))
    }

    /// What its steps came to. Said before [`respond`](Self::respond) or [`fail`](Self::fail).
    pub fn walked(&mut self, walked: Walked) {
        self.walked = Some(Box::new(walked));
    }

    /// Why its steps are not those of the record, if they are not. It cannot be completed then, unless the application
    /// vouches for it with [`Outcome::Applied`].
    pub fn trouble(&self) -> Option<Trouble> {
        match (&self.walked, &self.progress) {
            (Some(walked), _) => walked.trouble.clone(),
            // A deploy took the steps away altogether.
            (None, Some(_)) => match Walk::open(self.progress.as_ref(), self.attempt) {
                Ok(walk) => walk.end().trouble,
                Err(trouble) => Some(trouble),
            },
            (None, None) => None,
        }
    }

    /// The progress with its trouble written into it, for whoever looks at the record.
    pub fn trouble_note(&self) -> Option<Bytes> {
        let trouble = self.trouble()?;
        let mut progress = match &self.walked {
            Some(walked) => walked.progress.clone()?,
            None => codec::decode_progress(self.progress.as_ref()?).ok()?,
        };
        progress.trouble = Some(trouble.to_string());
        Some(codec::encode_progress(&progress).into())
    }

    /// Whether a step was begun, by this attempt or an earlier one.
    pub(super) fn has_steps(&self) -> bool {
        let walked = self.walked.as_ref();
        self.progress.is_some()
            || walked.is_some_and(|walked| walked.progress.as_ref().is_none_or(|p| !p.steps.is_empty()))
    }

    /// Its steps are not those of the record: whatever the handler answered, nobody knows what this run came to.
    fn in_trouble(self) -> Settling {
        let rejection = self.asker.outcome_unknown(self.asker.policy.broken_status, self.recovery);
        Settling::abandon(self, Then::Reject(rejection))
    }

    /// What happens if it ends without an answer.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Prepares the request for the handler: it sees the original key plus the attempt and the fence.
    pub fn prepare(&self, headers: &mut HeaderMap) {
        self.asker.policy.headers.prepare_run(headers, self.attempt, self.fence());
    }

    /// The answer for a client whose run took longer than `max_run`. The run itself goes on, and its late
    /// completion counts unless it was fenced.
    pub fn overran(&self) -> Rejection {
        self.asker.outcome_unknown(self.asker.policy.broken_status, self.recovery)
    }

    /// Judges the head of the handler's answer.
    pub fn respond(self, head: Head<'_>) -> Next {
        let Head { parts, at_least } = head;
        if let Some(failure) = parts.extensions.get::<Failure>() {
            let failure = *failure;
            return Next::Settle(Box::new(self.fail(failure)));
        }
        let decided = parts.extensions.remove::<Override>().unwrap_or_default();
        let said = decided
            .outcome
            .or_else(|| parts.extensions.remove())
            .or_else(|| Outcome::from_headers(&parts.headers));
        let keep = decided.keep.clone().unwrap_or_else(|| self.asker.policy.keep.clone());
        let upgraded = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let class = match () {
            () if decided.forget => Class::Forget,
            () if upgraded && said.is_none() => Class::Store,
            () => keep.classify(parts.status, &parts.headers, said),
        };
        let class = match self.transacting {
            Some(_) => keep.undone(class, parts.status, &parts.headers, said),
            None => class,
        };
        HeaderRules::strip_answer(&mut parts.headers);
        if decided.conflict && self.may_rerun() {
            let unknown = class == Class::Unknown;
            return Next::Settle(Box::new(Settling::conflict(self, Then::Live { unknown })));
        }
        let vouched = said == Some(Outcome::Applied);
        match class {
            Class::Unknown if self.trouble().is_some() => return Next::Settle(Box::new(self.in_trouble())),
            Class::Forget => return Next::Settle(Box::new(Settling::forget(self))),
            Class::Unknown => {
                return Next::Settle(Box::new(Settling::abandon(self, Then::Live { unknown: true })));
            }
            Class::Store | Class::Release => {}
        }
        let endless = upgraded
            || essence(&parts.headers).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"));
        let stored = StoredResponse {
            status: parts.status,
            headers: self.asker.policy.headers.to_store(&parts.headers),
            body: StoredBody::NotKept(NotKept::ByChoice),
            trailers: None,
            origin: self.asker.origin.clone(),
        };
        let drop_body =
            decided.body_dropped || (self.asker.policy.drop_no_store_bodies && no_store(&parts.headers));
        let answers = match (decided.answers, &decided.reference) {
            (Some(answers), _) => answers,
            (None, Some(_)) => Answers::Reference,
            (None, None) => self.asker.policy.answers,
        };
        let retention = decided.retention.unwrap_or(self.asker.policy.retention);
        let applied = said == Some(Outcome::Applied);
        let writes = transact::writes(Keep::failed(parts.status, &parts.headers, None), applied);
        let class = if Keep::awaits_trailers(parts.status, &parts.headers, said) {
            Judged::ByTrailers(class, keep)
        } else {
            Judged::ByHead(class)
        };
        let reference = decided.reference;
        let capturing = Capturing {
            running: self,
            class,
            vouched,
            stored,
            drop_body,
            answers,
            reference,
            retention,
            writes,
        };
        if endless {
            Next::Settle(Box::new(capturing.end(End::Endless)))
        } else if at_least > capturing.limit() as u64 {
            Next::Settle(Box::new(capturing.end(End::Overflow)))
        } else {
            Next::Capture(Box::new(capturing))
        }
    }

    /// The run ended without an answer.
    pub fn fail(self, failure: Failure) -> Settling {
        match failure.dispatch {
            Dispatch::Never => {
                let rejection =
                    self.asker.reject_code(failure.kind.never()).retry_after(Duration::from_secs(1));
                Settling::release(self, Then::Reject(rejection))
            }
            Dispatch::Maybe if self.transacting.is_some() => Settling::broken(self, failure.kind.status()),
            Dispatch::Maybe => {
                let rejection = self.asker.outcome_unknown(failure.kind.status(), self.recovery);
                Settling::abandon(self, Then::Reject(rejection))
            }
        }
    }
}

/// An answer whose body is being read before anything of it is sent.
#[derive(Debug)]
#[must_use]
pub struct Capturing {
    running: Running,
    class: Judged,
    /// The application said that it was done.
    vouched: bool,
    stored: StoredResponse,
    drop_body: bool,
    answers: Answers,
    reference: Option<Reference>,
    retention: Retention,
    /// Where it runs in a transaction, and its answer is kept.
    writes: Writes,
}

/// What decides the class of an answer. A rule of one's own is asked once, with every field of the answer:
/// what is stored of it has lost some.
#[derive(Debug)]
enum Judged {
    ByHead(Class),
    /// gRPC says how a call ended in its trailers; the class is the head's, for when they are not seen.
    ByTrailers(Class, Keep),
}

/// How the reading of an answer's body ended.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver states which")]
pub enum End {
    /// All of it is here.
    Whole {
        /// The body, byte for byte.
        body: Bytes,
        /// Its trailer section.
        trailers: Option<HeaderMap>,
    },
    /// It is larger than [`Capturing::limit`].
    Overflow,
    /// It was still flowing after [`Capturing::within`].
    Slow,
    /// It has no end: an event stream, an upgraded connection.
    Endless,
    /// It broke off.
    Cut,
}

impl Capturing {
    /// The most bytes to hold.
    pub fn limit(&self) -> usize {
        self.running.asker.policy.capture_limit
    }

    /// How long to read.
    pub fn within(&self) -> Duration {
        self.running.asker.policy.capture_for
    }

    /// The names of its lease.
    pub fn lease(&self) -> LeaseRef {
        self.running.lease()
    }

    /// Judges how the reading ended.
    pub fn end(self, end: End) -> Settling {
        let Self {
            running,
            class,
            vouched,
            mut stored,
            drop_body,
            answers,
            reference,
            retention,
            mut writes,
        } = self;
        let (body, trailers) = match end {
            End::Cut if running.transacting.is_some() => return Settling::cut(running),
            End::Cut => {
                let status = running.asker.policy.broken_status;
                let rejection = running.asker.outcome_unknown(status, running.recovery);
                return Settling::abandon(running, Then::Reject(rejection));
            }
            End::Whole { body, trailers } => (StoredBody::Kept(body), trailers),
            End::Overflow => (StoredBody::NotKept(NotKept::TooLarge), None),
            End::Slow => (StoredBody::NotKept(NotKept::Slow), None),
            End::Endless => (StoredBody::NotKept(NotKept::Endless), None),
        };
        let large = matches!(body, StoredBody::NotKept(NotKept::TooLarge));
        // Nothing of it would be kept, and nothing in it judges the answer.
        let spared = large && matches!(class, Judged::ByHead(_)) && (drop_body || answers != Answers::Stored);
        let class = match (class, &body) {
            (Judged::ByTrailers(_, keep), StoredBody::Kept(_)) => {
                if Keep::failed(stored.status, &stored.headers, trailers.as_ref()) {
                    writes = Writes::RollBack;
                }
                let class = keep.classify_whole(stored.status, &stored.headers, trailers.as_ref(), None);
                match running.transacting {
                    // Trailers are judged by gRPC's table alone.
                    Some(_) if class == Class::Unknown => Class::Release,
                    _ => class,
                }
            }
            (Judged::ByHead(class) | Judged::ByTrailers(class, _), _) => class,
        };
        match class {
            Class::Store if !vouched && running.trouble().is_some() => running.in_trouble(),
            Class::Store
                if running.transacting.is_some() && matches!(body, StoredBody::NotKept(_)) && !spared =>
            {
                Settling::unbounded(running)
            }
            Class::Store => {
                stored.body = match body {
                    StoredBody::Kept(_) if drop_body => StoredBody::NotKept(NotKept::ByChoice),
                    body => body,
                };
                stored.trailers = running.asker.policy.headers.trailers_to_store(trailers.as_ref());
                let completion = Arc::new(answers.keep(stored, reference));
                match running.transacting {
                    Some(_) => Settling::commit(running, completion, retention, writes),
                    None => Settling::complete(running, completion, retention),
                }
            }
            Class::Release => Settling::release(running, Then::Live { unknown: false }),
            Class::Forget => Settling::forget(running),
            Class::Unknown => Settling::abandon(running, Then::Live { unknown: true }),
        }
    }
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    Some(headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim())
}

fn no_store(headers: &HeaderMap) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|line| line.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-store")))
}
