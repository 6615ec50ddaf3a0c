//! An answer that is not stored, and that the application makes again from a reference.

use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::asker::{Asker, Rejection, Replay};
use crate::policy::HeaderRules;
use crate::policy::keep::{Class, Outcome};
use crate::problem::{Code, Problem, Retry};

/// What a completed record has for a retry.
pub(super) enum Shown {
    Replay(Replay),
    Rederive(Rederiving),
    Reject(Rejection),
}

/// A request that was done before, whose answer the application makes again. Whatever becomes of that, the record
/// stays as it is.
#[derive(Debug)]
#[must_use = "the client has to be told"]
pub struct Rederiving {
    asker: Asker,
    reference: Bytes,
    location: Option<HeaderValue>,
    age: Duration,
}

impl Rederiving {
    pub(super) fn new(asker: Asker, reference: Bytes, location: Option<HeaderValue>, age: Duration) -> Self {
        Self { asker, reference, location, age }
    }

    /// What the handler attached to its answer.
    pub const fn reference(&self) -> &Bytes {
        &self.reference
    }

    /// How long making it may take, its body included: as long as capturing an answer.
    pub fn within(&self) -> Duration {
        self.asker.policy.capture_for
    }

    /// The most bytes its body may have: as many as a kept one.
    pub fn limit(&self) -> usize {
        self.asker.policy.capture_limit
    }

    /// Nobody here can make it: a deploy took the function away, or this is another program on the same store.
    pub fn unregistered(self) -> Rejection {
        self.asker.replay_unavailable(self.location)
    }

    /// The application could not make it now: it failed, took too long, or made more than the limit.
    pub fn failed(self) -> Rejection {
        let problem = Problem::new(Code::ReplayUnavailable)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .with_retry(Retry::SameKey)
            .with_detail(
                "The request with this key was completed before, and its answer could not be made again now. \
                 Nothing was run. The same request with the same key asks for it once more.",
            );
        let problem = match self.location {
            Some(location) => problem.with_location(location),
            None => problem,
        };
        self.asker.reject(problem).retry_after(Duration::from_secs(1))
    }

    /// The application made an answer. One that the route would not keep (a 503, a 401) is no answer to a request
    /// that was done: the client is told to ask again.
    ///
    /// # Errors
    ///
    /// What to tell the client instead.
    pub fn answer(
        self,
        mut parts: Parts,
        body: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Result<Replay, Rejection> {
        let said = parts.extensions.remove::<Outcome>().or_else(|| Outcome::from_headers(&parts.headers));
        let policy = &self.asker.policy;
        let class = policy.keep.classify_whole(parts.status, &parts.headers, trailers.as_ref(), said);
        if class != Class::Store || parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed());
        }
        let mut headers = parts.headers;
        HeaderRules::strip_answer(&mut headers);
        self.asker.policy.headers.mark_replayed(&mut headers, self.asker.origin.is_some());
        self.asker.decorate(&mut headers);
        Ok(Replay { status: parts.status, headers, body, trailers, age: self.age })
    }
}
