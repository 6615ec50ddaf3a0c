//! Errors on the wire: RFC 9457 problem details, one `type` URI a condition.
//!
//! A [`Problem`] is data: what the condition is and what the client may do. Rendering is apart: the same data is told
//! as the status of a call where the request is one of gRPC.

mod accept;
mod code;
mod docs;
pub(crate) mod grpc;
mod render;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use uuid::Uuid;

pub use code::{Code, Retry};
pub use docs::{Docs, InvalidDocs};

use crate::key::Key;
use crate::policy::keep::Outcome;
use crate::record::Recovery;

/// A condition to tell the client.
///
/// Made with the defaults of its [`Code`]; the `with_` methods change what differs.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderMap;
/// use semel_core::problem::{Code, Docs, Problem};
///
/// let problem = Problem::new(Code::InFlight).with_retry_after(Duration::from_millis(2100));
/// let answer = problem.render(&HeaderMap::new(), &Docs::default());
/// assert_eq!(answer.status(), 409);
/// assert_eq!(answer.headers()["retry-after"], "3");
/// assert_eq!(answer.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// The condition.
    pub code: Code,
    /// The status to answer with.
    pub status: StatusCode,
    /// What happened, for a reader. Plain text that never holds a credential, a body, or a key that did not
    /// parse.
    pub detail: Cow<'static, str>,
    /// Whether and how to try again.
    pub retry: Retry,
    /// The caller's own key, when it parsed.
    pub key: Option<Key>,
    /// Names this occurrence, also in the log. The driver mints it.
    pub instance: Option<Uuid>,
    /// When to try again; rounded up to whole seconds, at least 1.
    pub retry_after: Option<Duration>,
    /// `Location` of the first answer, where that is all that is left of it.
    pub location: Option<HeaderValue>,
    /// `Idempotency-Outcome` of this answer: for a gateway before this one, which must not take a 502 for a run
    /// that may have happened, nor a 409 for a definite answer.
    pub outcome: Option<Outcome>,
}

impl Problem {
    /// The condition with its defaults.
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            status: code.status(),
            detail: Cow::Borrowed(code.detail()),
            retry: code.retry(),
            key: None,
            instance: None,
            retry_after: None,
            location: None,
            outcome: match code {
                Code::OutcomeUnknown => Some(Outcome::Unknown),
                // The request was claimed and is known not to have run.
                Code::UpstreamUnreachable | Code::RolledBack => Some(Outcome::NotApplied),
                _ => None,
            },
        }
    }

    /// `outcome-unknown`, as the record's recovery rule has it: under takeover the same key runs again.
    pub fn outcome_unknown(recovery: Recovery) -> Self {
        let problem = Self::new(Code::OutcomeUnknown);
        match recovery {
            Recovery::Hold => problem,
            Recovery::Takeover => problem.with_retry(Retry::SameKey).with_detail(
                "No answer of this request's run is known, and it may have taken effect. The same request with \
                 the same key runs it again once its lease is over.",
            ),
        }
    }

    /// Another status: `outcome-unknown` is 409, but 500, 502 or 504 on the run itself.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says more exactly what happened. Plain text; the field's docs say what must not be in it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Another way to try again: `outcome-unknown` is [`Retry::SameKey`] under takeover.
    #[must_use]
    pub const fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The caller's own key, as it parsed.
    #[must_use]
    pub fn with_key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// The name of this occurrence.
    #[must_use]
    pub const fn with_instance(mut self, instance: Uuid) -> Self {
        self.instance = Some(instance);
        self
    }

    /// When to try again.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Where the result of the first run is.
    #[must_use]
    pub fn with_location(mut self, location: HeaderValue) -> Self {
        self.location = Some(location);
        self
    }

    /// What a gateway before this one is told, or `None` for nothing.
    #[must_use]
    pub const fn with_outcome(mut self, outcome: Option<Outcome>) -> Self {
        self.outcome = outcome;
        self
    }

    /// The title of the condition, the same at each occurrence.
    pub const fn title(&self) -> &'static str {
        self.code.title()
    }

    /// What the client is to do now, for people and agents. Follows [`retry`](Self::retry) where that is not
    /// the code's own.
    pub fn what_to_do(&self) -> &'static str {
        if self.retry == self.code.retry() { self.code.what_to_do() } else { self.retry.what_to_do() }
    }
}

/// Without the key, which reaches no log.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("code", &self.code.as_str())
            .field("status", &self.status.as_u16())
            .field("retry", &self.retry.as_str())
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_does_not_print() {
        let key = Key::from_text("order-4711").unwrap();
        let problem = Problem::new(Code::KeyReused).with_key(key).with_detail("order-4711");
        assert!(!format!("{problem:?}").contains("4711"));
    }

    #[test]
    fn what_to_do_follows_a_retry_that_was_changed() {
        let hold = Problem::outcome_unknown(Recovery::Hold);
        let takeover = Problem::outcome_unknown(Recovery::Takeover);
        assert_eq!((hold.retry, takeover.retry), (Retry::Reconcile, Retry::SameKey));
        assert_ne!(hold.detail, takeover.detail, "nothing is settled by hand under takeover");
        assert_eq!(hold.what_to_do(), Code::OutcomeUnknown.what_to_do());
        assert!(takeover.what_to_do().contains("same key"));
        assert_ne!(hold.what_to_do(), takeover.what_to_do());
    }
}
