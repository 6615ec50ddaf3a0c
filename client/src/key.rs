use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use uuid::Uuid;

/// The key of an operation, as its field carries it.
///
/// `Debug` does not show it: where a server knows its callers by nothing else, whoever has the key gets the answer.
#[derive(Clone, PartialEq, Eq)]
pub struct OperationKey(HeaderValue);

impl OperationKey {
    /// The field's value, ready to be sent again.
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// The field's value as text, quotes and all; `None` if a caller's own key is not visible ASCII.
    pub fn as_str(&self) -> Option<&str> {
        self.0.to_str().ok()
    }

    pub(crate) fn new(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self(value)
    }

    /// A UUIDv7 (RFC 9562, section 5.7), which a server can tell never seen from forgotten by its time.
    ///
    /// A Structured Field String (draft-ietf-httpapi-idempotency-key-header-07, section 2.1) has quotes; `bare` is for
    /// servers that take the field's octets as they are.
    pub(crate) fn mint(wall: SystemTime, random: [u8; 10], bare: bool) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let uuid: Uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let text = if bare { uuid.to_string() } else { format!("\"{uuid}\"") };
        // Hexadecimal digits, hyphens and quotes: nothing that a field refuses.
        Self::new(HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("")))
    }
}

impl fmt::Debug for OperationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperationKey({} octets)", self.0.len())
    }
}
