//! Keyed names: how a key, a principal and a request become values that a stolen table does not betray.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use crate::record::{PrincipalTag, RecordId};

/// The secret that keys a store's identities, principals and fingerprints: 32 random bytes.
///
/// Whoever holds it and the table can test guesses of keys. It is never logged.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; 32],
    /// Keyed once: a fresh start for each name costs a copy instead of two hash blocks.
    mac: Hmac<Sha256>,
}

impl Secret {
    /// Takes 32 bytes from a source of real randomness or from configuration.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        // RFC 2104: a key shorter than the hash's block of 64 bytes is padded with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&bytes);
        let mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        block.zeroize();
        Self { bytes, mac }
    }

    /// Reads exactly 32 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    /// The bytes: for stores, which keep them.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The name of a record: a keyed hash of the namespace, the stable principal or nothing, the endpoint
    /// where the route opted into endpoint scope, and the key.
    pub fn record_id(
        &self,
        namespace: &str,
        principal: Option<&[u8]>,
        endpoint: Option<(&http::Method, &str)>,
        key: &str,
    ) -> RecordId {
        let mut keyed = self.keyed("semel/record/1");
        keyed.field(namespace.as_bytes());
        keyed.optional(principal);
        keyed.optional(endpoint.map(|(method, _)| method.as_str().as_bytes()));
        keyed.optional(endpoint.map(|(_, path)| path.as_bytes()));
        keyed.field(key.as_bytes());
        RecordId::from_bytes(keyed.finish())
    }

    /// The tag of a principal, or of the credentials a key is bound to.
    pub fn principal_tag(&self, principal: &[u8]) -> PrincipalTag {
        let mut keyed = self.keyed("semel/principal/1");
        keyed.field(principal);
        PrincipalTag::from_bytes(keyed.finish())
    }

    /// A keyed hash over length-prefixed fields, in a domain of its own.
    pub(crate) fn keyed(&self, domain: &str) -> Keyed {
        let mut keyed = Keyed(self.mac.clone());
        keyed.field(domain.as_bytes());
        keyed
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// HMAC-SHA-256 over fields that cannot run into each other: each is preceded by its length.
pub(crate) struct Keyed(Hmac<Sha256>);

impl Keyed {
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// "Nothing" differs from every value, the empty one included.
    pub(crate) fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.0.update(&[1]);
                self.field(bytes);
            }
            None => self.0.update(&[0]),
        }
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn secret() -> Secret {
        Secret::from_bytes([7; 32])
    }

    // Two tenants `a` + key `bc` and `ab` + key `c` once shared a record in a scheme that concatenated.
    #[test]
    fn fields_do_not_run_into_each_other() {
        let one = secret().record_id("shop", Some(b"a"), None, "bc");
        let other = secret().record_id("shop", Some(b"ab"), None, "c");
        assert_ne!(one, other);
    }

    #[test]
    fn no_principal_is_not_the_empty_principal() {
        assert_ne!(secret().record_id("n", None, None, "k"), secret().record_id("n", Some(b""), None, "k"));
    }

    #[test]
    fn an_endpoint_separates_and_its_parts_do_not_mix_with_the_key() {
        let post = Method::POST;
        let ids = [
            secret().record_id("n", None, None, "k"),
            secret().record_id("n", None, Some((&post, "/a")), "k"),
            secret().record_id("n", None, Some((&post, "/b")), "k"),
            secret().record_id("n", None, Some((&Method::PATCH, "/a")), "k"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id));
        }
    }

    #[test]
    fn another_secret_gives_other_names() {
        let other = Secret::from_bytes([8; 32]);
        assert_ne!(secret().record_id("n", None, None, "k"), other.record_id("n", None, None, "k"));
        assert_ne!(secret().principal_tag(b"p"), other.principal_tag(b"p"));
    }

    // RFC 4231 fixes HMAC-SHA-256; the padding here must give the same as the library's own keying.
    #[test]
    fn keying_once_is_plain_hmac() {
        let mut plain = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).unwrap();
        plain.update(&1u64.to_be_bytes());
        plain.update(b"d");
        let plain: [u8; 32] = plain.finalize().into_bytes().into();
        assert_eq!(secret().keyed("d").finish(), plain);
    }

    #[test]
    fn the_secret_does_not_print() {
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }
}
