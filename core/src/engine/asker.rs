//! What is remembered of the request for its answer: the key, the rules, and how the client wants errors.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ORIGIN, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use uuid::Uuid;

use super::rederive::{Rederiving, Shown};
use crate::grpc::CONTENT_TYPE_GRPC;
use crate::key::Key;
use crate::policy::Policy;
use crate::policy::keep::Outcome;
use crate::problem::{self, Code, Problem};
use crate::record::{Record, Recovery, StoredBody, StoredResponse};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Who asked, as far as the answer depends on it.
///
/// On the heap, because it goes through every state of the engine, and each would move it.
#[derive(Clone, Debug)]
pub(super) struct Asker(Box<Asked>);

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) policy: Policy,
    pub(super) key: Option<Key>,
    pub(super) accept: Vec<HeaderValue>,
    /// The request is a call of gRPC.
    pub(super) grpc: bool,
    pub(super) origin: Option<HeaderValue>,
    /// The seconds of a `Prefer: wait` that were granted.
    pub(super) waits: Option<u64>,
    /// Another Semel forwarded the request: it has a claim of its own, which must not settle on our refusal.
    pub(super) behind_another: bool,
}

impl std::ops::Deref for Asker {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

impl std::ops::DerefMut for Asker {
    fn deref_mut(&mut self) -> &mut Asked {
        &mut self.0
    }
}

impl Asker {
    pub(super) fn new(policy: &Policy, headers: &HeaderMap) -> Self {
        Self(Box::new(Asked {
            policy: policy.clone(),
            key: None,
            accept: headers.get_all(ACCEPT).iter().cloned().collect(),
            grpc: problem::grpc::is_asked(headers),
            origin: headers.get(ORIGIN).cloned(),
            waits: None,
            behind_another: false,
        }))
    }

    pub(super) fn reject(&self, problem: Problem) -> Rejection {
        let problem = match &self.key {
            Some(key) => problem.with_key(key.clone()),
            None => problem,
        };
        let problem = match problem.code {
            // Its claim must not settle on what this hop says of itself: a 409 would be kept, a 408 leave
            // its record unknown.
            Code::InFlight
            | Code::QuotaExceeded
            | Code::Overloaded
            | Code::BodyIncomplete
            | Code::BodyTooSlow
            | Code::StoreUnavailable
                if self.behind_another =>
            {
                problem.with_outcome(Some(Outcome::NotApplied))
            }
            _ => problem,
        };
        Rejection(Box::new(Rejected { problem, asker: self.clone() }))
    }

    pub(super) fn reject_code(&self, code: Code) -> Rejection {
        self.reject(Problem::new(code))
    }

    /// The run's own client is told that nobody knows, with the status that fits how it ended.
    pub(super) fn outcome_unknown(&self, status: StatusCode, recovery: Recovery) -> Rejection {
        self.reject(Problem::outcome_unknown(recovery).with_status(status))
    }

    /// The stored answer, what to make it again from, or that there is none to show. The record says which, not the
    /// route's present rules.
    pub(super) fn replay(&self, record: &Record) -> Shown {
        let age = record.view.now.since(record.view.changed);
        let completion = &record.completion;
        let (response, body) = match &completion.response {
            Some(response @ StoredResponse { body: StoredBody::Kept(body), .. }) => (response, body),
            other => {
                let location =
                    other.as_ref().and_then(|response| response.headers.get(http::header::LOCATION)).cloned();
                return match &completion.reference {
                    Some(reference) => {
                        Shown::Rederive(Rederiving::new(self.clone(), reference.clone(), location, age))
                    }
                    None => Shown::Reject(self.replay_unavailable(location)),
                };
            }
        };
        let mut headers = self.policy.headers.replay(response, self.origin.as_ref(), age);
        if let Some(trailers) = &response.trailers {
            announce(trailers, &mut headers);
        }
        self.decorate(&mut headers);
        Shown::Replay(Replay {
            status: response.status,
            headers,
            body: body.clone(),
            trailers: response.trailers.clone(),
            age,
        })
    }

    /// It was done, and there is no answer to send.
    pub(super) fn replay_unavailable(&self, location: Option<HeaderValue>) -> Rejection {
        let problem = Problem::new(Code::ReplayUnavailable);
        self.reject(match location {
            Some(location) => problem.with_location(location),
            None => problem,
        })
    }

    /// Says that a preference of the request was honoured (RFC 7240, section 3).
    pub(super) fn decorate(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.waits
            && let Ok(value) = HeaderValue::try_from(format!("wait={seconds}"))
        {
            headers.append(PREFERENCE_APPLIED, value);
        }
    }
}

/// Names the trailer fields to come (RFC 9110, section 6.6.2): HTTP/1.1 servers send no others.
fn announce(trailers: &HeaderMap, headers: &mut HeaderMap) {
    let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        headers.insert(TRAILER, names);
    }
}

/// A stored answer, ready to be sent.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The status of the first answer.
    pub status: StatusCode,
    /// Its fields, and those that mark a replay.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// Its trailer section.
    pub trailers: Option<HeaderMap>,
    /// Time since it was kept, by the store's clock.
    pub age: Duration,
}

/// A refusal, to be rendered as the client asked for it.
#[derive(Clone, Debug)]
#[must_use = "the client has to be told"]
pub struct Rejection(Box<Rejected>);

#[derive(Clone, Debug)]
struct Rejected {
    problem: Problem,
    asker: Asker,
}

impl Rejection {
    /// What is wrong.
    pub fn code(&self) -> Code {
        self.0.problem.code
    }

    /// The status it is answered with over HTTP; over gRPC that is 200, and the code's own status says it.
    pub fn status(&self) -> StatusCode {
        self.0.problem.status
    }

    /// The rules it was judged by.
    pub fn policy(&self) -> &Policy {
        &self.0.asker.policy
    }

    /// The answer. `instance` names this occurrence: put it into the log line too.
    pub fn render(self, instance: Uuid) -> Response<Bytes> {
        let Rejected { problem, asker } = *self.0;
        let mut headers = HeaderMap::new();
        for value in &asker.accept {
            headers.append(ACCEPT, value.clone());
        }
        if asker.grpc {
            headers.insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
        }
        let mut response = asker.policy.render(&problem.with_instance(instance), &headers);
        asker.decorate(response.headers_mut());
        response
    }

    /// The same refusal with a hint when to come again.
    pub(super) fn retry_after(mut self, after: Duration) -> Self {
        self.0.problem = self.0.problem.with_retry_after(after);
        self
    }
}
