//! A problem as the status of a gRPC call: an answer of trailers alone, with the details of `google.rpc`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::render::whole_seconds;
use super::{Code, Docs, Problem, Retry};
use crate::grpc::{CONTENT_TYPE_GRPC, GRPC_STATUS, Kind, status};

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// How a server tells the retries that a client's library makes by itself when to come, or not to (gRFC A6).
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

impl Code {
    /// The gRPC status it is told by, unless the problem says otherwise.
    ///
    /// Libraries and meshes retry UNAVAILABLE by themselves, with the metadata of the first try, so it is said only where
    /// nothing ran and the same key is right. ALREADY_EXISTS is for what was done, since clients take it for success;
    /// never for a key of another request.
    pub const fn grpc_status(self) -> u32 {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::PrincipalMissing | Self::KeyExpired => {
                status::INVALID_ARGUMENT
            }
            Self::KeyReused => status::FAILED_PRECONDITION,
            Self::InFlight | Self::RolledBack | Self::BodyIncomplete | Self::BodyTooSlow => status::ABORTED,
            Self::OutcomeUnknown => status::UNKNOWN,
            Self::ReplayUnavailable => status::ALREADY_EXISTS,
            Self::QuotaExceeded => status::RESOURCE_EXHAUSTED,
            // As tonic says of a message over its own limit.
            Self::ContentTooLarge => status::OUT_OF_RANGE,
            Self::Overloaded | Self::StoreUnavailable | Self::UpstreamUnreachable => status::UNAVAILABLE,
        }
    }
}

/// Whether a request of these fields is answered in gRPC. gRPC-Web is not: its clients read the HTTP status.
pub(crate) fn is_asked(request_headers: &HeaderMap) -> bool {
    Kind::of(request_headers) == Some(Kind::Native)
}

impl Problem {
    /// The gRPC status of this one: an answer that can be asked for again is unavailable now, not gone.
    fn grpc_status(&self) -> u32 {
        match (self.code, self.retry) {
            (Code::ReplayUnavailable, Retry::SameKey) => status::UNAVAILABLE,
            (code, _) => code.grpc_status(),
        }
    }

    /// The answer to a gRPC call: HTTP 200 without a body, and the status in its head.
    pub(super) fn grpc(&self, docs: &Docs) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.grpc_status()));
        let details = STANDARD_NO_PAD.encode(self.details(docs).0);
        for (name, text) in [(GRPC_MESSAGE, message(&self.detail)), (GRPC_STATUS_DETAILS, details)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
        if let Some(pushback) = self.pushback() {
            headers.insert(GRPC_RETRY_PUSHBACK, pushback);
        }
        headers.extend(self.exchange_fields());
        response
    }

    /// The same request with the same key may come again, after this; what has to be looked at first never does by itself.
    fn pushback(&self) -> Option<HeaderValue> {
        match (self.retry, self.retry_after) {
            (Retry::SameKey, Some(after)) => {
                Some(HeaderValue::from(whole_seconds(after).saturating_mul(1000)))
            }
            (Retry::SameKey, None) => None,
            (Retry::NewKey | Retry::Stop | Retry::Reconcile, _) => Some(HeaderValue::from_static("-1")),
        }
    }

    /// `google.rpc.Status`.
    fn details(&self, docs: &Docs) -> Message {
        let mut details = vec![("google.rpc.ErrorInfo", self.error_info())];
        if let Some(after) = self.retry_after {
            let duration = Message::default().number(1, whole_seconds(after));
            details.push(("google.rpc.RetryInfo", Message::default().message(1, &duration)));
        }
        let link = Message::default().text(1, self.title()).text(2, &docs.uri(self.code));
        details.push(("google.rpc.Help", Message::default().message(1, &link)));

        let status = Message::default().number(1, self.grpc_status().into()).text(2, &self.detail);
        details.iter().fold(status, |status, (name, detail)| {
            let any = Message::default().text(1, &format!("type.googleapis.com/{name}")).message(2, detail);
            status.message(3, &any)
        })
    }

    fn error_info(&self) -> Message {
        let code = self.code.as_str();
        // As `ErrorInfo` spells reasons; the member `code` is the one of every other format.
        let info = Message::default().text(1, &code.to_ascii_uppercase().replace('-', "_")).text(2, "semel");
        let instance = self.instance.map(|id| id.urn().to_string());
        let metadata = [
            ("code", Some(code)),
            ("retry", Some(self.retry.as_str())),
            ("retryable", Some(if self.retry.is_retryable() { "true" } else { "false" })),
            ("idempotency_key", self.key.as_ref().map(crate::key::Key::as_str)),
            ("instance", instance.as_deref()),
        ];
        metadata
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .fold(info, |info, (name, value)| {
                info.message(3, &Message::default().text(1, name).text(2, value))
            })
    }
}

