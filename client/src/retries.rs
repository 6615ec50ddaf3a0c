use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::Budget;

/// How a client retries, checked. Cheap to clone; clones share one [`Budget`].
#[derive(Clone, Debug)]
pub struct Retries(Arc<RetriesBuilder>);

impl Retries {
    /// Every default: a minute in all, 15 s a try, ten tries, a budget of its own.
    pub fn builder() -> RetriesBuilder {
        RetriesBuilder::default()
    }

    /// What all calls together may spend.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self(Arc::new(RetriesBuilder::default()))
    }
}

impl std::ops::Deref for Retries {
    type Target = RetriesBuilder;

    fn deref(&self) -> &RetriesBuilder {
        &self.0
    }
}

/// How a client retries, as it is being written. Every field has a default that is safe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetriesBuilder {
    /// How long a call may take, all tries and waits together. Default 60 s.
    pub deadline: Duration,
    /// How long one try may take, from its first byte to the last of what is read of its answer. Default 15 s, and
    /// never longer than what is left until the deadline.
    pub try_within: Duration,
    /// How many tries a call may make, the first one included. Default 10.
    pub tries: u32,
    /// The bound of the first wait; it doubles with each try. Default 100 ms.
    pub backoff: Duration,
    /// The bound that no wait of our own exceeds. Default 5 s. `Retry-After` is not bound by it.
    pub longest_backoff: Duration,
    /// What all calls together may spend on further tries.
    pub budget: Budget,
    /// Requests that get a key if they have none. Default POST and PATCH; nothing: keys are the caller's alone.
    pub keyed_methods: Vec<Method>,
    /// The field that carries the key. Default `idempotency-key`.
    pub key_field: HeaderName,
    /// Whether keys are sent without quotes. Default: a Structured Field String, as the draft has it (section 2.1).
    pub bare_keys: bool,
    /// How much of an answer to a call with a key is read before the call counts as answered, in bytes. Default 1 MiB.
    pub answer_limit: usize,
    /// How much of a request's body the tower shell keeps so that it can be sent again, in bytes. Default 1 MiB.
    pub body_limit: usize,
}

impl Default for RetriesBuilder {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(1),
            try_within: Duration::from_secs(15),
            tries: 10,
            backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(5),
            budget: Budget::default(),
            keyed_methods: vec![Method::POST, Method::PATCH],
            key_field: HeaderName::from_static("idempotency-key"),
            bare_keys: false,
            answer_limit: 1024 * 1024,
            body_limit: 1024 * 1024,
        }
    }
}

/// Two settings that cannot both hold, or one that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RetriesError(String);

impl RetriesBuilder {
    /// How long a call may take in all. Default 60 s.
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = within;
        self
    }

    /// How long one try may take. Default 15 s.
    #[must_use]
    pub fn try_within(mut self, within: Duration) -> Self {
        self.try_within = within;
        self
    }

    /// How many tries a call may make, the first one included. Default 10.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The bounds of the waits between tries: the first one's, which doubles each time, and the one that none exceeds.
    /// Default 100 ms and 5 s. Each wait is drawn evenly from nothing to its bound, so that callers who failed
    /// together do not come back together.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.backoff, self.longest_backoff) = (first, longest);
        self
    }

    /// Shares this budget instead of one of its own.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Mints keys for these methods instead of POST and PATCH. For none: an operation without a key of the caller's
    /// is then sent again only if it never left, unless its method is idempotent (RFC 9110, section 9.2.2).
    #[must_use]
    pub fn keyed_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.keyed_methods = methods.into_iter().collect();
        self
    }

    /// Sends the key in another field.
    #[must_use]
    pub fn key_field(mut self, field: HeaderName) -> Self {
        self.key_field = field;
        self
    }

    /// Sends minted keys without quotes.
    #[must_use]
    pub fn bare_keys(mut self) -> Self {
        self.bare_keys = true;
        self
    }

    /// How much of an answer is read before the call counts as answered, in bytes. Default 1 MiB. 0: nothing; an
    /// answer that breaks off is then the caller's to notice.
    #[must_use]
    pub fn answer_limit(mut self, bytes: usize) -> Self {
        self.answer_limit = bytes;
        self
    }

    /// The largest body that the tower shell keeps so that it can be sent again, in bytes. Default 1 MiB.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    ///
    /// Names the settings that contradict each other.
    pub fn build(self) -> Result<Retries, RetriesError> {
        self.check().map_err(RetriesError)?;
        Ok(Retries(Arc::new(self)))
    }

    fn check(&self) -> Result<(), String> {
        if self.tries == 0 {
            return Err("`tries` is 0, so nothing would ever be sent: allow at least 1".into());
        }
        if self.try_within.is_zero() || self.deadline.is_zero() {
            return Err("`try_within` and `deadline` have to be longer than nothing".into());
        }
        if self.try_within > self.deadline {
            return Err(format!(
                "`try_within` ({:?}) is longer than `deadline` ({:?}): one try would be all, and not a whole one",
                self.try_within, self.deadline
            ));
        }
        if self.backoff > self.longest_backoff {
            return Err(format!(
                "the first `backoff` ({:?}) is longer than the longest ({:?})",
                self.backoff, self.longest_backoff
            ));
        }
        if self.backoff.is_zero() && self.tries > 1 {
            return Err("`backoff` is nothing: further tries would follow without a pause".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_name_both_settings() {
        let second = Duration::from_secs(1);
        for (builder, names) in [
            (Retries::builder().tries(0), &["`tries`"][..]),
            (Retries::builder().deadline(second), &["`try_within` (15s)", "`deadline` (1s)"]),
            (Retries::builder().try_within(Duration::ZERO), &["`try_within`", "`deadline`"]),
            (Retries::builder().backoff(second, Duration::ZERO), &["`backoff` (1s)", "0ns"]),
            (Retries::builder().backoff(Duration::ZERO, second), &["`backoff`"]),
        ] {
            let error = builder.build().unwrap_err().to_string();
            assert!(names.iter().all(|name| error.contains(name)), "{error}");
        }
        assert!(Retries::builder().build().is_ok());
    }
}
