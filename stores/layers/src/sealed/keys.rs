//! The keys that seal, by their numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroize as _;

/// The public number of a [`SealingKey`]. It is written beside what the key sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number by name")]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 256 bits that seal records. Kept in one place in memory, wiped when dropped, and never printed.
///
/// Another key than the store's own [`Secret`](semel_core::identity::Secret), which may lie beside the records.
pub struct SealingKey(Box<XChaCha20Poly1305>);

impl SealingKey {
    /// Takes 32 bytes from a source of real randomness. The caller wipes its own copy.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        // By reference: a converted copy would stay on the stack.
        let key = Self(Box::new(XChaCha20Poly1305::new((&bytes).into())));
        bytes.zeroize();
        key
    }

    /// Reads exactly 32 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        XChaCha20Poly1305::new_from_slice(bytes).ok().map(|cipher| Self(Box::new(cipher)))
    }

    pub(super) fn cipher(&self) -> &XChaCha20Poly1305 {
        &self.0
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// All keys that open, and the one that seals.
#[derive(Clone)]
pub(crate) struct Keyring {
    current: KeyId,
    keys: Arc<BTreeMap<KeyId, SealingKey>>,
}

impl Keyring {
    /// `Err` with the number that was named twice.
    pub(crate) fn new(
        current: (KeyId, SealingKey),
        old: impl IntoIterator<Item = (KeyId, SealingKey)>,
    ) -> Result<Self, KeyId> {
        let (id, key) = current;
        let mut keys = BTreeMap::from([(id, key)]);
        for (old, key) in old {
            if keys.insert(old, key).is_some() {
                return Err(old);
            }
        }
        Ok(Self { current: id, keys: Arc::new(keys) })
    }

    pub(super) fn current(&self) -> Option<(KeyId, &SealingKey)> {
        Some((self.current, self.keys.get(&self.current)?))
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&SealingKey> {
        self.keys.get(&id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.keys().map(|id| id.0).collect();
        f.debug_struct("Keyring").field("current", &self.current.0).field("ids", &ids).finish()
    }
}
