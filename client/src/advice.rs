//! What an answer says about trying again.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

/// All that an answer says for a client that might try again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advice {
    /// `Retry-After`, as a time from now.
    pub(crate) after: Option<Duration>,
    /// The answer is the first one's, kept.
    pub(crate) replayed: bool,
    pub(crate) say: Option<Say>,
    /// What the server knows of the run: `Idempotency-Outcome`, or the problem's code.
    pub(crate) ran: Option<Ran>,
}

/// What the server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// The same request with the same key, later.
    Again,
    /// The same, since the first one is still running.
    InFlight,
    /// No further try.
    Stop,
    /// Find out first whether it took effect.
    Reconcile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    No,
    Maybe,
}

impl Advice {
    /// Reads fields and, where it was read whole, the body.
    pub(crate) fn read(headers: &HeaderMap, body: Option<&[u8]>, wall: SystemTime) -> Self {
        let problem = body.and_then(|body| Told::read(headers, body)).unwrap_or_default();
        let is = |name: &str, value: &str| {
            headers.get(name).is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        };
        let should_retry = match () {
            () if is("stripe-should-retry", "true") => Some(Say::Again),
            () if is("stripe-should-retry", "false") => Some(Say::Stop),
            () => None,
        };
        let outcome = match () {
            () if is("idempotency-outcome", "unknown") => Some(Ran::Maybe),
            () if is("idempotency-outcome", "not-applied") => Some(Ran::No),
            () => None,
        };
        Self {
            after: headers.get(RETRY_AFTER).and_then(|value| retry_after(value, wall)),
            replayed: is("idempotency-replayed", "true") || is("idempotent-replayed", "true"),
            say: problem.say.or(should_retry),
            ran: outcome.or(problem.ran),
        }
    }
}

/// `Retry-After` in both forms (RFC 9110, section 10.2.3). A date that is past is now.
fn retry_after(value: &HeaderValue, wall: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are longer than anybody waits.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

/// Whether a body may be one that says something here, by its fields.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| {
        essence.eq_ignore_ascii_case("application/problem+json")
            || essence.eq_ignore_ascii_case("application/json")
    })
}

/// Whether a body may never end.
pub(crate) fn is_endless(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| {
        let lower = essence.to_ascii_lowercase();
        lower == "text/event-stream"
            || lower.starts_with("multipart/")
            || lower.starts_with("application/grpc")
    })
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

#[derive(Default)]
struct Told {
    say: Option<Say>,
    ran: Option<Ran>,
}

/// The members of Semel's problem documents (RFC 9457), and of Stripe's errors. Of other types than these each member
/// is as good as absent: `retry` means something else elsewhere.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    code: Word<'a>,
    #[serde(borrow)]
    retry: Word<'a>,
    retryable: Flag,
    #[serde(borrow)]
    error: Inner<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word<'a> {
    Text(&'a str),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Said(bool),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Inner<'a> {
    Code {
        #[serde(borrow)]
        code: &'a str,
    },
    Other(serde::de::IgnoredAny),
}

impl Default for Word<'_> {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl Default for Flag {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl Default for Inner<'_> {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl Told {
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        if !is_json(headers) {
            return None;
        }
        let members: Members<'_> = serde_json::from_slice(body).ok()?;
        if let Inner::Code { code: "idempotency_key_in_use" } = members.error {
            return Some(Self { say: Some(Say::InFlight), ran: Some(Ran::Maybe) });
        }
        let code = match members.code {
            Word::Text(code) => Some(code),
            Word::Other(_) => None,
        };
        let say = match (members.retry, members.retryable) {
            (Word::Text("same-key"), _) if code == Some("in-flight") => Say::InFlight,
            (Word::Text("same-key"), _) => Say::Again,
            (Word::Text("new-key" | "stop"), _) => Say::Stop,
            (Word::Text("reconcile"), _) => Say::Reconcile,
            // Of a document that is no problem a flag alone may speak of anything.
            (_, Flag::Said(retryable))
                if essence(headers)?.eq_ignore_ascii_case("application/problem+json") =>
            {
                if retryable {
                    Say::Again
                } else {
                    Say::Stop
                }
            }
            _ => return None,
        };
        Some(Self { say: Some(say), ran: code.and_then(what_ran) })
    }
}

/// What Semel's codes say of the run; of those that say nothing the status decides.
fn what_ran(code: &str) -> Option<Ran> {
    match code {
        "in-flight" | "outcome-unknown" | "replay-unavailable" | "key-expired" => Some(Ran::Maybe),
        "quota-exceeded"
        | "overloaded"
        | "body-incomplete"
        | "body-too-slow"
        | "content-too-large"
        | "store-unavailable"
        | "upstream-unreachable"
        | "key-missing"
        | "key-invalid"
        | "principal-missing"
        | "key-reused" => Some(Ran::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn said(kind: &'static str, body: &str) -> (Option<Say>, Option<Ran>) {
        let advice = Advice::read(&fields(&[("content-type", kind)]), Some(body.as_bytes()), UNIX_EPOCH);
        (advice.say, advice.ran)
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let wall = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &'static str| retry_after(&HeaderValue::from_static(text), wall);
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sunday, 06-Nov-94 08:49:38 GMT"), Some(Duration::from_secs(1)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:30 GMT"), Some(Duration::ZERO), "past");
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "-1", "1.5", "soon", "1 2", "+3"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn members_are_believed_of_the_types_that_have_them() {
        const PROBLEM: &str = "application/problem+json";
        let in_flight = r#"{"type":"t","code":"in-flight","retry":"same-key","retryable":true}"#;
        assert_eq!(said(PROBLEM, in_flight), (Some(Say::InFlight), Some(Ran::Maybe)));
        assert_eq!(
            said("application/json; charset=utf-8", in_flight),
            (Some(Say::InFlight), Some(Ran::Maybe))
        );
        assert_eq!(said("text/plain", in_flight), (None, None));
        assert_eq!(said(PROBLEM, r#"{"retryable":true}"#), (Some(Say::Again), None));
        assert_eq!(said(PROBLEM, r#"{"retryable":false}"#), (Some(Say::Stop), None));
        assert_eq!(said("application/json", r#"{"retryable":true}"#), (None, None), "anybody's member");
        assert_eq!(said("application/json", r#"{"retry":3,"code":[],"error":7}"#), (None, None));
        assert_eq!(said(PROBLEM, "{"), (None, None));
        assert_eq!(said(PROBLEM, "[1]"), (None, None));
        let used = r#"{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}"#;
        assert_eq!(said("application/json", used), (Some(Say::InFlight), Some(Ran::Maybe)));
    }

    /// The problem's word is about this request; the field is a general one.
    #[test]
    fn a_problem_is_believed_before_a_field() {
        let headers =
            fields(&[("content-type", "application/problem+json"), ("stripe-should-retry", "true")]);
        let advice = Advice::read(&headers, Some(br#"{"retry":"reconcile"}"#), UNIX_EPOCH);
        assert_eq!(advice.say, Some(Say::Reconcile));
        assert_eq!(Advice::read(&headers, None, UNIX_EPOCH).say, Some(Say::Again));
    }
}
