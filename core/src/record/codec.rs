//! The blobs that stores keep: for a completion, for a request, and for the progress of a run's steps.
//!
//! # Format
//!
//! ```text
//! 'S' kind version min_reader crc32 │ CBOR map (RFC 8949)
//! ```
//!
//! * `kind` is `c` for a completion, `r` for a request and `p` for progress.
//! * `version` says who wrote it, `min_reader` the oldest version that can read it. A reader skips map keys that
//!   it does not know, so version N reads what N + 1 wrote. A writer raises `min_reader` only when an old
//!   reader would answer wrongly without the new field; such a blob is refused as
//!   [`DecodeErrorKind::Newer`], never read as absent.
//! * `crc32` (IEEE, big-endian) covers the four bytes before it and the whole map, body included: SQLite and most
//!   servers do not checksum their pages, and a byte that flipped in a body would be replayed as the answer to
//!   a payment. It guards against accidents, not against somebody who writes to the table.
//! * Map keys are unsigned integers and never get a new meaning. The body is the last field of a completion.
//!   Names and values of fields are byte strings in one flat array `[name, value, name, value, …]`, repeated names
//!   in their order.
//!
//! These eight bytes mean the same in every version.

mod completion;
mod envelope;
mod progress;
mod request;

use bytes::Bytes;

use crate::steps::Progress;

use super::{Completion, NotKept, StoredBody, StoredRequest};
use envelope::Kind;

/// The format that this program writes.
pub const VERSION: u8 = 1;

/// Turns a completion into the blob that a store keeps.
///
/// ```
/// use semel_core::record::{Completion, codec};
/// let completion = Completion { response: None, reference: Some("order/17".into()) };
/// let blob = codec::encode(&completion);
/// assert_eq!(codec::decode(&blob.into())?, completion);
/// # Ok::<(), codec::DecodeError>(())
/// ```
pub fn encode(completion: &Completion) -> Vec<u8> {
    envelope::seal(Kind::Completion, completion::capacity(completion), |cbor| {
        completion::write(cbor, completion)
    })
}

/// Reads a completion. Body and reference share the memory of `blob`.
pub fn decode(blob: &Bytes) -> Result<Completion, DecodeError> {
    let mut fields = envelope::open(Kind::Completion, blob)?;
    completion::read(&mut fields)
}

/// Turns a request into the blob that a store keeps.
pub fn encode_request(request: &StoredRequest) -> Vec<u8> {
    envelope::seal(Kind::Request, request.body.len() + 512, |cbor| request::write(cbor, request))
}

/// Reads a request. Its body shares the memory of `blob`.
pub fn decode_request(blob: &Bytes) -> Result<StoredRequest, DecodeError> {
    let mut fields = envelope::open(Kind::Request, blob)?;
    request::read(&mut fields)
}

/// Turns the progress of a run's steps into the blob that a store keeps.
pub fn encode_progress(progress: &Progress) -> Vec<u8> {
    envelope::seal(Kind::Progress, progress::capacity(progress), |cbor| progress::write(cbor, progress))
}

/// Reads the progress of a run's steps. Results share the memory of `blob`.
pub fn decode_progress(blob: &Bytes) -> Result<Progress, DecodeError> {
    let mut fields = envelope::open(Kind::Progress, blob)?;
    progress::read(&mut fields)
}

/// The same completion without its body, and why. One that has no kept body stays as it is.
#[must_use]
pub fn without_body(completion: &Completion, why: NotKept) -> Completion {
    let mut rest = completion.clone();
    if let Some(response) = &mut rest.response
        && matches!(response.body, StoredBody::Kept(_))
    {
        response.body = StoredBody::NotKept(why);
        // A trailer section ends a body; without one there is nothing that it could end.
        response.trailers = None;
    }
    rest
}

/// A blob that this program cannot read. It is never the same as no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct DecodeError {
    kind: DecodeErrorKind,
    what: &'static str,
}

impl DecodeError {
    const fn corrupt(what: &'static str) -> Self {
        Self { kind: DecodeErrorKind::Corrupt, what }
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    fn text(&self) -> String {
        match self.kind {
            DecodeErrorKind::Newer { version, min_reader } => format!(
                "the {} was written by format version {version} and needs a reader of at least {min_reader}; \
                 this one reads {VERSION}: update this program",
                self.what
            ),
            DecodeErrorKind::Corrupt => format!("the stored bytes are damaged: {}", self.what),
        }
    }
}

/// Why a blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the bytes are too new or they are wrong")]
pub enum DecodeErrorKind {
    /// Its writer says that this program is too old for it.
    Newer {
        /// The format of the writer.
        version: u8,
        /// The oldest format that can read it.
        min_reader: u8,
    },
    /// Truncated, damaged, or never written by Semel.
    Corrupt,
}
