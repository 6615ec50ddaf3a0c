//! Whether a record that a store shows is the model's.

use std::time::Duration;

use semel_core::record::{NotKept, Record, RecordView, State, Timestamp, codec};

use super::answer::{Refusal, demanded};
use super::{Clock, Kept, Phase, Slot, kept_body};

impl Slot {
    /// Judges a view, and learns the fence that it shows.
    pub(super) fn shows(&mut self, view: &RecordView) -> Result<(), Refusal> {
        let Some(kept) = &self.kept else { return Err(demanded("no record")) };
        let clock = self.clock;
        check("state", kept.state().as_str(), view.state.as_str())?;
        check("claim", &kept.claim, &view.claim)?;
        check("progress", &kept.progress, &view.progress)?;
        // What a record that is bound to nothing shows of its last run is not said.
        if kept.fingerprint.is_some() {
            check("principal", &kept.principal, &view.principal)?;
            check("recovery", &kept.recovery, &view.recovery)?;
            check("attempt", &kept.attempt, &view.attempt)?;
        }
        check("fingerprint", &kept.fingerprint, &view.fingerprint)?;
        check("status", &kept.status(), &view.status)?;
        check("body_bytes", &kept.body_bytes(clock), &view.body_bytes)?;
        near("created", Some(kept.created), Some(view.created))?;
        near("changed", Some(kept.changed), Some(view.changed))?;
        near("lease_until", kept.lease_until(), view.lease_until)?;
        near("expires", kept.expires(), view.expires)?;
        self.learn(view.fence.get(), false)
    }

    pub(super) fn shows_record(&mut self, record: &Record) -> Result<(), Refusal> {
        let Some(Kept { phase: Phase::Completed { completion, body_until, .. }, .. }) = &self.kept else {
            return Err(demanded("no completed record"));
        };
        let same = if *body_until <= self.clock.millis {
            codec::without_body(completion, NotKept::Expired) == *record.completion
        } else {
            *completion == record.completion
        };
        if !same {
            return Err(demanded(&format!("the answer {completion:?}, its body kept until {body_until}")));
        }
        check("state", State::Completed.as_str(), record.view.state.as_str())?;
        self.shows(&record.view)
    }
}

impl Kept {
    fn status(&self) -> Option<http::StatusCode> {
        match &self.phase {
            Phase::Completed { completion, .. } => Some(completion.response.as_ref()?.status),
            _ => None,
        }
    }

    pub(super) fn body_bytes(&self, clock: Clock) -> u64 {
        match &self.phase {
            Phase::Completed { completion, body_until, .. } if *body_until > clock.millis => {
                kept_body(completion).map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX))
            }
            _ => 0,
        }
    }

    fn lease_until(&self) -> Option<i64> {
        match self.phase {
            Phase::InFlight { until, .. } | Phase::Unknown { until } => Some(until),
            Phase::Completed { .. } | Phase::Released { .. } => None,
        }
    }

    fn expires(&self) -> Option<i64> {
        match self.phase {
            Phase::Completed { expires, .. } | Phase::Released { expires } => Some(expires),
            Phase::InFlight { .. } | Phase::Unknown { .. } => None,
        }
    }
}

fn check<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, demands: &T, told: &T) -> Result<(), Refusal> {
    if demands == told {
        return Ok(());
    }
    Err(demanded(&format!("{what}: {demands:?}, and not {told:?}")))
}

fn near(what: &str, demands: Option<i64>, told: Option<Timestamp>) -> Result<(), Refusal> {
    let told = told.map(Timestamp::as_millis);
    let off = match (demands, told) {
        (Some(demands), Some(told)) => Duration::from_millis(demands.abs_diff(told)),
        (None, None) => Duration::ZERO,
        _ => Duration::MAX,
    };
    if off <= Clock::tolerance() {
        return Ok(());
    }
    Err(demanded(&format!("{what}: about {demands:?}, and not {told:?}")))
}