/// Percent-encoded as gRPC asks (PROTOCOL-HTTP2, `Status-Message`): all but printable ASCII, and the percent sign.
fn message(text: &str) -> String {
    const RESERVED: &AsciiSet = &CONTROLS.add(b'%');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A message in the wire format of Protocol Buffers: as much of it as four messages need.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u32, value: u64) -> Self {
        self.varint((field << 3).into());
        self.varint(value);
        self
    }

    fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u32, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        const LENGTH_DELIMITED: u32 = 2;
        self.varint((field << 3 | LENGTH_DELIMITED).into());
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                break;
            }
            self.0.push(low | 0x80);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use uuid::Uuid;

    use super::*;
    use crate::key::Key;

    fn asked_in(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    fn told(problem: &Problem) -> HeaderMap {
        let response = problem.render(&asked_in("application/grpc"), &Docs::default());
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.body().is_empty(), "what is in the body of a gRPC answer is a message");
        response.headers().clone()
    }

    fn details(problem: &Problem) -> Vec<u8> {
        STANDARD_NO_PAD.decode(&told(problem)["grpc-status-details-bin"]).unwrap()
    }

    /// The table, written out a second time: clients are programmed against it.
    #[test]
    fn every_code_has_the_grpc_status_that_is_published() {
        let published = [
            ("key-missing", 3),
            ("key-invalid", 3),
            ("principal-missing", 3),
            ("key-expired", 3),
            ("key-reused", 9),
            ("in-flight", 10),
            ("outcome-unknown", 2),
            ("replay-unavailable", 6),
            ("quota-exceeded", 8),
            ("overloaded", 14),
            ("body-incomplete", 10),
            ("body-too-slow", 10),
            ("content-too-large", 11),
            ("store-unavailable", 14),
            ("upstream-unreachable", 14),
            ("rolled-back", 10),
        ];
        assert_eq!(Code::ALL.map(|code| (code.as_str(), code.grpc_status())), published);
        for code in Code::ALL {
            let headers = told(&Problem::new(code));
            assert_eq!(headers["grpc-status"], code.grpc_status().to_string());
            assert_eq!(headers["content-type"], "application/grpc");
        }
    }

    /// A library repeats UNAVAILABLE at once and unseen: it may hear of it only where the same key is right.
    #[test]
    fn what_libraries_retry_by_themselves_may_be_retried_with_the_same_key() {
        for code in Code::ALL {
            assert!(code.grpc_status() != status::UNAVAILABLE || code.retry() == Retry::SameKey, "{code}");
            let pushback = told(&Problem::new(code)).get(&GRPC_RETRY_PUSHBACK).cloned();
            assert_eq!(pushback.is_none_or(|told| told != "-1"), code.retry().is_retryable(), "{code}");
        }
        let again = Problem::new(Code::ReplayUnavailable).with_retry(Retry::SameKey);
        assert_eq!(told(&again)["grpc-status"], "14", "ALREADY_EXISTS would end its retries");
        let soon = Problem::new(Code::InFlight).with_retry_after(Duration::from_millis(1200));
        assert_eq!(told(&soon)["grpc-retry-pushback-ms"], "2000");
        assert_eq!(told(&soon)["retry-after"], "2");
    }

    #[test]
    fn a_request_of_grpc_is_answered_in_grpc_and_no_other_is() {
        let problem = Problem::new(Code::KeyMissing);
        let kind = |asked: &HeaderMap| {
            problem.render(asked, &Docs::default()).headers()["content-type"].to_str().unwrap().to_owned()
        };
        for native in
            ["application/grpc", "application/grpc+proto", "Application/GRPC+json", "application/grpc;x=y"]
        {
            assert_eq!(kind(&asked_in(native)), "application/grpc", "{native}");
        }
        for other in
            ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grpcx"]
        {
            assert_eq!(kind(&asked_in(other)), "application/problem+json", "{other}");
        }
        assert_eq!(kind(&HeaderMap::new()), "application/problem+json");
    }

    /// A raw line break, or a percent sign that is none, would break the field or its reading.
    #[test]
    fn a_message_is_percent_encoded() {
        let told = |text: &'static str| {
            told(&Problem::new(Code::InFlight).with_detail(text))["grpc-message"].to_str().unwrap().to_owned()
        };
        assert_eq!(told("plain, with \"quotes\" ~"), "plain, with \"quotes\" ~");
        assert_eq!(told("100% of 2\r\n\u{7f}"), "100%25 of 2%0D%0A%7F");
        assert_eq!(told("é ☃"), "%C3%A9 %E2%98%83");
    }

    /// By hand from the wire format (protobuf.dev, "Encoding"), not by this encoder.
    #[test]
    fn the_details_are_protocol_buffers_byte_for_byte() {
        let problem = Problem::new(Code::InFlight)
            .with_detail("wait")
            .with_key(Key::from_text("k").unwrap())
            .with_instance(Uuid::nil())
            .with_retry_after(Duration::from_mins(5));
        let entry = |name: &str, value: &str| {
            let (n, v) = (u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap());
            let entry = [&[0x0a, n], name.as_bytes(), &[0x12, v], value.as_bytes()].concat();
            [&[0x1a, n + v + 4], entry.as_slice()].concat()
        };
        let info = [
            b"\x0a\x09IN_FLIGHT\x12\x05semel".to_vec(),
            entry("code", "in-flight"),
            entry("retry", "same-key"),
            entry("retryable", "true"),
            entry("idempotency_key", "k"),
            entry("instance", "urn:uuid:00000000-0000-0000-0000-000000000000"),
        ]
        .concat();
        // 300 takes two bytes, and so does the length of a message of more than 127.
        let retry = b"\x0a\x03\x08\xac\x02".to_vec();
        let title = Code::InFlight.title();
        let uri = "https://semel-rs.github.io/semel/problems/in-flight";
        let link = [
            &[0x0a, u8::try_from(title.len()).unwrap()],
            title.as_bytes(),
            &[0x12, u8::try_from(uri.len()).unwrap()],
            uri.as_bytes(),
        ]
        .concat();
        let help = [&[0x0a, u8::try_from(link.len()).unwrap()], link.as_slice()].concat();
        let length = |length: usize| {
            let (low, high) = (u8::try_from(length % 128).unwrap(), u8::try_from(length / 128).unwrap());
            if high == 0 { vec![low] } else { vec![low | 0x80, high] }
        };
        let any = |name: &str, value: &[u8]| {
            let name = format!("type.googleapis.com/google.rpc.{name}");
            let mut any = vec![0x0a, u8::try_from(name.len()).unwrap()];
            any.extend_from_slice(name.as_bytes());
            any.push(0x12);
            any.extend(length(value.len()));
            any.extend_from_slice(value);
            [vec![0x1a], length(any.len()), any].concat()
        };
        let expected = [
            b"\x08\x0a\x12\x04wait".to_vec(),
            any("ErrorInfo", &info),
            any("RetryInfo", &retry),
            any("Help", &help),
        ]
        .concat();
        assert_eq!(details(&problem), expected);
    }

    /// Servers and clients of gRPC limit a call's metadata, to 8 KiB as a rule.
    #[test]
    fn the_largest_problem_leaves_room_in_the_metadata() {
        let key = Key::from_text(&"\"".repeat(255)).unwrap();
        for code in Code::ALL {
            let problem = Problem::new(code)
                .with_key(key.clone())
                .with_instance(Uuid::nil())
                .with_retry_after(Duration::from_secs(1));
            // RFC 9113, section 6.5.2: 32 octets more a field.
            let size: usize =
                told(&problem).iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(size < 4096, "{code}: {size}");
        }
    }
}
