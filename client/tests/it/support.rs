use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use semel_client::{Asked, Call, Entropy, NotReplayable, Retries};

pub(crate) const ENTROPY: Entropy = Entropy { key: [0x5a; 10], jitter: 4711 };

pub(crate) fn fields(list: &[(&str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// Sun, 06 Nov 1994 08:49:37 GMT.
pub(crate) fn wall() -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_secs(784_111_777)
}

/// A call that begins now, with what differs from a plain request.
pub(crate) fn begin(
    retries: &Retries,
    method: &Method,
    headers: &HeaderMap,
    at: Instant,
    as_asked: impl FnOnce(Asked<'_>) -> Asked<'_>,
) -> Result<Call, NotReplayable> {
    Call::begin(retries, &as_asked(Asked::new(method, headers)), ENTROPY, at, wall())
}
