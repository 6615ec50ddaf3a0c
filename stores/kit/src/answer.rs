//! Answers on their way into a store and out of it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{Completion, NotKept, Record, StoredBody, Timestamp, codec};
use semel_core::store::{StoreError, StoreErrorKind};

use crate::Row;

/// A completion as it is written, made on its caller's time.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The completion, as [`codec`] writes it.
    pub blob: Vec<u8>,
    /// The answer's status, for lists.
    pub status: Option<StatusCode>,
    /// Bytes of the kept body; `None` where none is kept.
    pub body_bytes: Option<u64>,
}

impl Encoded {
    /// Encodes a completion for the store of this name, whose bodies have at most `most` bytes.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a larger body.
    pub fn new(completion: &Completion, store: &'static str, most: Option<u64>) -> Result<Self, StoreError> {
        let response = completion.response.as_ref();
        let body_bytes = response.and_then(|response| match &response.body {
            StoredBody::Kept(body) => Some(body.len() as u64),
            StoredBody::NotKept(_) => None,
        });
        match (most, body_bytes) {
            (Some(most), Some(bytes)) if bytes > most => Err(StoreError::new(
                store,
                StoreErrorKind::TooLarge,
                format!("a body of {bytes} bytes is larger than the {most} it takes"),
            )),
            _ => {
                let status = response.map(|response| response.status);
                Ok(Self { blob: codec::encode(completion), status, body_bytes })
            }
        }
    }
}

/// A completed record whose answer is still in one piece: the caller decodes it on its own time.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The record.
    pub row: Row,
    /// The answer, as it is written.
    pub blob: Option<Vec<u8>>,
    /// The store's clock when it was read.
    pub now: Timestamp,
}

impl Sealed {
    /// Decodes the answer, for the store of this name. A body whose life is over is left out.
    ///
    /// # Errors
    ///
    /// `Undecodable` for an answer that is missing, damaged, or of a newer version.
    pub fn open(self, store: &'static str) -> Result<Record, StoreError> {
        let Self { row, blob, now } = self;
        let undecodable = |text: String| StoreError::new(store, StoreErrorKind::Undecodable, text);
        let blob = blob.ok_or_else(|| undecodable("a completed record has no answer".into()))?;
        let mut completion = codec::decode(&Bytes::from(blob))
            .map_err(|error| undecodable(error.to_string()).with_source(error))?;
        if row.body_over(now) {
            completion = codec::without_body(&completion, NotKept::Expired);
        }
        Ok(Record { view: row.view(now), completion: Arc::new(completion) })
    }
}

/// The same answer without its body, whose life is over, as it is written; `None` if it does not decode.
pub fn drop_body(blob: Vec<u8>) -> Option<Vec<u8>> {
    let completion = codec::decode(&Bytes::from(blob)).ok()?;
    Some(codec::encode(&codec::without_body(&completion, NotKept::Expired)))
}
