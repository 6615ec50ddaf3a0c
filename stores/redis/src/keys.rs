//! The names under which Redis keeps things.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX:{ID}` | a record, see `row.rs`; also the channel of its changes |
//! | `PREFIX:{ID}:a` | aside: a stored request, and after it the blob of an answer too large to be part of its record |
//! | `PREFIX:{ID}:s:NONCE` | such an answer before its completion, for an hour at most |
//! | `PREFIX:p:TAG` | a principal's records under a quota, by the end of their lives |
//! | `PREFIX:p:TAG:b`, `PREFIX:p:TAG:u` | the bytes of their bodies, and until when these count |
//! | `PREFIX:secret`, `PREFIX:{probe-N}` | the store's secret; what `health` writes |
//!
//! `ID` is a record id as 64 hexadecimal digits, and the hash tag: all of a record is in one slot.

use semel_core::record::RecordId;
use semel_core::store::{StoreError, StoreErrorKind};

use crate::error::error;

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// The prefix is part of a search pattern, so it may hold nothing that such a pattern gives a meaning to.
    pub(crate) fn new(prefix: &str) -> Result<Self, StoreError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
        if prefix.is_empty() || prefix.len() > 128 || !prefix.bytes().all(plain) {
            let message = "a prefix has 1 to 128 of: letters, digits, and . _ - : /";
            return Err(error(StoreErrorKind::Config, message));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    pub(crate) fn record(&self, id: &RecordId) -> String {
        format!("{}:{{{id}}}", self.prefix)
    }

    pub(crate) fn aside(&self, id: &RecordId) -> String {
        format!("{}:{{{id}}}:a", self.prefix)
    }

    pub(crate) fn staged(&self, id: &RecordId, nonce: u64) -> String {
        format!("{}:{{{id}}}:s:{nonce:016x}", self.prefix)
    }

    pub(crate) fn secret(&self) -> String {
        format!("{}:secret", self.prefix)
    }

    /// The keys of a probe. Its number chooses a slot, and so a node of a cluster.
    pub(crate) fn probes(&self, number: u32) -> [String; 2] {
        let probe = format!("{}:{{probe-{number}}}", self.prefix);
        [probe.clone(), probe + ":moved"]
    }

    /// Matches the records and nothing else.
    pub(crate) fn pattern(&self) -> String {
        format!("{}:{{????????????????????????????????????????????????????????????????}}", self.prefix)
    }

    /// The record that a key names.
    pub(crate) fn id(&self, key: &str) -> Option<RecordId> {
        let id = key.strip_prefix(&*self.prefix)?.strip_prefix(":{")?.strip_suffix('}')?;
        RecordId::from_hex(id)
    }
}
