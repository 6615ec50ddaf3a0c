//! The key: how it is written in a request, and what can be told from it alone.
//!
//! `Idempotency-Key` is a Structured Field Item of type String (draft-ietf-httpapi-idempotency-key-header-07,
//! section 2.1; RFC 9651, section 3.3.3). Many clients send it without the quotes, so [`KeySyntax::Lenient`]
//! takes a bare value for the same key as its quoted form.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use sfv::visitor::{ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, GenericBareItem};
use thiserror::Error;
use uuid::{Uuid, Variant};

use crate::record::Timestamp;

/// A key as its client meant it: 1 to [`Key::MAX_LEN`] printable ASCII characters, quotes and escapes undone.
///
/// Neither `Debug` nor any error shows it: a key may be the only secret between two callers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The most characters a key may have, whatever a route allows.
    pub const MAX_LEN: usize = 255;

    /// Takes a key that is already decoded: an operator's argument, a test's literal.
    ///
    /// ```
    /// use semel_core::key::Key;
    ///
    /// let key = Key::from_text("order-1")?;
    /// assert_eq!(key.as_str(), "order-1");
    /// assert!(Key::from_text("").is_err());
    /// # Ok::<(), semel_core::key::KeyError>(())
    /// ```
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::checked(text, Self::MAX_LEN)
    }

    fn checked(text: &str, max: usize) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if let Some(at) = text.bytes().position(|octet| !matches!(octet, b' '..=b'~')) {
            return Err(KeyError::Octet { at: at + 1 });
        }
        if text.len() > max {
            return Err(KeyError::TooLong { len: text.len(), max });
        }
        Ok(Self(text.into()))
    }

    /// The key's characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key is a UUID in the text form of RFC 9562, section 4: 36 characters, of a version from
    /// 1 to 8. Letters may be of either case; the nil and max UUIDs are none of these.
    pub fn is_uuid(&self) -> bool {
        self.uuid().is_some()
    }

    /// The instant inside a UUIDv7 (RFC 9562, section 5.7), by its maker's clock; `None` for any other key.
    pub fn minted(&self) -> Option<Timestamp> {
        let uuid = self.uuid().filter(|uuid| uuid.get_version_num() == 7)?;
        i64::try_from(uuid.as_u128() >> 80).ok().map(Timestamp::from_millis)
    }

    fn uuid(&self) -> Option<Uuid> {
        let text = Some(self.0.as_bytes()).filter(|text| text.len() == 36)?;
        Uuid::try_parse_ascii(text).ok().filter(|uuid| {
            uuid.get_variant() == Variant::RFC4122 && (1..=8).contains(&uuid.get_version_num())
        })
    }

    /// Whether nobody will guess the key or choose it by chance, as far as its shape tells.
    ///
    /// A UUID, a ULID, a KSUID, at least 21 characters with upper case, lower case and digits among them, or
    /// at least 28 letters and digits of any kind. The nil and max UUIDs are not strong: every program with
    /// an unset variable sends the same one.
    pub fn is_strong(&self) -> bool {
        let text = self.0.as_bytes();
        let has = |class: fn(&u8) -> bool| text.iter().any(class);
        let letters_and_digits = text.iter().filter(|octet| octet.is_ascii_alphanumeric()).count();
        let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);

        !self.is_constant_uuid()
            && (self.is_uuid()
                || letters_and_digits >= 28
                || (text.len() >= 21 && mixed)
                || is_ulid(text)
                || is_ksuid(text))
    }

    fn is_constant_uuid(&self) -> bool {
        Uuid::try_parse_ascii(self.0.as_bytes()).is_ok_and(|uuid| uuid.is_nil() || uuid.is_max())
    }
}

/// 26 characters of Crockford's Base32 that fit 128 bits. A counter padded with zeros has that shape too, so
/// digits alone are refused: 16 random characters without a letter come once in a hundred million.
fn is_ulid(text: &[u8]) -> bool {
    let crockford = |octet: &u8| {
        octet.is_ascii_alphanumeric() && !matches!(octet.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
    };
    text.len() == 26
        && matches!(text[0], b'0'..=b'7')
        && text.iter().all(crockford)
        && text.iter().any(u8::is_ascii_alphabetic)
}

/// 27 characters of Base62 that fit 160 bits, with a letter among them, as for a ULID.
fn is_ksuid(text: &[u8]) -> bool {
    text.len() == 27
        && text.iter().all(u8::is_ascii_alphanumeric)
        && text.iter().any(u8::is_ascii_alphabetic)
        && text <= b"aWgEPTl1tmebfsQzFP4bxwgy80V".as_slice()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} characters)", self.0.len())
    }
}

