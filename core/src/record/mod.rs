//! What a store keeps for one key, in the shapes in which it is asked for.
//!
//! [`RecordView`] is a record without its answer, for operators and for workers that lost their lease;
//! [`Record`] adds the [`Completion`]. [`codec`] turns a completion into the one blob that stores keep.

pub mod codec;
mod id;
mod reference;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

pub use id::{ClaimId, Fence, Fingerprint, PrincipalTag, RecordId};
pub use reference::{Reference, ReferenceTooLarge};

/// A settled record: its view and the answer it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Everything but the answer. Its state is [`State::Completed`].
    pub view: RecordView,
    /// The answer.
    pub completion: Arc<Completion>,
}

/// What a run came to: the answer to keep, and what is kept beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The stored answer. `None` where an operator or a reconciler only said that the work was done.
    pub response: Option<StoredResponse>,
    /// A small value from which the application can make the answer again where no body is kept.
    pub reference: Option<Bytes>,
}

/// An HTTP answer as it is kept: only the fields that a replay may send.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResponse {
    /// The status of the first answer.
    pub status: StatusCode,
    /// The fields a replay sends, repeated ones in their order.
    pub headers: HeaderMap,
    /// The bytes, or why there are none.
    pub body: StoredBody,
    /// The trailer section, if there was one.
    pub trailers: Option<HeaderMap>,
    /// The `Origin` of the first request: `Access-Control-*` is replayed only to the same one.
    pub origin: Option<HeaderValue>,
}

/// The body of a kept answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a replay has to say what it does with each")]
pub enum StoredBody {
    /// The whole body, byte for byte. Empty where the answer had none.
    Kept(Bytes),
    /// The answer was given, but its body is not kept: a retry is told `replay-unavailable`.
    NotKept(NotKept),
}

/// Why a body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// Larger than the route's cap.
    TooLarge,
    /// Endless or upgraded: an event stream, a WebSocket.
    Endless,
    /// Still flowing when the capture time was over.
    Slow,
    /// The route keeps no bodies.
    ByChoice,
    /// The body's life is over; the record stays.
    Expired,
    /// The store refused the body, for want of room.
    NoRoom,
}

/// The state of a record, as every reader sees it.
///
/// A lease that is over under [`Recovery::Hold`] *is* [`State::Unknown`] here, whether or not the store has
/// written that down yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the contract has four states; a fifth changes every reader")]
pub enum State {
    /// Claimed; its run may be under way.
    InFlight,
    /// Settled with an answer.
    Completed,
    /// Settled: proven not done, or the answer said "try again". The next equal request may run.
    Released,
    /// The run ended, and nobody knows whether it took effect. Never repeated until somebody resolves it.
    Unknown,
}

impl State {
    /// The state's name on the wire, in tables and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Completed => "completed",
            Self::Released => "released",
            Self::Unknown => "unknown",
        }
    }

    /// All states, in the order of the contract.
    pub const ALL: [Self; 4] = [Self::InFlight, Self::Completed, Self::Released, Self::Unknown];
}

impl std::str::FromStr for State {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownName)
    }
}

/// What happens when a run ends without an answer that says whether it took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a store must know every rule it judges by")]
pub enum Recovery {
    /// The record becomes [`State::Unknown`]; nothing runs again until somebody resolves it.
    #[default]
    Hold,
    /// The next equal request runs again once the lease is over, and may overlap a paused original.
    Takeover,
}

impl Recovery {
    /// The rule's name in settings and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Takeover => "takeover",
        }
    }
}

impl std::str::FromStr for Recovery {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hold" => Ok(Self::Hold),
            "takeover" => Ok(Self::Takeover),
            _ => Err(UnknownName),
        }
    }
}

/// A text that names no state or rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such name")]
pub struct UnknownName;

/// An instant by the store's clock: milliseconds since 1970-01-01T00:00:00Z.
///
/// Only instants of the same store are ever compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The instant `by` later, to the millisecond; stops at the largest one.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The settings that made a fingerprint, in short text. They travel with the record, so that a deploy that
/// changes them can make the old print again before it judges.
pub type Settings = Arc<str>;

/// A record without its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordView {
    /// Its name.
    pub id: RecordId,
    /// Its state at `now`: never [`State::InFlight`] with a lease that is over under [`Recovery::Hold`].
    pub state: State,
    /// The print of the request that made it. `None` on a released record that binds nothing (307, 308).
    pub fingerprint: Option<Fingerprint>,
    /// The settings that made the print.
    pub settings: Settings,
    /// Who claimed it; `None` for a public endpoint.
    pub principal: Option<PrincipalTag>,
    /// What happens when its lease is over.
    pub recovery: Recovery,
    /// 1 for the first run, one more for each takeover or rerun.
    pub attempt: u32,
    /// The number of its last claim or resolution.
    pub fence: Fence,
    /// The last claimant's own number.
    pub claim: ClaimId,
    /// When the running claim's lease ends or ended; `None` unless in flight or unknown.
    pub lease_until: Option<Timestamp>,
    /// When it was first claimed.
    pub created: Timestamp,
    /// When it last changed state, or was claimed again.
    pub changed: Timestamp,
    /// When the store forgets it; `None` for a record in flight or unknown, which never ends by time.
    pub expires: Option<Timestamp>,
    /// Status of the kept answer, where there is one.
    pub status: Option<StatusCode>,
    /// Bytes of the kept body.
    pub body_bytes: u64,
    /// What the steps of an unfinished run have recorded, in the step layer's own format.
    pub progress: Option<Bytes>,
    /// The store's clock when this view was made.
    pub now: Timestamp,
}

impl RecordView {
    /// What is left of the lease at `now`; zero if it is over or there is none.
    pub fn lease_remaining(&self) -> Duration {
        self.lease_until.map_or(Duration::ZERO, |until| until.since(self.now))
    }

    /// Whether an unknown record has waited for more than 30 days for somebody to resolve it.
    pub fn is_stale(&self) -> bool {
        self.state == State::Unknown && self.now.since(self.changed) > Duration::from_hours(30 * 24)
    }
}

/// How long a record lives. All are counted by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A kept body, from completion. Default 24 hours.
    pub body: Duration,
    /// The record of a completion, with or without its body, from completion; also how long an abandoned
    /// record under [`Recovery::Takeover`] waits for a claimant before it is released. Default 7 days.
    pub record: Duration,
    /// A released record, from release. Default 10 minutes.
    pub released: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            body: Duration::from_hours(24),
            record: Duration::from_hours(7 * 24),
            released: Duration::from_mins(10),
        }
    }
}

/// A request kept with its claim, so that a completer can finish it without its client.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRequest {
    /// The method.
    pub method: http::Method,
    /// The target as it was received.
    pub uri: http::Uri,
    /// The fields that a completer may send.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}
