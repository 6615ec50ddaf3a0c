//! A small value from which the application can make an answer again.

use bytes::Bytes;

/// What an application needs to make an answer again: an id, a row's key, a version. At most
/// [`MAX`](Self::MAX) bytes, because it is kept for as long as the record.
///
/// It is stored as it is given, so it holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference(Bytes);

impl Reference {
    /// The most bytes.
    pub const MAX: usize = 1024;

    /// Takes bytes as they are.
    ///
    /// # Errors
    ///
    /// There are more than [`MAX`](Self::MAX) of them. The same bytes will never do.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, ReferenceTooLarge> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX { Err(ReferenceTooLarge { bytes: bytes.len() }) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reference({} bytes)", self.0.len())
    }
}

/// Too many bytes for a [`Reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reference may have {} bytes, and this one has {bytes}: keep an id, not the answer",
    Reference::MAX
)]
#[non_exhaustive]
pub struct ReferenceTooLarge {
    /// How many it has.
    pub bytes: usize,
}
