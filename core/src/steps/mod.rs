//! Steps: effects outside the database, each recorded before the next begins.
//!
//! A [`Walk`] goes through a run's steps by name and says what each call means: the recorded result, a step to start
//! with a [`StepKey`] of its own, or a [`Misstep`]. A later attempt walks the same steps again and is given what is
//! recorded. Whoever drives it notes the [`Progress`] in the record, before a step and after it.
//!
//! A step that was started and has no result may have happened. The next attempt starts it again *with the same key*:
//! that is what the key is for, and why whoever is called has to know it.

mod key;
mod progress;
mod walk;

pub use key::StepKey;
pub use progress::{Progress, StepRecord, StepState};
pub use walk::{Entered, Misstep, Misused, Trouble, Walk, Walked};

use http::StatusCode;

use crate::policy::keep::Outcome;

/// How a run's steps ended, where they did not go on. It decides what becomes of the record, unless the handler says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each means something else for the record")]
pub enum StepsEnd {
    /// A step failed for good, and that is recorded: no attempt will call it again.
    Final,
    /// A step could not be done or recorded now. The next attempt goes on with it, under the same key.
    Retry,
    /// Another attempt has the record.
    Superseded,
    /// The steps of this program are not those of the record.
    Differs,
    /// The program used steps wrongly; the next attempt goes on where this one stopped, with a program that was mended.
    Misused,
}

impl StepsEnd {
    /// The answer of a handler that says nothing of its own, and what it says about its outcome.
    pub const fn answer(self) -> (StatusCode, Outcome) {
        match self {
            // Kept: a retry would meet the same recorded failure.
            Self::Final => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::Applied),
            Self::Retry | Self::Superseded => (StatusCode::SERVICE_UNAVAILABLE, Outcome::NotApplied),
            Self::Differs => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::Unknown),
            Self::Misused => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::NotApplied),
        }
    }
}
