//! The key of one step, to hand on as the idempotency key of whoever is called.

use std::fmt;

use uuid::Uuid;

use crate::identity::Secret;
use crate::record::RecordId;

/// A step's own key: the same at every attempt and in every process, another for each step and each record.
///
/// A UUID of version 8 (RFC 9562, section 5.8) in its 36 characters, made of the store's secret, the record and the
/// step's name: no provider can tell from it what the client's key was. Hand it on as *its* idempotency key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StepKey(String);

impl StepKey {
    /// The key of this step of this record, in a store with this secret.
    pub fn derive(secret: &Secret, record: &RecordId, step: &str) -> Self {
        let mut keyed = secret.keyed("semel/step/1");
        keyed.field(record.as_bytes());
        keyed.field(step.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&keyed.finish()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string())
    }

    /// 36 characters: hexadecimal digits and hyphens.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as a number.
    pub fn to_uuid(&self) -> Uuid {
        // It was made from one.
        self.0.parse().unwrap_or_default()
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for StepKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Whoever has a provider's key can ask for what was answered under it.
impl fmt::Debug for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: u8, record: u8, step: &str) -> StepKey {
        StepKey::derive(&Secret::from_bytes([secret; 32]), &RecordId::from_bytes([record; 32]), step)
    }

    /// A provider remembers it for days: a change of these bytes charges twice.
    #[test]
    fn it_never_changes() {
        assert_eq!(key(7, 1, "charge").as_str(), "ed1a9d97-e990-8a8b-b04d-d16da0e7c7d5");
    }

    #[test]
    fn it_is_another_for_each_step_record_and_store_and_a_valid_uuid() {
        let keys = [key(7, 1, "a"), key(7, 1, "b"), key(7, 2, "a"), key(8, 1, "a")];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
            assert_eq!(key.as_str().parse::<Uuid>().unwrap(), key.to_uuid());
            assert_eq!((key.as_str().len(), key.to_uuid().get_version_num()), (36, 8));
        }
        assert_eq!(format!("{:?}", keys[0]), "StepKey(..)");
    }
}
