//! A request as numbered fields.

use super::DecodeError;
use super::envelope::{Cbor, Fields, Written, write_headers};
use crate::record::StoredRequest;

const METHOD: u64 = 0;
const URI: u64 = 1;
const HEADERS: u64 = 2;
/// As in a completion: the body stays last.
const BODY: u64 = 64;

pub(super) fn write(cbor: &mut Cbor, request: &StoredRequest) -> Written {
    cbor.map(4)?;
    cbor.u64(METHOD)?.str(request.method.as_str())?;
    cbor.u64(URI)?.str(&request.uri.to_string())?;
    write_headers(cbor.u64(HEADERS)?, &request.headers)?;
    cbor.u64(BODY)?.bytes(&request.body)?.ok()
}

pub(super) fn read(fields: &mut Fields<'_>) -> Result<StoredRequest, DecodeError> {
    let (mut method, mut uri, mut headers, mut body) = (None, None, None, None);
    while let Some(field) = fields.next()? {
        match field {
            METHOD => method = Some(fields.str()?.parse().map_err(|_| DecodeError::corrupt("a method"))?),
            URI => uri = Some(fields.str()?.parse().map_err(|_| DecodeError::corrupt("a target"))?),
            HEADERS => headers = Some(fields.headers()?),
            BODY => body = Some(fields.bytes()?),
            _ => fields.skip()?,
        }
    }
    match (method, uri, headers, body) {
        (Some(method), Some(uri), Some(headers), Some(body)) => {
            Ok(StoredRequest { method, uri, headers, body })
        }
        _ => Err(DecodeError::corrupt("half a request")),
    }
}
