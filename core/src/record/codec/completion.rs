//! A completion as numbered fields.

use http::{HeaderMap, StatusCode};

use super::DecodeError;
use super::envelope::{Cbor, Fields, Written, write_headers};
use crate::record::{Completion, NotKept, StoredBody, StoredResponse};

const REFERENCE: u64 = 0;
const STATUS: u64 = 1;
const HEADERS: u64 = 2;
const TRAILERS: u64 = 3;
const ORIGIN: u64 = 4;
const NOT_KEPT: u64 = 5;
/// Leaves room below for fields of the head, so that the body stays last.
const BODY: u64 = 64;

pub(super) fn capacity(completion: &Completion) -> usize {
    let Some(response) = &completion.response else { return 64 };
    let body = match &response.body {
        StoredBody::Kept(body) => body.len(),
        StoredBody::NotKept(_) => 0,
    };
    body + 64 * response.headers.len() + 128
}

pub(super) fn write(cbor: &mut Cbor, completion: &Completion) -> Written {
    let reference = u64::from(completion.reference.is_some());
    let response = completion.response.as_ref().map_or(0, |response| {
        3 + u64::from(response.trailers.is_some()) + u64::from(response.origin.is_some())
    });
    cbor.map(reference + response)?;
    if let Some(reference) = &completion.reference {
        cbor.u64(REFERENCE)?.bytes(reference)?;
    }
    let Some(response) = &completion.response else { return Ok(()) };
    cbor.u64(STATUS)?.u16(response.status.as_u16())?;
    write_headers(cbor.u64(HEADERS)?, &response.headers)?;
    if let Some(trailers) = &response.trailers {
        write_headers(cbor.u64(TRAILERS)?, trailers)?;
    }
    if let Some(origin) = &response.origin {
        cbor.u64(ORIGIN)?.bytes(origin.as_bytes())?;
    }
    match &response.body {
        StoredBody::Kept(body) => cbor.u64(BODY)?.bytes(body)?.ok(),
        StoredBody::NotKept(why) => cbor.u64(NOT_KEPT)?.u64(why_to_number(*why))?.ok(),
    }
}

#[derive(Default)]
struct Head {
    status: Option<StatusCode>,
    headers: Option<HeaderMap>,
    trailers: Option<HeaderMap>,
    origin: Option<http::HeaderValue>,
    body: Option<StoredBody>,
}

pub(super) fn read(fields: &mut Fields<'_>) -> Result<Completion, DecodeError> {
    let mut reference = None;
    let mut head = Head::default();
    while let Some(field) = fields.next()? {
        match field {
            REFERENCE => reference = Some(fields.bytes()?),
            STATUS => head.status = Some(status(fields.u16()?)?),
            HEADERS => head.headers = Some(fields.headers()?),
            TRAILERS => head.trailers = Some(fields.headers()?),
            ORIGIN => head.origin = Some(fields.value()?),
            NOT_KEPT => head.body = Some(StoredBody::NotKept(why_from_number(fields.u64()?))),
            BODY if head.body.is_some() => return Err(DecodeError::corrupt("a body that is not kept")),
            BODY => head.body = Some(StoredBody::Kept(fields.bytes()?)),
            _ => fields.skip()?,
        }
    }
    Ok(Completion { response: head.response()?, reference })
}

impl Head {
    fn response(self) -> Result<Option<StoredResponse>, DecodeError> {
        match self {
            Self { status: Some(status), headers: Some(headers), trailers, origin, body: Some(body) } => {
                Ok(Some(StoredResponse { status, headers, body, trailers, origin }))
            }
            Self { status: None, headers: None, trailers: None, origin: None, body: None } => Ok(None),
            _ => Err(DecodeError::corrupt("half an answer")),
        }
    }
}

fn status(number: u16) -> Result<StatusCode, DecodeError> {
    StatusCode::from_u16(number).map_err(|_| DecodeError::corrupt("a status"))
}

const fn why_to_number(why: NotKept) -> u64 {
    match why {
        NotKept::TooLarge => 0,
        NotKept::Endless => 1,
        NotKept::Slow => 2,
        NotKept::ByChoice => 3,
        NotKept::Expired => 4,
        NotKept::NoRoom => 5,
    }
}

/// A reason that only a newer version knows still means that there is no body; every reason is answered alike.
const fn why_from_number(number: u64) -> NotKept {
    match number {
        0 => NotKept::TooLarge,
        1 => NotKept::Endless,
        2 => NotKept::Slow,
        4 => NotKept::Expired,
        5 => NotKept::NoRoom,
        _ => NotKept::ByChoice,
    }
}
