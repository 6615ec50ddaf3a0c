//! A completion as it is written: a part of its record, or beside it.

use std::time::Duration;

use bytes::BufMut as _;
use redis::Cmd;
use semel_core::record::{Completion, NotKept, RecordId, Retention, StoredBody, codec};

use crate::keys::Keys;
use crate::row::{self, Seal};

/// A blob up to this size is a part of its record: one key, one command. Beyond it, Lua would cost more than a key.
const INLINE: usize = 1024;
/// How long a staged answer waits for its completion, which is right behind it on the same connection.
const STAGED_FOR: Duration = Duration::from_hours(1);

/// A completion as it is written.
pub(crate) struct Answer {
    blob: Vec<u8>,
    status: u16,
    body_bytes: Option<u64>,
    /// Names it beside its record until the completion takes it: a repeat never writes over what was taken.
    pub(crate) nonce: u64,
    /// Without its body, for want of room: goes the way of small ones.
    pub(crate) is_bare: bool,
}

impl Answer {
    pub(crate) fn new(completion: &Completion) -> Self {
        let response = completion.response.as_ref();
        let body_bytes = response.and_then(|response| match &response.body {
            StoredBody::Kept(body) => Some(body.len() as u64),
            StoredBody::NotKept(_) => None,
        });
        let status = response.map_or(0, |response| response.status.as_u16());
        Self { blob: codec::encode(completion), status, body_bytes, nonce: fastrand::u64(..), is_bare: false }
    }

    pub(crate) fn bare(completion: &Completion) -> Self {
        Self { is_bare: true, ..Self::new(&codec::without_body(completion, NotKept::NoRoom)) }
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes.unwrap_or(0)
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.is_bare || self.blob.len() <= INLINE
    }

    fn seal(&self) -> Seal {
        let mut seal = Seal::default();
        let length = seal.len().min(self.blob.len());
        seal[..length].copy_from_slice(&self.blob[..length]);
        seal
    }

    /// The command that writes it beside the record, where nobody reads it yet and where it does not stay.
    pub(crate) fn stage(&self, keys: &Keys, id: &RecordId) -> Option<Cmd> {
        (!self.is_inline()).then(|| {
            let mut cmd = Cmd::with_capacity(5, self.blob.len() + 256);
            cmd.arg("SET")
                .arg(keys.staged(id, self.nonce))
                .arg(&self.blob[..])
                .arg("PX")
                .arg(row::millis(STAGED_FOR));
            cmd
        })
    }

    /// What a completed record ends with, after the instant of its completion: see `row.rs`.
    pub(crate) fn end(&self, keep: &Retention) -> Vec<u8> {
        let blob = if self.is_inline() { &self.blob[..] } else { &self.seal() };
        let mut end = Vec::with_capacity(27 + blob.len());
        end.put_u64(row::millis(keep.record));
        end.put_u64(self.body_bytes.map_or(0, |_| row::millis(keep.body) + 1));
        end.put_u16(self.status);
        end.put_u64(self.body_bytes());
        end.put_u8(if self.is_inline() { b'i' } else { b'k' });
        end.put_slice(blob);
        end
    }
}
