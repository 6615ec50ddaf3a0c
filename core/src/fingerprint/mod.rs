//! The fingerprint: tells a request that is sent again from another one under the same key.
//!
//! It is HMAC-SHA-256, keyed by the store's [`Secret`], over the method, the authority, the path, the query
//! as it was sent, the content type without its parameters, chosen fields and a digest of the body. The body
//! is hashed alone, while it arrives, and mixed in at the end. JSON bodies are compared by what they mean:
//!
//! * The order of an object's members, white space and the spelling of strings do not matter.
//! * Numbers compare by their exact decimal value: `1.0`, `1` and `10e-1` are equal, as are `0` and `-0`;
//!   `9007199254740993` and `9007199254740992` are not.
//! * The order of an array, `null` against absent, and duplicate members in their order do matter.
//! * What is no JSON text of RFC 8259 in UTF-8 (invalid, empty, with a byte order mark or a lone surrogate),
//!   is nested deeper than 128, or has an exponent of more than 18 digits, is compared byte by byte.

mod body;
mod exclusion;
mod json;
mod number;
#[cfg(feature = "jsonpath")]
mod path;
mod pointer;
mod settings;

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Method};

use crate::identity::{Keyed, Secret};
use crate::record::Fingerprint;

pub use body::{BodyDigest, BodyHasher};
pub use exclusion::{BadExclusion, Exclusion};
#[cfg(feature = "jsonpath")]
pub use path::{BadPath, JsonPath};
pub use pointer::{BadPointer, Pointer};
pub use settings::BadSettings;

/// What goes into a fingerprint, and how.
///
/// ```
/// use semel_core::fingerprint::FingerprintSettings;
///
/// let settings = FingerprintSettings { exclude: vec!["/meta/ts".parse()?], ..Default::default() };
/// assert_eq!(&*settings.to_settings(), "1;json;x=/meta/ts");
/// # Ok::<(), semel_core::fingerprint::BadExclusion>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FingerprintSettings {
    /// How bodies are compared.
    pub body: BodyMode,
    /// Members and elements of JSON bodies that do not count. Where one is named by a pointer or a path it is as if
    /// it were absent; of duplicate members all are. Bodies compared byte by byte keep them.
    pub exclude: Vec<Exclusion>,
    /// Fields whose values count, repeated ones in their order.
    pub headers: Vec<HeaderName>,
    /// Whether the authority counts.
    pub host: HostMode,
    /// The hash of bodies.
    pub hash: Hash,
}

/// How bodies are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyMode {
    /// By meaning where the content type is JSON (`application/json`, `text/json`, any `+json`), byte by byte
    /// elsewhere.
    #[default]
    Json,
    /// Byte by byte.
    Raw,
    /// Not at all: any body under the same key is the same request.
    Off,
}

/// Whether the authority (`Host`, `:authority`) counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostMode {
    /// It counts, letters of either case being equal. `a` and `a:443` differ: no default port is guessed.
    #[default]
    Exact,
    /// It does not: one service under several names.
    Any,
}

/// The hash of bodies. Each is collision-resistant: a collision would answer one request with another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hash {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE3, faster on large bodies.
    #[cfg(feature = "blake3")]
    Blake3,
}

/// What a fingerprint takes from a request besides its body.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The authority as it was received, if there was one.
    pub authority: Option<&'a str>,
    /// The path as it was received.
    pub path: &'a str,
    /// The query as it was received, without its question mark.
    pub query: Option<&'a str>,
    /// The fields.
    pub headers: &'a HeaderMap,
}

impl FingerprintSettings {
    /// Mixes the parts of a request into its fingerprint.
    pub fn fingerprint(&self, secret: &Secret, head: &RequestHead<'_>, body: &BodyDigest) -> Fingerprint {
        let mut print = secret.keyed("semel/fingerprint/1");
        print.field(head.method.as_str().as_bytes());
        match self.host {
            HostMode::Exact => {
                print.field(b"exact");
                print.optional(head.authority.map(lower_case).as_deref().map(str::as_bytes));
            }
            HostMode::Any => print.field(b"any"),
        }
        print.field(head.path.as_bytes());
        print.optional(head.query.map(str::as_bytes));
        count(&mut print, head.headers.get_all(CONTENT_TYPE).iter().count());
        for line in head.headers.get_all(CONTENT_TYPE) {
            print.field(&body::essence(line.as_bytes()));
        }
        count(&mut print, self.headers.len());
        for name in &self.headers {
            print.field(name.as_str().as_bytes());
            count(&mut print, head.headers.get_all(name).iter().count());
            for value in head.headers.get_all(name) {
                print.field(value.as_bytes());
            }
        }
        print.field(body.mode().as_bytes());
        print.optional(body.bytes());
        Fingerprint::from_bytes(print.finish())
    }

    /// The fingerprint of a request whose body is at hand: to judge a record that other settings made.
    pub fn of_whole(&self, secret: &Secret, head: &RequestHead<'_>, body: &[u8]) -> Fingerprint {
        let mut hasher = BodyHasher::new(self, head.headers);
        hasher.update(body);
        self.fingerprint(secret, head, &hasher.finish(body))
    }
}

/// A number of fields to come, so that a list cannot run into the next one.
fn count(print: &mut Keyed, fields: usize) {
    print.field(&(fields as u64).to_be_bytes());
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
