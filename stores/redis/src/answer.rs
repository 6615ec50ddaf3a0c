//! A completion as it is written: a part of its record, or beside it.

use std::time::Duration;

use redis::Cmd;
use semel_core::record::{Completion, NotKept, RecordId, Retention, StoredBody, codec};

use crate::keys::Keys;
use crate::row::{self, Seal};
use crate::scripts::Call;

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

    fn is_inline(&self) -> bool {
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
            let mut cmd = redis::cmd("SET");
            cmd.arg(keys.staged(id, self.nonce)).arg(&self.blob[..]).arg("PX").arg(row::millis(STAGED_FOR));
            cmd
        })
    }

    pub(crate) fn put(&self, call: Call, keep: &Retention) -> Call {
        let call = call.arg(if self.is_inline() { "i" } else { "k" });
        let call = call.number(self.status).number(self.body_bytes());
        let call = if self.is_inline() { call.arg(&self.blob[..]) } else { call.arg(self.seal()) };
        call.maybe(self.body_bytes.map(|_| row::millis(keep.body))).number(row::millis(keep.record))
    }
}
