//! Sealed bytes: what they look like, and what they are bound to.
//!
//! ```text
//! F5 'S' 'x' version │ key id, 4 bytes │ nonce, 24 │ tag, 16 │ ciphertext
//! ```
//!
//! Numbers are big-endian. The associated data is `semel/sealed/`, the version, what it is (answer, body, progress
//! or request), the [`RecordId`], the key id and the status of the answer, or 0: all of fixed length, so that
//! no two meanings share bytes.

use chacha20poly1305::aead::AeadInOut as _;
use http::StatusCode;
use semel_core::record::RecordId;
use semel_core::store::{StoreError, StoreErrorKind};

use super::keys::{KeyId, Keyring};

const MAGIC: [u8; 3] = [0xF5, b'S', b'x'];
const VERSION: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
const PREFIX: usize = 4 + 4;
const HEADER: usize = PREFIX + NONCE + TAG;

/// What is sealed: one is never taken for another.
#[derive(Clone, Copy)]
pub(super) enum What {
    Answer,
    Body,
    Progress,
    Request,
}

/// What sealed bytes are bound to.
#[derive(Clone, Copy)]
pub(super) struct Bound<'r> {
    pub(super) what: What,
    pub(super) id: &'r RecordId,
    /// It stays readable beside an answer, so it is bound to it.
    pub(super) status: Option<StatusCode>,
}

impl Bound<'_> {
    fn associated(&self, key: KeyId) -> [u8; 13 + 2 + 32 + 4 + 2] {
        let what = match self.what {
            What::Answer => 1,
            What::Body => 2,
            What::Progress => 3,
            What::Request => 4,
        };
        let mut bytes = [0; 53];
        bytes[..13].copy_from_slice(b"semel/sealed/");
        bytes[13..15].copy_from_slice(&[VERSION, what]);
        bytes[15..47].copy_from_slice(self.id.as_bytes());
        bytes[47..51].copy_from_slice(&key.0.to_be_bytes());
        let status = self.status.map_or(0, |status| status.as_u16());
        bytes[51..].copy_from_slice(&status.to_be_bytes());
        bytes
    }
}

/// Ciphertext, as long as what it hides, and what opens it beside the key.
pub(super) struct Detached {
    pub(super) seal: Seal,
    pub(super) bytes: Vec<u8>,
}

/// Of one ciphertext: what is not secret and has to be kept.
#[derive(Clone, Copy)]
pub(super) struct Seal {
    pub(super) nonce: [u8; NONCE],
    pub(super) tag: [u8; TAG],
}

impl Seal {
    pub(super) const BYTES: usize = NONCE + TAG;

    pub(super) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (nonce, rest) = bytes.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        Some((Self { nonce: *nonce, tag: *tag }, rest))
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.nonce);
        to.extend_from_slice(&self.tag);
    }
}

/// Whether these bytes say that they are sealed, by whatever version.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl Keyring {
    /// Encrypts in place, by the current key.
    pub(super) fn seal(&self, bound: Bound<'_>, mut bytes: Vec<u8>) -> Result<(KeyId, Detached), SealError> {
        let (id, key) = self.current().ok_or(SealError::Failed)?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Failed)?;
        let associated = bound.associated(id);
        let tag = key
            .cipher()
            .encrypt_inout_detached(&nonce.into(), &associated, bytes.as_mut_slice().into())
            .map_err(|_| SealError::Failed)?;
        Ok((id, Detached { seal: Seal { nonce, tag: tag.into() }, bytes }))
    }

    pub(super) fn open(&self, bound: Bound<'_>, id: KeyId, sealed: Detached) -> Result<Vec<u8>, SealError> {
        let key = self.find(id).ok_or(SealError::UnknownKey(id))?;
        let Detached { seal, mut bytes } = sealed;
        let associated = bound.associated(id);
        key.cipher()
            .decrypt_inout_detached(
                &seal.nonce.into(),
                &associated,
                bytes.as_mut_slice().into(),
                &seal.tag.into(),
            )
            .map_err(|_| SealError::Changed(id))?;
        Ok(bytes)
    }

    pub(super) fn seal_whole(&self, bound: Bound<'_>, bytes: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let (id, sealed) = self.seal(bound, bytes)?;
        let mut whole = Vec::with_capacity(HEADER + sealed.bytes.len());
        whole.extend_from_slice(&MAGIC);
        whole.push(VERSION);
        whole.extend_from_slice(&id.0.to_be_bytes());
        sealed.seal.write(&mut whole);
        whole.extend_from_slice(&sealed.bytes);
        Ok(whole)
    }

    /// What was sealed, and by which key.
    pub(super) fn open_whole(&self, bound: Bound<'_>, whole: &[u8]) -> Result<(KeyId, Vec<u8>), SealError> {
        if !is_sealed(whole) {
            return Err(SealError::NotSealed);
        }
        let (prefix, rest) = whole.split_first_chunk::<PREFIX>().ok_or(SealError::Malformed)?;
        let [_, _, _, version, id @ ..] = *prefix;
        if version != VERSION {
            return Err(SealError::Version(version));
        }
        let id = KeyId(u32::from_be_bytes(id));
        let (seal, bytes) = Seal::split(rest).ok_or(SealError::Malformed)?;
        Ok((id, self.open(bound, id, Detached { seal, bytes: bytes.to_vec() })?))
    }
}

/// Why something was not sealed or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("a record is not sealed; `Seal::accept_unsealed` reads those from before sealing began")]
    NotSealed,
    #[error("a record was sealed in format {0}, which this program does not read: update it")]
    Version(u8),
    #[error("a record was sealed by key {0}, which is not among the keys: keep old keys for a record's life")]
    UnknownKey(KeyId),
    #[error("a record does not open with key {0}: it was changed, or moved, or another key has that number")]
    Changed(KeyId),
    #[error("a sealed record is damaged")]
    Malformed,
    #[error("a record could not be sealed: the operating system gave no random numbers")]
    Failed,
}

impl SealError {
    pub(super) fn of(self, store: &'static str) -> StoreError {
        let kind = match self {
            Self::Failed => StoreErrorKind::Internal,
            Self::NotSealed | Self::Version(_) | Self::UnknownKey(_) | Self::Changed(_) | Self::Malformed => {
                StoreErrorKind::Undecodable
            }
        };
        StoreError::new(store, kind, self.to_string())
    }
}
