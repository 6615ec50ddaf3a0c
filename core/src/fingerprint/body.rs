//! The body's digest: taken while the body arrives where its bytes count, at its end where its meaning does.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use sha2::{Digest as _, Sha256};

use super::{BodyMode, Exclusion, FingerprintSettings, Hash, json};

/// Hashes a body as the settings and its content type ask.
///
/// Give it every chunk with [`update`](Self::update) and the whole body with [`finish`](Self::finish).
#[must_use]
pub struct BodyHasher(Plan);

enum Plan {
    Json { exclude: Vec<Exclusion>, hash: Hash },
    Raw(Running),
    Off,
}

impl BodyHasher {
    /// Chooses by the settings and the request's `Content-Type`. Two such fields are not JSON.
    pub fn new(settings: &FingerprintSettings, headers: &HeaderMap) -> Self {
        Self(match settings.body {
            BodyMode::Json if is_json(headers) => {
                Plan::Json { exclude: settings.exclude.clone(), hash: settings.hash }
            }
            BodyMode::Json | BodyMode::Raw => Plan::Raw(Running::new(settings.hash)),
            BodyMode::Off => Plan::Off,
        })
    }

    /// Takes the next chunk of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        if let Plan::Raw(running) = &mut self.0 {
            running.update(chunk);
        }
    }

    /// Ends with the whole body, which JSON is read from. Bytes that [`update`](Self::update) has hashed are
    /// not hashed again.
    pub fn finish(self, body: &[u8]) -> BodyDigest {
        match self.0 {
            Plan::Json { exclude, hash } => match json::canonical_digest(body, &exclude, hash) {
                Some(digest) => BodyDigest { applied: Applied::Json(digest), hash },
                None => BodyDigest { applied: Applied::Raw(hash.digest(body)), hash },
            },
            Plan::Raw(running) => running.finish(),
            Plan::Off => BodyDigest { applied: Applied::Off, hash: Hash::default() },
        }
    }
}

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Plan::Json { .. } => "BodyHasher(json)",
            Plan::Raw(_) => "BodyHasher(raw)",
            Plan::Off => "BodyHasher(off)",
        })
    }
}

/// What a body came to. It is not keyed, so it is for [`FingerprintSettings::fingerprint`] and not to be
/// stored or shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest {
    applied: Applied,
    hash: Hash,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    Json([u8; 32]),
    Raw([u8; 32]),
    Off,
}

impl BodyDigest {
    /// The mode that really applied, with its hash: a body that only looked like JSON is `raw`.
    pub(super) fn mode(&self) -> &'static str {
        match (self.applied, self.hash) {
            (Applied::Json(_), Hash::Sha256) => "json/sha256",
            (Applied::Raw(_), Hash::Sha256) => "raw/sha256",
            #[cfg(feature = "blake3")]
            (Applied::Json(_), Hash::Blake3) => "json/blake3",
            #[cfg(feature = "blake3")]
            (Applied::Raw(_), Hash::Blake3) => "raw/blake3",
            (Applied::Off, _) => "off",
        }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.applied {
            Applied::Json(digest) | Applied::Raw(digest) => Some(digest),
            Applied::Off => None,
        }
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyDigest({})", self.mode())
    }
}

enum Running {
    Sha256(Sha256),
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
}

impl Running {
    fn new(hash: Hash) -> Self {
        match hash {
            Hash::Sha256 => Self::Sha256(Sha256::new()),
            #[cfg(feature = "blake3")]
            Hash::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, chunk: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(chunk),
            #[cfg(feature = "blake3")]
            Self::Blake3(hasher) => {
                hasher.update(chunk);
            }
        }
    }

    fn finish(self) -> BodyDigest {
        match self {
            Self::Sha256(hasher) => {
                BodyDigest { applied: Applied::Raw(hasher.finalize().into()), hash: Hash::Sha256 }
            }
            #[cfg(feature = "blake3")]
            Self::Blake3(hasher) => {
                BodyDigest { applied: Applied::Raw(hasher.finalize().into()), hash: Hash::Blake3 }
            }
        }
    }
}

impl Hash {
    pub(super) fn digest(self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Self::Sha256 => Sha256::digest(bytes).into(),
            #[cfg(feature = "blake3")]
            Self::Blake3 => blake3::hash(bytes).into(),
        }
    }
}

/// A content type without its parameters, in lower case (RFC 9110, section 8.3.1).
pub(super) fn essence(value: &[u8]) -> Cow<'_, [u8]> {
    let end = value.iter().position(|octet| *octet == b';').unwrap_or(value.len());
    let essence = value[..end].trim_ascii();
    if essence.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(essence.to_ascii_lowercase())
    } else {
        Cow::Borrowed(essence)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let essence = essence(line.as_bytes());
    let Some(slash) = essence.iter().position(|octet| *octet == b'/') else { return false };
    let (kind, subtype) = (&essence[..slash], &essence[slash + 1..]);
    match subtype {
        b"json" => matches!(kind, b"application" | b"text"),
        _ => !kind.is_empty() && subtype.ends_with(b"+json") && !subtype.contains(&b','),
    }
}
