//! States and rules as the numbers that tables keep. They never change.

use http::StatusCode;
use semel_core::record::{Fence, Recovery, State};

/// The number of a state.
pub const fn state_to(state: State) -> i16 {
    match state {
        State::InFlight => 0,
        State::Completed => 1,
        State::Released => 2,
        State::Unknown => 3,
    }
}

/// The state of a number; `None` for one that this version does not know.
pub fn state_from(number: i64) -> Option<State> {
    State::ALL.into_iter().find(|state| i64::from(state_to(*state)) == number)
}

/// The number of a recovery rule.
pub const fn recovery_to(recovery: Recovery) -> i16 {
    match recovery {
        Recovery::Hold => 0,
        Recovery::Takeover => 1,
    }
}

/// The rule of a number; `None` for one that this version does not know.
pub const fn recovery_from(number: i64) -> Option<Recovery> {
    match number {
        0 => Some(Recovery::Hold),
        1 => Some(Recovery::Takeover),
        _ => None,
    }
}

/// The fence of a number; `None` below 1.
pub fn fence_from(number: i64) -> Option<Fence> {
    u64::try_from(number).ok().and_then(Fence::new)
}

/// The status of a number; `None` where HTTP has none.
pub fn status_from(number: i64) -> Option<StatusCode> {
    u16::try_from(number).ok().and_then(|status| StatusCode::from_u16(status).ok())
}

/// As a signed integer, which is all that databases have; no counter of ours gets near the difference.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