/// How strictly the key's field is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a third syntax would change what a key is")]
pub enum KeySyntax {
    /// A String, or a bare value of `ALPHA / DIGIT / - . _ ~ + / = : @` that begins with neither `:` nor `@`.
    #[default]
    Lenient,
    /// A String only, as RFC 9651 has it.
    Strict,
}

/// What a route asks of its keys beyond the syntax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyFormat {
    /// Nothing.
    #[default]
    Any,
    /// A UUID of any version (RFC 9562, section 4).
    Uuid,
    /// A UUIDv7, whose time lets a server tell a key it never saw from one it has forgotten.
    UuidV7,
}

/// Where a route's keys are found and what they must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// The field that carries the key. Default `idempotency-key`.
    pub field: HeaderName,
    /// How its value is read. Default [`KeySyntax::Lenient`].
    pub syntax: KeySyntax,
    /// What the key must be. Default [`KeyFormat::Any`].
    pub format: KeyFormat,
    /// The most characters a key may have, after decoding. Default and limit [`Key::MAX_LEN`].
    pub max_len: usize,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self {
            field: HeaderName::from_static("idempotency-key"),
            syntax: KeySyntax::default(),
            format: KeyFormat::default(),
            max_len: Key::MAX_LEN,
        }
    }
}

impl KeyRules {
    /// Reads the request's key; `None` where the field is absent.
    ///
    /// More than one field line is an error even if the lines are equal, or would join into one valid value:
    /// whoever stands between client and server decides how such lines are joined.
    pub fn parse(&self, headers: &HeaderMap) -> Result<Option<Key>, KeyError> {
        let mut lines = headers.get_all(&self.field).iter();
        match (lines.next(), lines.count()) {
            (None, _) => Ok(None),
            (Some(line), 0) => self.parse_value(line.as_bytes()).map(Some),
            (Some(_), more) => Err(KeyError::SeveralLines { lines: more + 1 }),
        }
    }

    /// Reads a field value from its raw octets.
    pub fn parse_value(&self, value: &[u8]) -> Result<Key, KeyError> {
        let max = self.max_len.min(Key::MAX_LEN);
        let key = match (value.iter().position(|octet| *octet != b' '), self.syntax) {
            (None, _) => return Err(KeyError::Empty),
            (Some(at), _) if value[at] == b'"' => quoted(value, max)?,
            (Some(_), KeySyntax::Strict) => return Err(KeyError::NotAString),
            (Some(at), KeySyntax::Lenient) => bare(value, at, max)?,
        };
        match self.format {
            KeyFormat::Uuid if !key.is_uuid() => Err(KeyError::NotUuid),
            KeyFormat::UuidV7 if key.minted().is_none() => Err(KeyError::NotUuidV7),
            _ => Ok(key),
        }
    }
}

fn bare(value: &[u8], start: usize, max: usize) -> Result<Key, KeyError> {
    let end = value.iter().rposition(|octet| *octet != b' ').map_or(start, |last| last + 1);
    let text = &value[start..end];
    let allowed = |at: usize, octet: u8| match octet {
        b':' | b'@' => at > 0,
        b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' => true,
        other => other.is_ascii_alphanumeric(),
    };
    match text.iter().enumerate().find(|(at, octet)| !allowed(*at, **octet)) {
        Some((at, _)) => Err(KeyError::NeedsQuotes { at: start + at + 1 }),
        None => std::str::from_utf8(text)
            .map_err(|invalid| KeyError::NeedsQuotes { at: start + invalid.valid_up_to() + 1 })
            .and_then(|text| Key::checked(text, max)),
    }
}

fn quoted(value: &[u8], max: usize) -> Result<Key, KeyError> {
    let mut string_ended = false;
    let parsed =
        sfv::Parser::new(value).parse_item_with_visitor(TakeString { ended: &mut string_ended, max });
    match parsed {
        Ok(outcome) => outcome,
        Err(error) => {
            let at = error.index().unwrap_or(value.len());
            Err(match value.get(at) {
                _ if string_ended => KeyError::Trailing { at: at + 1 },
                None => KeyError::Unterminated,
                Some(b' '..=b'~') => KeyError::Escape { at: at + 1 },
                Some(_) => KeyError::Octet { at: at + 1 },
            })
        }
    }
}

