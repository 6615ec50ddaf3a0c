//! Which answers are allowed.

use std::fmt;
use std::time::Duration;

use semel_core::record::{Fingerprint, Record, RecordView};
use semel_core::store::{Begun, Deleted, Resolved, Settled};

use super::{Number, Slot};

/// What a store answered.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// To a claim.
    Begun(Begun),
    /// To what settles, renews or notes.
    Settled(Settled),
    /// To an inspection.
    View(Option<RecordView>),
    /// To a reading.
    Read(Option<Record>),
    /// To a resolution.
    Resolved(Resolved),
    /// To a deletion.
    Deleted(Deleted),
}

/// Whether a claim's quota leaves room for a new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is room, or none, or the contract does not say")]
pub enum Room {
    /// It does, or the claim has none.
    Enough,
    /// It does not.
    None,
    /// The contract leaves open what counts here.
    Perhaps,
}

/// An answer that the contract does not allow, and what it demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer that the contract demands.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Acquired { new: bool },
    Differs { fingerprint: Option<Fingerprint>, same_principal: bool },
    Held { remaining: Duration },
    Settled,
    Unknown,
    Stale,
    Expired,
    OverQuota,
    Applied,
    Superseded,
    SettledAbsent,
    View,
    Read,
    ResolvedApplied,
    ResolvedRefused,
    ResolvedAbsent,
    DeletedGone,
    DeletedRefused,
    DeletedAbsent,
}

impl Expected {
    /// Judges an answer against what the key is after the call, and learns from it which fence it has.
    pub(super) fn admits(&self, answer: &Answer, after: &mut Slot) -> Result<(), Refusal> {
        match (self, answer) {
            (Self::Acquired { new }, Answer::Begun(Begun::Acquired(acquired))) => {
                let Some(kept) = &after.kept else {
                    return Err(demanded("no claim of a key without a record"));
                };
                if acquired.attempt != kept.attempt || acquired.progress != kept.progress {
                    let (attempt, progress) = (kept.attempt, &kept.progress);
                    return Err(demanded(&format!("attempt {attempt} with progress {progress:?}")));
                }
                if acquired.lease.claim() != kept.claim {
                    return Err(demanded(&format!("the lease of {:?}", kept.claim)));
                }
                after.learn(acquired.lease.fence().get(), *new)
            }
            (Self::Differs { fingerprint, same_principal }, Answer::Begun(Begun::Differs(differs))) => {
                if differs.fingerprint == *fingerprint && differs.same_principal == *same_principal {
                    return Ok(());
                }
                Err(demanded(&format!("Differs with {fingerprint:?}, same_principal: {same_principal}")))
            }
            (Self::Held { remaining }, Answer::Begun(Begun::Held { remaining: told })) => {
                if told.abs_diff(*remaining) <= super::Clock::tolerance() {
                    return Ok(());
                }
                Err(demanded(&format!("Held with about {remaining:?}")))
            }
            (Self::Settled, Answer::Begun(Begun::Settled(record)))
            | (Self::Read, Answer::Read(Some(record))) => after.shows_record(record),
            (Self::Read, Answer::Read(None)) => {
                if after.state() == Some(semel_core::record::State::Completed) {
                    return Err(demanded("the completed record"));
                }
                Ok(())
            }
            (Self::View, Answer::View(view)) => match (view, &after.kept) {
                (Some(view), Some(_)) => after.shows(view),
                (None, None) => Ok(()),
                (Some(_), None) => Err(demanded("no record")),
                (None, Some(kept)) => Err(demanded(&format!("a record that is {}", kept.state().as_str()))),
            },
            (Self::Unknown, Answer::Begun(Begun::Unknown(view))) => after.shows(view),
            (Self::Superseded, Answer::Settled(Settled::Superseded(view)))
            | (Self::ResolvedRefused, Answer::Resolved(Resolved::Refused(view)))
            | (Self::ResolvedApplied, Answer::Resolved(Resolved::Applied(view)))
            | (Self::DeletedRefused, Answer::Deleted(Deleted::Refused(view))) => after.shows(view),
            (Self::Stale, Answer::Begun(Begun::Stale))
            | (Self::Expired, Answer::Begun(Begun::Expired))
            | (Self::OverQuota, Answer::Begun(Begun::OverQuota))
            | (Self::Applied, Answer::Settled(Settled::Applied))
            | (Self::SettledAbsent, Answer::Settled(Settled::Absent))
            | (Self::ResolvedAbsent, Answer::Resolved(Resolved::Absent))
            | (Self::DeletedGone, Answer::Deleted(Deleted::Gone))
            | (Self::DeletedAbsent, Answer::Deleted(Deleted::Absent)) => Ok(()),
            _ => Err(demanded(&format!("{self:?}"))),
        }
    }
}

impl Slot {
    /// Takes a fence that an answer shows for the record's.
    pub(super) fn learn(&mut self, fence: u64, new: bool) -> Result<(), Refusal> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        match kept.fence {
            Number::Known(known) if known != fence => Err(demanded(&format!("fence {known}"))),
            Number::Above(floor) if fence <= floor => {
                let why = if new { "a new claim" } else { "a claim whose answer was lost" };
                Err(demanded(&format!("a fence above {floor} for {why}")))
            }
            Number::Known(_) | Number::Above(_) => {
                kept.fence = Number::Known(fence);
                self.top = self.top.max(fence);
                Ok(())
            }
        }
    }
}

pub(super) fn demanded(what: &str) -> Refusal {
    Refusal(format!("the contract demands {what}"))
}
