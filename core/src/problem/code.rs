use std::fmt;

use http::StatusCode;

/// A condition that Semel answers by itself.
///
/// Each has a page under `docs/problems`, and that page's address is the problem's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// `key-missing`, 400: the route requires a key and there is none.
    KeyMissing,
    /// `key-invalid`, 400: more than one key line, or a value that does not parse or is not of the required form.
    KeyInvalid,
    /// `principal-missing`, 400: the scope that says who asks is missing or invalid.
    PrincipalMissing,
    /// `key-expired`, 400: the key says that it is older than a record lives, and there is no record.
    KeyExpired,
    /// `key-reused`, 422: the key was first used with another request or under other credentials.
    KeyReused,
    /// `in-flight`, 409: the first request with this key is still running.
    InFlight,
    /// `outcome-unknown`, 409, or 500, 502, 504 on the run itself: nobody knows whether it took effect.
    OutcomeUnknown,
    /// `replay-unavailable`, 409: it was done, but the answer is not kept.
    ReplayUnavailable,
    /// `quota-exceeded`, 429: the caller keeps or claims as much as it may.
    QuotaExceeded,
    /// `overloaded`, 503: too much is running.
    Overloaded,
    /// `body-incomplete`, 400: the request's body was cut short.
    BodyIncomplete,
    /// `body-too-slow`, 408: the request's body did not arrive in time.
    BodyTooSlow,
    /// `content-too-large`, 413: the request's body is over the limit.
    ContentTooLarge,
    /// `store-unavailable`, 503: the records cannot be read, so nothing was run.
    StoreUnavailable,
    /// `upstream-unreachable`, 502: the application cannot be reached, so nothing was run.
    UpstreamUnreachable,
    /// `rolled-back`, 500, or 503 where others were in the way: the run failed in its transaction, and nothing of it
    /// stayed.
    RolledBack,
}

/// Whether and how a client may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a client has to act on each")]
pub enum Retry {
    /// `same-key`: send the same request with the same key again, later.
    SameKey,
    /// `new-key`: correct the request and send it with a valid key.
    NewKey,
    /// `stop`: the same request will never succeed.
    Stop,
    /// `reconcile`: find out whether it took effect before anything else.
    Reconcile,
}

impl Retry {
    /// The value of the member `retry`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameKey => "same-key",
            Self::NewKey => "new-key",
            Self::Stop => "stop",
            Self::Reconcile => "reconcile",
        }
    }

    /// The value of the member `retryable`: whether sending the very same request again can help.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::SameKey)
    }

    pub(super) const fn what_to_do(self) -> &'static str {
        match self {
            Self::SameKey => {
                "Send the same request with the same key again, after `Retry-After` if it is given. Never \
                 change the key: that could run the operation twice."
            }
            Self::NewKey => "Correct the request and send it again with a valid key.",
            Self::Stop => "Do not send this request again as it is.",
            Self::Reconcile => {
                "Find out whether the operation took effect, by reading the resource or asking the operator, \
                 before you send it with a new key."
            }
        }
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

struct Facts {
    name: &'static str,
    status: StatusCode,
    retry: Retry,
    title: &'static str,
    detail: &'static str,
    what_to_do: &'static str,
}

impl Code {
    /// All codes, in the order of the contract.
    pub const ALL: [Self; 16] = [
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::PrincipalMissing,
        Self::KeyExpired,
        Self::KeyReused,
        Self::InFlight,
        Self::OutcomeUnknown,
        Self::ReplayUnavailable,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::BodyIncomplete,
        Self::BodyTooSlow,
        Self::ContentTooLarge,
        Self::StoreUnavailable,
        Self::UpstreamUnreachable,
        Self::RolledBack,
    ];

    /// The code's name: member `code`, end of the `type` URI, and metric label.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// Whether its answers may have a `Retry-After`: they do where it is known from when on a retry can help.
    pub const fn may_say_when(self) -> bool {
        matches!(
            self,
            Self::InFlight
                | Self::ReplayUnavailable
                | Self::QuotaExceeded
                | Self::Overloaded
                | Self::StoreUnavailable
                | Self::UpstreamUnreachable
                | Self::RolledBack
        )
    }

    /// The status it is answered with, unless the problem says otherwise.
    pub const fn status(self) -> StatusCode {
        self.facts().status
    }