/// Takes the String and lets its parameters pass, which are parsed all the same: a malformed one makes the
/// whole field invalid (RFC 9651, section 4.2).
struct TakeString<'a> {
    ended: &'a mut bool,
    max: usize,
}

struct Taken(Result<Key, KeyError>);

impl<'de> ItemVisitor<'de> for TakeString<'_> {
    type Out = Result<Key, KeyError>;
    type Error = std::convert::Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        *self.ended = true;
        Ok(Taken(match item {
            GenericBareItem::String(text) => Key::checked(text.as_str(), self.max),
            _ => Err(KeyError::NotAString),
        }))
    }
}

impl<'de> ParameterVisitor<'de> for Taken {
    type Out = Result<Key, KeyError>;
    type Error = std::convert::Infallible;

    fn parameter(&mut self, _: &'de sfv::KeyRef, _: BareItemFromInput<'de>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self.0)
    }
}

/// What is wrong with a key, and where. Positions count octets of the field value from 1.
///
/// The text is fit for the `detail` of a problem document: it never contains the key. Sending the same
/// request again cannot help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// More than one field line.
    #[error("The key's field was sent in {lines} lines; send it once.")]
    SeveralLines {
        /// How many there were.
        lines: usize,
    },
    /// No value, or the empty String.
    #[error("The key is empty; it must have at least one character.")]
    Empty,
    /// More characters than the route allows.
    #[error("The key has {len} characters; at most {max} are allowed.")]
    TooLong {
        /// Characters after decoding.
        len: usize,
        /// The route's limit.
        max: usize,
    },
    /// Anything but a String where only that is accepted.
    #[error("The key is not a String of RFC 9651; put it in double quotes.")]
    NotAString,
    /// A bare value with a character that only a quoted one may have.
    #[error("The character at position {at} is not allowed in a key without double quotes.")]
    NeedsQuotes {
        /// Its position.
        at: usize,
    },
    /// A control character, or one beyond ASCII.
    #[error("The character at position {at} is not printable ASCII, which a key is made of.")]
    Octet {
        /// Its position.
        at: usize,
    },
    /// A backslash before anything but a quote or a backslash.
    #[error(
        "The escape before position {at} is invalid: a backslash may precede only a double quote or a backslash."
    )]
    Escape {
        /// The position of the character that must not be escaped.
        at: usize,
    },
    /// No closing quote.
    #[error("The key's closing double quote is missing.")]
    Unterminated,
    /// Something after the key that is no well-formed parameter: another list member, stray text.
    #[error(
        "At position {at}, after the key, stands something that is no valid parameter; send one key alone."
    )]
    Trailing {
        /// Where it begins.
        at: usize,
    },
    /// The route asks for a UUID.
    #[error("The key is not a UUID (RFC 9562), which is required here.")]
    NotUuid,
    /// The route asks for a UUIDv7.
    #[error("The key is not a UUIDv7 (RFC 9562), which is required here.")]
    NotUuidV7,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(value: &[u8]) -> KeyError {
        KeyRules::default().parse_value(value).unwrap_err()
    }

    // A client's author sees only the problem's text: the place must be the real one.
    #[test]
    fn errors_point_at_the_octet_that_is_wrong() {
        assert_eq!(error(b"\"a\\n\""), KeyError::Escape { at: 4 });
        assert_eq!(error(b"\"caf\xe9\""), KeyError::Octet { at: 5 });
        assert_eq!(error(b"\"a\tb\""), KeyError::Octet { at: 3 });
        assert_eq!(error(b"\"abc"), KeyError::Unterminated);
        assert_eq!(error(b"\"abc\\"), KeyError::Unterminated);
        assert_eq!(error(b"\"k1\", \"k2\""), KeyError::Trailing { at: 5 });
        assert_eq!(error(b"\"k\";A=1"), KeyError::Trailing { at: 5 });
        assert_eq!(error(b"\"k\";a=\"\xff\""), KeyError::Trailing { at: 8 });
        assert_eq!(error(b" ab\"c"), KeyError::NeedsQuotes { at: 4 });
        assert_eq!(error(b"two words"), KeyError::NeedsQuotes { at: 4 });
        assert_eq!(error(b"  "), KeyError::Empty);
        assert_eq!(error(b"\"\";a=1"), KeyError::Empty);
    }

    #[test]
    fn no_error_shows_the_key() {
        let secret = "s3cret-Value";
        let long = "s3cret-Value".repeat(40);
        for value in [
            format!("\"{secret}"),
            format!("\"{secret}\"x"),
            format!("\"{secret}\\x\""),
            format!("{secret}?"),
            format!("\"{secret}\u{e9}\""),
            format!("\"{long}\""),
        ] {
            let error = error(value.as_bytes());
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        assert_eq!(format!("{:?}", Key::from_text(secret).unwrap()), "Key(12 characters)");
    }

    #[test]
    fn a_route_may_lower_the_limit_and_never_raise_it() {
        let rules = |max_len| KeyRules { max_len, ..KeyRules::default() };
        assert!(rules(3).parse_value(b"abc").is_ok());
        assert_eq!(rules(3).parse_value(b"\"abcd\""), Err(KeyError::TooLong { len: 4, max: 3 }));
        let long = [b'k'; 256];
        assert_eq!(rules(1000).parse_value(&long), Err(KeyError::TooLong { len: 256, max: 255 }));
    }

    // Escapes count for one character: 255 quotes are 512 octets on the wire and a valid key.
    #[test]
    fn the_limit_counts_characters_after_decoding() {
        let wire = format!("\"{}\"", "\\\"".repeat(255));
        let key = KeyRules::default().parse_value(wire.as_bytes()).unwrap();
        assert_eq!(key.as_str(), "\"".repeat(255));
    }

    #[test]
    fn formats_refuse_what_only_looks_like_a_uuid() {
        let rules = |format| KeyRules { format, ..KeyRules::default() };
        let v4 = b"8e03978e-40d5-43e8-bc93-6894a57f9324";
        let v7 = b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
        assert!(rules(KeyFormat::Uuid).parse_value(v4).is_ok());
        assert!(rules(KeyFormat::Uuid).parse_value(&v4.to_ascii_uppercase()).is_ok());
        assert_eq!(rules(KeyFormat::UuidV7).parse_value(v4), Err(KeyError::NotUuidV7));
        assert!(rules(KeyFormat::UuidV7).parse_value(v7).is_ok());
        for not in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "8e03978e40d543e8bc936894a57f9324",
            "urn:uuid:8e03978e-40d5-43e8-bc93-6894a57f9324",
            "8e03978e-40d5-43e8-bc93-6894a57f932g",
            "8e03978e-40d5-43e8-cc93-6894a57f9324",
        ] {
            assert_eq!(rules(KeyFormat::Uuid).parse_value(not.as_bytes()), Err(KeyError::NotUuid), "{not}");
        }
    }

    // The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22Z.
    #[test]
    fn the_time_in_a_uuid_v7_is_read() {
        let minted = |text| Key::from_text(text).unwrap().minted();
        let time = Some(Timestamp::from_millis(1_645_557_742_000));
        assert_eq!(minted("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), time);
        assert_eq!(minted("8e03978e-40d5-43e8-bc93-6894a57f9324"), None);
        assert_eq!(minted("order-1"), None);
    }

    #[test]
    fn strength_is_told_from_the_shape() {
        let cases = [
            ("order-1", false),
            ("8e03978e-40d5-43e8-bc93-6894a57f9324", true),
            ("00000000-0000-0000-0000-000000000000", false),
            ("ffffffffffffffffffffffffffffffff", false),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", true),
            ("01arz3ndektsv4rrffq69g5fav", true),
            ("81ARZ3NDEKTSV4RRFFQ69G5FAV", false),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAU", false),
            ("00000000000000000000000042", false),
            ("0ujsswThIGTUYm2K8FjOOfXtY1K", true),
            ("000000000000000000000000042", false),
            ("zzzzzzzzzzzzzzzzzzzzzzzzzzz", false),
            ("V1StGXR8_Z5jdHi6B-myT", true),
            ("V1StGXR8_Z5jdHi6B-my", false),
            ("v1stgxr8_z5jdhi6b-myt", false),
            ("clkyoesmbgybucifusbbtdsbohtyuuwz", true),
            ("abcdefghijklmnopqrstuvwxyz-1", false),
            ("abcdefghijklmnopqrstuvwxyz-12", true),
        ];
        for (text, strong) in cases {
            assert_eq!(Key::from_text(text).unwrap().is_strong(), strong, "{text}");
        }
    }

    #[test]
    fn an_operator_cannot_name_a_key_that_no_request_can_carry() {
        assert_eq!(Key::from_text("a\u{e9}"), Err(KeyError::Octet { at: 2 }));
        assert_eq!(Key::from_text("a\n"), Err(KeyError::Octet { at: 2 }));
        assert!(Key::from_text(&"k".repeat(256)).is_err());
    }
}
