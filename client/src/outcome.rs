use std::fmt;

use http::Response;

use crate::OperationKey;

/// How a call ended, as far as the client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to act on each")]
pub enum Verdict {
    /// Answered: the operation was done, now, or by an earlier try whose answer was not marked as a replay. Every
    /// status below 400.
    Done,
    /// Done by an earlier try, whose kept answer this is (`Idempotency-Replayed: true`).
    Replayed,
    /// The server refused it, and no try took effect.
    Rejected,
    /// It may have taken effect, and nobody has said. With a [key](End::key) it can be asked for later.
    Unknown,
    /// No try left, or reached the server: nothing happened.
    NotSent,
}

/// Why a further try was made, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// There is an answer.
    Answered,
    /// Nothing was sent: no connection.
    NeverSent,
    /// It was sent, or may have been, and no whole answer came.
    MayHaveRun,
    /// The try took too long.
    TimedOut,
    /// The request cannot be sent at all.
    Invalid,
    /// 409: the first request with this key is still running.
    InFlight,
    /// 425.
    TooEarly,
    /// 429.
    TooMany,
    /// 503.
    Unavailable,
    /// 408, 500, 502, 504.
    Failed,
    /// The answer asks for the same request again (member `retry`, `Stripe-Should-Retry: true`).
    Told,
    /// The answer asks for no further try.
    ToldNotTo,
    /// The answer says to find out first (member `retry`: `reconcile`).
    Reconcile,
    /// Another answer of 400 and above: the same request would get the same.
    Refused,
    /// A further try could run it twice: it has no key, and its method is not idempotent.
    NotRepeatable,
}

/// What ended a call that would have been tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// The call's time is over, or would be before it may come back.
    Deadline,
    /// Its tries are used up.
    Tries,
    /// The budget of all calls is used up.
    Budget,
}

/// The end of a call.
///
/// The shells put it into the extensions of the answer; [`outcome`](crate::outcome) reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// How it ended.
    pub verdict: Verdict,
    /// What the last try came to.
    pub why: Why,
    /// What forbade a further try that would have been made.
    pub limit: Option<Limit>,
    /// How many tries were made.
    pub tries: u32,
    /// The operation's key, minted or the caller's own: the same on each try. None if it has none.
    pub key: Option<OperationKey>,
}

/// A call's result, by what is known of the operation.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to act on each")]
pub enum Outcome<R> {
    /// Done; this is the answer.
    Done(R),
    /// Done by an earlier try; this is its answer.
    Replayed(R),
    /// Refused, and nothing took effect. The answer says why.
    Rejected(R),
    /// It may have taken effect.
    Unknown(Unknown<R>),
    /// Nothing was sent, or no try reached the server.
    NotSent(Error),
}

/// An operation that may have taken effect.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unknown<R> {
    /// Ask with it later: send the same request with this key again. None for an operation without one.
    pub key: Option<OperationKey>,
    /// What the last try came to.
    pub why: Why,
    /// The last answer, if there was one.
    pub answer: Option<R>,
    /// The last failure, if there was no answer.
    pub error: Option<Error>,
}

/// A call that ended without an answer.
#[derive(Debug)]
pub struct Error {
    end: End,
    source: Option<BoxError>,
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    #[cfg_attr(not(feature = "shell"), expect(dead_code, reason = "made by the shells"))]
    pub(crate) fn new(end: End, source: Option<BoxError>) -> Self {
        Self { end, source }
    }

    /// A failure that no call of ours saw.
    #[cfg(feature = "reqwest")]
    pub(crate) fn foreign(source: BoxError, never_sent: bool) -> Self {
        let (verdict, why) =
            if never_sent { (Verdict::NotSent, Why::Invalid) } else { (Verdict::Unknown, Why::MayHaveRun) };
        Self::new(End { verdict, why, limit: None, tries: 0, key: None }, Some(source))
    }

    /// How the call ended: [`Verdict::NotSent`] or [`Verdict::Unknown`].
    pub fn end(&self) -> &End {
        &self.end
    }

    /// Whether the operation may have taken effect.
    pub fn may_have_run(&self) -> bool {
        self.end.verdict == Verdict::Unknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.may_have_run(), self.end.why) {
            (_, Why::Invalid) => "the request cannot be sent",
            (false, _) => "the request was not sent",
            (true, _) => "no answer came, and the request may have taken effect",
        };
        let tries = if self.end.tries == 1 { "try" } else { "tries" };
        write!(f, "{what} ({} {tries}", self.end.tries)?;
        match self.end.limit {
            Some(Limit::Deadline) => f.write_str(", the deadline is over)"),
            Some(Limit::Tries) => f.write_str(", no more are allowed)"),
            Some(Limit::Budget) => f.write_str(", the retry budget is used up)"),
            None => f.write_str(")"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Sorts the result of a shell by what is known of the operation.
///
/// An answer that no shell has seen is judged by its status alone.
pub fn outcome<B>(result: Result<Response<B>, Error>) -> Outcome<Response<B>> {
    sort(result, |answer| answer.extensions().get::<End>().cloned())
}

/// The same for any type of answer: `end` finds its [`End`].
pub(crate) fn sort<R>(result: Result<R, Error>, end: impl FnOnce(&R) -> Option<End>) -> Outcome<R> {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) if error.may_have_run() => {
            let (key, why) = (error.end.key.clone(), error.end.why);
            return Outcome::Unknown(Unknown { key, why, answer: None, error: Some(error) });
        }
        Err(error) => return Outcome::NotSent(error),
    };
    let (verdict, key, why) = match end(&answer) {
        Some(end) => (end.verdict, end.key, end.why),
        None => (Verdict::Unknown, None, Why::Answered),
    };
    match verdict {
        Verdict::Done => Outcome::Done(answer),
        Verdict::Replayed => Outcome::Replayed(answer),
        Verdict::Rejected | Verdict::NotSent => Outcome::Rejected(answer),
        Verdict::Unknown => Outcome::Unknown(Unknown { key, why, answer: Some(answer), error: None }),
    }
}