    /// The member `title`.
    pub const fn title(self) -> &'static str {
        self.facts().title
    }

    /// The member `retry`, unless the problem says otherwise.
    pub const fn retry(self) -> Retry {
        self.facts().retry
    }

    /// The member `detail`, unless the problem says it more exactly.
    pub const fn detail(self) -> &'static str {
        self.facts().detail
    }

    /// What the client is to do, for people and agents.
    pub const fn what_to_do(self) -> &'static str {
        self.facts().what_to_do
    }

    #[expect(clippy::too_many_lines, reason = "a table: one entry a code")]
    const fn facts(self) -> Facts {
        match self {
            Self::KeyMissing => Facts {
                name: "key-missing",
                status: StatusCode::BAD_REQUEST,
                retry: Retry::NewKey,
                title: "Idempotency-Key is required",
                detail: "This endpoint requires the header field Idempotency-Key, and the request has none. \
                         Nothing was run.",
                what_to_do: "Make one key for the operation, a UUID for example, keep it, and send it in \
                             `Idempotency-Key` with every try of this operation.",
            },
            Self::KeyInvalid => Facts {
                name: "key-invalid",
                status: StatusCode::BAD_REQUEST,
                retry: Retry::NewKey,
                title: "Idempotency-Key is not valid",
                detail: "The value of the header field Idempotency-Key is not a valid key. Nothing was run.",
                what_to_do: "Send exactly one `Idempotency-Key` field whose value is a quoted string of 1 to \
                             255 printable ASCII characters, a UUID for example.",
            },
            Self::PrincipalMissing => Facts {
                name: "principal-missing",
                status: StatusCode::BAD_REQUEST,
                retry: Retry::Stop,
                title: "The caller is not identified",
                detail: "Keys of this endpoint belong to a caller, and the request does not say validly who \
                         that is. Nothing was run.",
                what_to_do: "Do not retry as it is. Send the credentials or the field that identifies you; if \
                             you do, the service's operator has to look at the scope setting of this endpoint.",
            },
            Self::KeyExpired => Facts {
                name: "key-expired",
                status: StatusCode::BAD_REQUEST,
                retry: Retry::Reconcile,
                title: "Idempotency-Key is too old",
                detail: "The key was made longer ago than records are kept, so nobody can tell whether its \
                         operation was done. Nothing was run now.",
                what_to_do: "Find out whether the operation was done long ago. Only if it was not, send it \
                             with a new key.",
            },
            Self::KeyReused => Facts {
                name: "key-reused",
                status: StatusCode::UNPROCESSABLE_ENTITY,
                retry: Retry::Stop,
                title: "Idempotency-Key was used for another request",
                detail: "This key was first used with another payload or under other credentials. Nothing was \
                         run, and the first request is not affected. A UUID as the key, or a scope in the \
                         service's settings, keeps the keys of different tenants from colliding.",
                what_to_do: "Do not retry as it is. If this is a new operation, give it a new key, a UUID. If \
                             it is a retry, send the first request again, byte for byte and with the \
                             credentials of the first try.",
            },
            Self::InFlight => Facts {
                name: "in-flight",
                status: StatusCode::CONFLICT,
                retry: Retry::SameKey,
                title: "The first request is still running",
                detail: "A request with this key is running. Its answer will be the answer to this one too.",
                what_to_do: "Wait for `Retry-After` and send the same request with the same key again. Never \
                             change the key: that would run the operation twice.",
            },
            Self::OutcomeUnknown => Facts {
                name: "outcome-unknown",
                status: StatusCode::CONFLICT,
                retry: Retry::Reconcile,
                title: "The outcome of the request is unknown",
                detail: "No answer of this request's run is known: it broke off, or it is still running after its \
                         time. It may have taken effect, or may yet. It is not run again until that is settled: \
                         find out what became of it before you send it with a new key.",
                what_to_do: "Find out whether the operation took effect: read the resource, or ask the \
                             service's operator, who settles it with `semel keys resolve`. Look again after the \
                             longest time such an operation takes: it may still be running. Only if it did not \
                             take effect and cannot any more, send it with a new key. After it was settled, the \
                             same key works again.",
            },
            Self::ReplayUnavailable => Facts {
                name: "replay-unavailable",
                status: StatusCode::CONFLICT,
                retry: Retry::Reconcile,
                title: "The request was done, but its answer is no longer available",
                detail: "The request with this key was completed before. Its answer is not kept: it was too \
                         large, its time is over, or this service keeps none of its kind. Nothing was run now.",
                what_to_do: "Do not send the operation again: it is done. Read its result, at `Location` if \
                             that is given.",
            },
            Self::QuotaExceeded => Facts {
                name: "quota-exceeded",
                status: StatusCode::TOO_MANY_REQUESTS,
                retry: Retry::SameKey,
                title: "Too many keys in use",
                detail: "The caller has as many keys in use as it may. Nothing was run.",
                what_to_do: "Slow down, wait for `Retry-After`, and send the same request with the same key \
                             again.",
            },
            Self::Overloaded => Facts {
                name: "overloaded",
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry: Retry::SameKey,
                title: "The service is overloaded",
                detail: "Too many requests are running. This one was not run.",
                what_to_do: "Wait for `Retry-After` and send the same request with the same key again.",
            },
            Self::BodyIncomplete => Facts {
                name: "body-incomplete",
                status: StatusCode::BAD_REQUEST,
                retry: Retry::SameKey,
                title: "The request's body was cut short",
                detail: "The body ended before it was complete. Nothing was claimed and nothing was run.",
                what_to_do: "Send the whole request again with the same key.",
            },
            Self::BodyTooSlow => Facts {
                name: "body-too-slow",
                status: StatusCode::REQUEST_TIMEOUT,
                retry: Retry::SameKey,
                title: "The request's body did not arrive in time",
                detail: "The body took longer than allowed. Nothing was claimed and nothing was run.",
                what_to_do: "Send the whole request again with the same key, over a faster connection.",
            },
            Self::ContentTooLarge => Facts {
                name: "content-too-large",
                status: StatusCode::PAYLOAD_TOO_LARGE,
                retry: Retry::Stop,
                title: "The request's body is too large",
                detail: "The body is over the limit of requests with a key. Nothing was claimed and nothing \
                         was run.",
                what_to_do: "Do not retry as it is. Send less, or ask the service's operator for a higher \
                             limit.",
            },
            Self::StoreUnavailable => Facts {
                name: "store-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry: Retry::SameKey,
                title: "Keys cannot be checked now",
                detail: "The store of keys does not answer, so it cannot be told whether this request was done \
                         before. It was not run now.",
                what_to_do: "Wait for `Retry-After` and send the same request with the same key again. Never \
                             change the key: an earlier try may have been done.",
            },
            Self::UpstreamUnreachable => Facts {
                name: "upstream-unreachable",
                status: StatusCode::BAD_GATEWAY,
                retry: Retry::SameKey,
                title: "The application cannot be reached",
                detail: "No connection to the application could be made. The request was not run, and its key \
                         is free.",
                what_to_do: "Wait a moment and send the same request with the same key again.",
            },
            Self::RolledBack => Facts {
                name: "rolled-back",
                status: StatusCode::INTERNAL_SERVER_ERROR,
                retry: Retry::SameKey,
                title: "The operation failed and was undone",
                detail: "The operation failed. Everything it wrote was rolled back, and its key is free.",
                what_to_do: "Send the same request with the same key again, after `Retry-After` if it is given. If it \
                             goes on failing, tell the service's operator the `instance`.",
            },
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = crate::record::UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(crate::record::UnknownName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract's table, written out a second time: clients are programmed against it.
    #[test]
    fn codes_statuses_and_retries_are_those_of_the_contract() {
        let contract = [
            ("key-missing", 400, "new-key"),
            ("key-invalid", 400, "new-key"),
            ("principal-missing", 400, "stop"),
            ("key-expired", 400, "reconcile"),
            ("key-reused", 422, "stop"),
            ("in-flight", 409, "same-key"),
            ("outcome-unknown", 409, "reconcile"),
            ("replay-unavailable", 409, "reconcile"),
            ("quota-exceeded", 429, "same-key"),
            ("overloaded", 503, "same-key"),
            ("body-incomplete", 400, "same-key"),
            ("body-too-slow", 408, "same-key"),
            ("content-too-large", 413, "stop"),
            ("store-unavailable", 503, "same-key"),
            ("upstream-unreachable", 502, "same-key"),
            ("rolled-back", 500, "same-key"),
        ];
        let ours = Code::ALL.map(|code| (code.as_str(), code.status().as_u16(), code.retry().as_str()));
        assert_eq!(ours, contract);
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
    }

    #[test]
    fn only_the_same_key_is_retryable() {
        let retryable =
            [Retry::SameKey, Retry::NewKey, Retry::Stop, Retry::Reconcile].map(Retry::is_retryable);
        assert_eq!(retryable, [true, false, false, false]);
    }

    /// Tenants that collide on `order-1` get the way out, and learn nothing about whose key it is.
    #[test]
    fn a_reused_key_is_told_how_tenants_avoid_collisions() {
        let detail = Code::KeyReused.detail();
        assert!(detail.contains("payload") && detail.contains("credentials"));
        assert!(detail.contains("UUID") && detail.contains("scope") && detail.contains("tenants"));
    }
}
