//! What of gRPC over HTTP/2 the rest has to know: whether a message is of it, and the status that a call ended with.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

/// `grpc-status`: in the trailer section, or in the head of an answer that is nothing else.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-accept-encoding`: the codings of messages that a caller takes.
pub(crate) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The content type of both directions.
pub(crate) const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The status codes that Semel itself answers with.
pub(crate) mod status {
    pub(crate) const UNKNOWN: u32 = 2;
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const ALREADY_EXISTS: u32 = 6;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const FAILED_PRECONDITION: u32 = 9;
    pub(crate) const ABORTED: u32 = 10;
    pub(crate) const OUT_OF_RANGE: u32 = 11;
    pub(crate) const UNAVAILABLE: u32 = 14;
}

/// Where a message of gRPC carries its trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the trailer section.
    Native,
    /// In the body: gRPC-Web.
    Web,
}

impl Kind {
    /// By the content type; `None` for what is no gRPC.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.as_bytes();
        let (prefix, rest) = value.split_at_checked(b"application/grpc".len())?;
        if !prefix.eq_ignore_ascii_case(b"application/grpc") {
            return None;
        }
        match rest.first() {
            None | Some(b'+' | b';' | b' ' | b'\t') => Some(Self::Native),
            Some(b'-') => Some(Self::Web),
            Some(_) => None,
        }
    }
}

/// The gRPC status of a field section; one that does not parse, or is said in two ways, reads as UNKNOWN.
pub(crate) fn status_of(fields: &HeaderMap) -> Option<u32> {
    let mut values = fields.get_all(GRPC_STATUS).iter();
    let first = values.next()?;
    if values.any(|value| value != first) {
        return Some(status::UNKNOWN);
    }
    Some(first.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(status::UNKNOWN))
}
