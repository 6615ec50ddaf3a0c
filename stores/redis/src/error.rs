//! What Redis says, in the store's words.

use std::fmt::Display;
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use semel_core::record::codec::DecodeError;
use semel_core::store::{StoreError, StoreErrorKind};

pub(crate) const NAME: &str = "redis";

/// The code that the scripts give what does not decode.
const DAMAGED: &str = "SEMELDATA";

const NOT_ALLOWED: &str = "the user may not do what a step needs: semel-store-redis names its commands";

pub(crate) fn error(kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
    StoreError::new(NAME, kind, message)
}

pub(crate) fn undecodable(what: &str) -> StoreError {
    error(
        StoreErrorKind::Undecodable,
        format!("a record has a {what} that this version does not know: update this program, or restore it"),
    )
}

pub(crate) fn undecodable_blob(source: DecodeError) -> StoreError {
    error(StoreErrorKind::Undecodable, source.to_string()).with_source(source)
}

/// A reply of a shape that no script of ours gives.
pub(crate) fn unexpected(server: &dyn Display) -> StoreError {
    error(StoreErrorKind::Internal, format!("{server}: an answer of an unexpected shape"))
}

pub(crate) fn no_answer_within(server: &dyn Display, limit: Duration) -> StoreError {
    error(StoreErrorKind::Timeout, format!("{server}: no answer within {limit:?}"))
}

/// A step that failed.
///
/// The texts of errors that Redis returns can name keys and arguments, so only known ones are passed on.
pub(crate) fn failed(server: &dyn Display, source: RedisError) -> StoreError {
    let (kind, what) = meaning(&source);
    let error = error(kind, format!("{server}: {what}"));
    if source.is_io_error() { error.with_source(source) } else { error }
}

fn meaning(error: &RedisError) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    if error.is_timeout() {
        return (Kind::Timeout, "no answer in time");
    }
    match error.code() {
        Some(DAMAGED | "WRONGTYPE") => {
            return (Kind::Undecodable, "a record is damaged, or written by a newer version");
        }
        Some("OOM") => return (Kind::Full, "no room: maxmemory is reached; raise it"),
        Some("READONLY") => {
            return (Kind::Unavailable, "is a read-only replica: connect to the primary");
        }
        Some("LOADING") => return (Kind::Unavailable, "is still loading its data"),
        Some("MISCONF") => {
            return (Kind::Unavailable, "refuses writes, since it cannot save to its disk");
        }
        Some("MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN") => {
            return (Kind::Unavailable, "has no primary to ask now");
        }
        Some("NOREPLICAS") => return (Kind::Unavailable, "has fewer replicas than it demands"),
        Some("BUSY") => return (Kind::Contended, "is busy with somebody's script"),
        Some("MOVED" | "ASK" | "CROSSSLOT") => {
            return (Kind::Config, "is a node of a cluster: write redis+cluster:// with its address");
        }
        Some("NOPERM") => return (Kind::Config, NOT_ALLOWED),
        Some("NOAUTH" | "WRONGPASS") => return (Kind::Config, "refuses the user or the password"),
        // Redis 7.0 has no code of its own for what a script may not do.
        Some("ERR") if error.detail().is_some_and(names_a_missing_right) => {
            return (Kind::Config, NOT_ALLOWED);
        }
        _ => {}
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => (Kind::Config, "refuses the user or the password"),
        ErrorKind::Io => (Kind::Unavailable, "the connection was lost"),
        ErrorKind::Parse | ErrorKind::Client => (Kind::Unavailable, "the connection is not usable"),
        _ => (Kind::Internal, "refused a step"),
    }
}

/// Redis 7.0's words, and those of later versions.
fn names_a_missing_right(detail: &str) -> bool {
    detail.starts_with("The user executing the script can't run")
        || detail.starts_with("ACL failure in script")
}

/// What rustls says of certificates.
fn untrusted(text: &str) -> Option<&'static str> {
    let says = |words: &str| text.contains(words);
    if says("UnknownIssuer") || says("BadSignature") {
        Some("shows a certificate that nobody vouches for here: give its authority with tls_ca")
    } else if says("NotValidForName") || says("not valid for name") {
        Some("shows a certificate for another name: connect by the name that it is for")
    } else if says("certificate expired") || says("Expired") {
        Some("shows a certificate that has expired")
    } else if says("CertificateRequired") || says("HandshakeFailure") || says("BadCertificate") {
        Some("wants to see a certificate: give it with tls_cert and tls_key")
    } else if says("InvalidContentType") || says("corrupt message") {
        Some("speaks no TLS there: use redis://, or its TLS port")
    } else if says("invalid peer certificate") {
        Some("shows a certificate that is not accepted")
    } else {
        None
    }
}

/// A connection that could not be made, at start or later.
pub(crate) fn unreachable(server: &dyn Display, source: RedisError) -> StoreError {
    use StoreErrorKind as Kind;
    let text = source.to_string();
    let (kind, what) = if text.contains("switch database") {
        (Kind::Config, "has no such database: see its setting `databases`, and the number in the URL")
    } else if source.kind() == ErrorKind::AuthenticationFailed
        || matches!(source.code(), Some("NOAUTH" | "WRONGPASS"))
    {
        (Kind::Config, "refuses the user or the password")
    } else if source.is_connection_refusal() {
        (Kind::Unavailable, "refuses connections: is it running, and is this its port?")
    } else if source.is_timeout() {
        (Kind::Timeout, "no connection in time")
    } else if let Some(what) = untrusted(&text) {
        (Kind::Config, what)
    } else if text.contains("lookup") || text.contains("resolve") || text.contains("No address") {
        (Kind::Unavailable, "this name has no address")
    } else if source.is_io_error() {
        (Kind::Unavailable, "cannot be reached")
    } else {
        return failed(server, source);
    };
    let error = error(kind, format!("{server}: {what}"));
    if source.is_io_error() { error.with_source(source) } else { error }
}
