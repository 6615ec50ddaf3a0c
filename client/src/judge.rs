//! What one try means: again or not, and what is known of its effect. Without limits; those are the call's.

use http::{Method, StatusCode};

use crate::advice::{Advice, Ran, Say};
use crate::{Failure, Verdict, Why};

/// Whether sending the request a second time can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// It carries a key: the server runs it once.
    Keyed,
    /// Its method is idempotent, safe ones included (RFC 9110, section 9.2).
    Idempotent,
    /// It may happen twice.
    No,
}

impl Repeatable {
    pub(crate) fn of(method: &Method, keyed: bool) -> Self {
        match () {
            () if keyed => Self::Keyed,
            () if method.is_idempotent() => Self::Idempotent,
            () => Self::No,
        }
    }
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) next: Next,
    pub(crate) why: Why,
    /// Whether this try leaves it possible that the operation took effect although no final answer is known.
    pub(crate) may_have_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Again,
    End(Verdict),
    /// A refusal that is not about the operation (credentials, load): it says nothing of earlier tries.
    Refused,
}

/// A try that brought no whole answer.
pub(crate) fn failure(repeatable: Repeatable, failure: Failure) -> Judged {
    let (why, may_have_run) = match failure {
        Failure::NeverSent => (Why::NeverSent, false),
        Failure::MayHaveRun => (Why::MayHaveRun, true),
        Failure::TimedOut => (Why::TimedOut, true),
        Failure::Invalid => {
            return Judged { next: Next::Refused, why: Why::Invalid, may_have_run: false };
        }
    };
    let next = match repeatable {
        Repeatable::No if may_have_run => Next::End(Verdict::Unknown),
        _ => Next::Again,
    };
    Judged { next, why, may_have_run }
}

/// A try that was answered.
pub(crate) fn answer(repeatable: Repeatable, status: StatusCode, advice: &Advice) -> Judged {
    if status.as_u16() < 400 {
        let verdict = if advice.replayed { Verdict::Replayed } else { Verdict::Done };
        return Judged { next: Next::End(verdict), why: Why::Answered, may_have_run: false };
    }
    let may_have_run = match advice.ran {
        Some(ran) => ran == Ran::Maybe,
        None => advice.say == Some(Say::Reconcile) || leaves_open(status),
    };
    let (wanted, why) = wish(repeatable, status, advice);
    let next = match wanted {
        Wanted::Again if repeatable != Repeatable::No => Next::Again,
        Wanted::Reconcile => Next::End(Verdict::Unknown),
        _ if may_have_run => Next::End(Verdict::Unknown),
        _ if about_the_exchange(status) => Next::Refused,
        _ => Next::End(Verdict::Rejected),
    };
    let why = if wanted == Wanted::Again && next != Next::Again { Why::NotRepeatable } else { why };
    Judged { next, why, may_have_run }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Again,
    Stop,
    Reconcile,
}

/// What the answer asks for, were the request repeatable.
fn wish(repeatable: Repeatable, status: StatusCode, advice: &Advice) -> (Wanted, Why) {
    // Whatever else is said: the request has to be corrected first (draft, section 2.7).
    let wrong = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    match advice.say {
        Some(Say::Reconcile) => return (Wanted::Reconcile, Why::Reconcile),
        _ if wrong => return (Wanted::Stop, Why::Refused),
        Some(Say::InFlight) => return (Wanted::Again, Why::InFlight),
        Some(Say::Again) => return (Wanted::Again, Why::Told),
        Some(Say::Stop) => return (Wanted::Stop, Why::ToldNotTo),
        None => {}
    }
    match status.as_u16() {
        // A conflict of the application's own comes without a time to come back at.
        409 if repeatable == Repeatable::Keyed && advice.after.is_some() => (Wanted::Again, Why::InFlight),
        425 => (Wanted::Again, Why::TooEarly),
        429 => (Wanted::Again, Why::TooMany),
        503 => (Wanted::Again, Why::Unavailable),
        408 | 500 | 502 | 504 => (Wanted::Again, Why::Failed),
        _ => (Wanted::Stop, Why::Refused),
    }
}

/// Statuses under which the operation may have taken effect. 408 is also what time-out layers say after they gave up
/// on a handler that went on.
fn leaves_open(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 499 | 500 | 502 | 504)
}

/// Refusals that say nothing of the operation itself: credentials, load, the wrong connection.
fn about_the_exchange(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 407 | 421 | 423 | 425 | 426 | 429 | 431) || status.is_server_error()
}
