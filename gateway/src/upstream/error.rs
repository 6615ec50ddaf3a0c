//! What went wrong between the gateway and the application, and whether the application may have seen the request.

use std::error::Error as StdError;
use std::{fmt, io};

pub use semel_core::engine::Dispatch;
use semel_core::engine::{Failure, FailureKind};

/// An error of any type.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A request to the application failed, or its answer did.
#[derive(Debug)]
pub struct UpstreamError {
    kind: UpstreamErrorKind,
    dispatch: Dispatch,
    source: Option<BoxError>,
}

/// The kinds of [`UpstreamError`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamErrorKind {
    /// No connection could be made: no route, no such name, or a set-up that failed.
    Unreachable,
    /// The connection was refused: nothing listens there.
    Refused,
    /// No connection within [`Timeouts::connect`](crate::Timeouts::connect).
    ConnectTimeout,
    /// As many requests are under way as [`Limits::upstream_requests`](crate::Limits::upstream_requests) allows.
    Overloaded,
    /// The application said that it did not process the request: HTTP/2 REFUSED_STREAM, or a GOAWAY whose last
    /// stream is an earlier one (RFC 9113, 8.7).
    NotProcessed,
    /// The connection ended before an answer.
    Reset,
    /// No head of an answer within [`Timeouts::response`](crate::Timeouts::response).
    ResponseTimeout,
    /// The application sent something that is no HTTP answer, or one beyond the limits.
    Malformed,
    /// The answer ended before its end.
    Truncated,
    /// The answer stood still for [`Timeouts::body_idle`](crate::Timeouts::body_idle).
    BodyTimeout,
    /// The request's own body failed: its client hung up, or sent a malformed one.
    RequestBody,
    /// The request's own body stood still for [`Timeouts::response`](crate::Timeouts::response).
    RequestBodyTimeout,
    /// The gateway does not forward such requests, `CONNECT` for one.
    Unsupported,
}

impl UpstreamError {
    pub(crate) fn new(
        kind: UpstreamErrorKind,
        dispatch: Dispatch,
        source: impl Into<Option<BoxError>>,
    ) -> Self {
        Self { kind, dispatch, source: source.into() }
    }

    /// A connection that could not be made.
    pub(crate) fn connect(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::ConnectionRefused {
            UpstreamErrorKind::Refused
        } else {
            UpstreamErrorKind::Unreachable
        };
        Self::new(kind, Dispatch::Never, Some(error.into()))
    }

    /// What went wrong.
    pub fn kind(&self) -> UpstreamErrorKind {
        self.kind
    }

    /// Whether the application may have seen the request.
    pub fn dispatch(&self) -> Dispatch {
        self.dispatch
    }

    /// The same for the engine, which decides what becomes of the key.
    pub fn failure(&self) -> Failure {
        let kind = match self.kind {
            UpstreamErrorKind::ResponseTimeout | UpstreamErrorKind::BodyTimeout => {
                FailureKind::UpstreamTimeout
            }
            _ => FailureKind::Upstream,
        };
        Failure { dispatch: self.dispatch, kind }
    }

    /// What lies beneath, for the log.
    pub(crate) fn source_text(&self) -> Option<String> {
        self.source.as_ref().map(ToString::to_string)
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UpstreamErrorKind::Unreachable => "the upstream cannot be reached",
            UpstreamErrorKind::Refused => "the upstream refused the connection",
            UpstreamErrorKind::ConnectTimeout => "connecting to the upstream took too long",
            UpstreamErrorKind::Overloaded => "too many requests to the upstream are under way",
            UpstreamErrorKind::NotProcessed => "the upstream said that it did not process the request",
            UpstreamErrorKind::Reset => "the upstream closed the connection without an answer",
            UpstreamErrorKind::ResponseTimeout => "the upstream took too long to answer",
            UpstreamErrorKind::Malformed => "the upstream's answer is malformed or too large",
            UpstreamErrorKind::Truncated => "the upstream's answer ended early",
            UpstreamErrorKind::BodyTimeout => "the upstream's answer stood still",
            UpstreamErrorKind::RequestBody => "the request's body is incomplete or malformed",
            UpstreamErrorKind::RequestBodyTimeout => "the request's body stood still",
            UpstreamErrorKind::Unsupported => "the gateway does not forward this kind of request",
        })
    }
}

impl StdError for UpstreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
