//! The eight bytes before the map, and the map as fields by number.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use minicbor::{Decoder, Encoder};

use super::{DecodeError, DecodeErrorKind, VERSION};

/// The oldest version that reads what this program writes.
const MIN_READER: u8 = 1;
const PREFIX: usize = 8;
const COVERED: usize = 4;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Completion,
    Request,
    Progress,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Completion => b'c',
            Self::Request => b'r',
            Self::Progress => b'p',
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Request => "request",
            Self::Progress => "progress",
        }
    }
}

pub(super) type Cbor = Encoder<Vec<u8>>;
pub(super) type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// Writes the envelope around the map that `write` makes.
#[expect(
    clippy::expect_used,
    reason = "writing to a Vec cannot fail; the encoder's error type cannot say so"
)]
pub(super) fn seal(kind: Kind, capacity: usize, write: impl FnOnce(&mut Cbor) -> Written) -> Vec<u8> {
    let mut blob = Vec::with_capacity(PREFIX + capacity);
    blob.extend_from_slice(&[b'S', kind.byte(), VERSION, MIN_READER, 0, 0, 0, 0]);
    let mut cbor = Encoder::new(blob);
    write(&mut cbor).expect("a Vec takes every byte");
    let mut blob = cbor.into_writer();
    let sum = checksum(&blob);
    blob[COVERED..PREFIX].copy_from_slice(&sum);
    blob
}

fn checksum(blob: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&blob[..COVERED]);
    sum.update(&blob[PREFIX..]);
    sum.finalize().to_be_bytes()
}

/// Checks the envelope and gives the fields of its map.
pub(super) fn open(kind: Kind, blob: &Bytes) -> Result<Fields<'_>, DecodeError> {
    let [b'S', byte, version, min_reader, sum @ ..] =
        blob.get(..PREFIX).ok_or(DecodeError::corrupt("too short"))?
    else {
        return Err(DecodeError::corrupt("not a Semel record"));
    };
    if *byte != kind.byte() {
        return Err(DecodeError::corrupt("another kind of record"));
    }
    // Before the version: a flipped bit there must not ask for an update that does not exist.
    if *sum != checksum(blob)[..] {
        return Err(DecodeError::corrupt("the checksum differs"));
    }
    if *min_reader > VERSION {
        let kind_of = DecodeErrorKind::Newer { version: *version, min_reader: *min_reader };
        return Err(DecodeError { kind: kind_of, what: kind.name() });
    }
    Fields::new(blob)
}

/// The fields of a map, in their order.
pub(super) struct Fields<'b> {
    blob: &'b Bytes,
    cbor: Decoder<'b>,
    left: u64,
    last: Option<u64>,
}

impl<'b> Fields<'b> {
    fn new(blob: &'b Bytes) -> Result<Self, DecodeError> {
        let mut cbor = Decoder::new(&blob[PREFIX..]);
        let left = cbor.map().map_err(malformed)?.ok_or(DecodeError::corrupt("a map without length"))?;
        Ok(Self { blob, cbor, left, last: None })
    }

    /// The number of the next field; its value has to be read or skipped next. `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.left == 0 {
            return if self.cbor.position() == self.cbor.input().len() {
                Ok(None)
            } else {
                Err(DecodeError::corrupt("bytes after the end"))
            };
        }
        self.left -= 1;
        let key = self.cbor.u64().map_err(malformed)?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(DecodeError::corrupt("fields out of order"));
        }
        self.last = Some(key);
        Ok(Some(key))
    }

    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        self.cbor.skip().map_err(malformed)
    }

    /// The length of an array, whose values are read next.
    pub(super) fn array(&mut self) -> Result<u64, DecodeError> {
        self.cbor.array().map_err(malformed)?.ok_or(DecodeError::corrupt("an array without length"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.cbor.u16().map_err(malformed)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.cbor.u64().map_err(malformed)
    }

    pub(super) fn str(&mut self) -> Result<&'b str, DecodeError> {
        self.cbor.str().map_err(malformed)
    }

    /// Borrowed from the blob, for values that are parsed.
    pub(super) fn slice(&mut self) -> Result<&'b [u8], DecodeError> {
        self.cbor.bytes().map_err(malformed)
    }

    /// Shared with the blob, for values that are kept.
    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let slice = self.slice()?;
        Ok(self.blob.slice_ref(slice))
    }

    pub(super) fn headers(&mut self) -> Result<HeaderMap, DecodeError> {
        let length = self.array()?;
        if length % 2 != 0 {
            return Err(DecodeError::corrupt("a field without value"));
        }
        let mut headers = HeaderMap::new();
        for _ in 0..length / 2 {
            let name = HeaderName::from_bytes(self.slice()?);
            let name = name.map_err(|_| DecodeError::corrupt("a field name"))?;
            let value = self.value()?;
            headers.try_append(name, value).map_err(|_| DecodeError::corrupt("too many fields"))?;
        }
        Ok(headers)
    }

    pub(super) fn value(&mut self) -> Result<HeaderValue, DecodeError> {
        HeaderValue::from_maybe_shared(self.bytes()?).map_err(|_| DecodeError::corrupt("a field value"))
    }
}

pub(super) fn write_headers(cbor: &mut Cbor, headers: &HeaderMap) -> Written {
    cbor.array(2 * headers.len() as u64)?;
    for (name, value) in headers {
        cbor.bytes(name.as_str().as_bytes())?.bytes(value.as_bytes())?;
    }
    Ok(())
}

fn malformed(_: minicbor::decode::Error) -> DecodeError {
    DecodeError::corrupt("malformed CBOR")
}
