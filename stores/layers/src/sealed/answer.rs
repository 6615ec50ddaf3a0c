//! A completion, sealed in two parts: the head in its reference, the body where it was.
//!
//! The store ends the life of a body before that of its record, so the two open apart. The body's ciphertext is as
//! long as the body; its nonce and tag lie in the sealed head, so that a body opens only beside the head it was
//! sealed with. The head's plaintext:
//!
//! ```text
//! 0 │ completion                        nothing was kept of the body, or there is no response
//! 1 │ body's nonce and tag │ completion
//! ```
//!
//! The completion is in the format of [`codec`], without its body.

use bytes::Bytes;
use http::HeaderMap;
use semel_core::record::{Completion, NotKept, RecordId, StoredBody, StoredResponse, codec};

use super::envelope::{Bound, Detached, Seal, SealError, What};
use super::keys::Keyring;

const NO_BODY: u8 = 0;
const BODY: u8 = 1;

pub(super) fn seal(keys: &Keyring, id: &RecordId, plain: &Completion) -> Result<Completion, SealError> {
    let status = plain.response.as_ref().map(|response| response.status);
    let bound = |what| Bound { what, id, status };
    let mut head = Vec::new();
    let mut body = None;
    match plain.response.as_ref().map(|response| &response.body) {
        Some(StoredBody::Kept(bytes)) => {
            let (_, sealed) = keys.seal(bound(What::Body), bytes.to_vec())?;
            head.push(BODY);
            sealed.seal.write(&mut head);
            body = Some(StoredBody::Kept(sealed.bytes.into()));
        }
        Some(StoredBody::NotKept(why)) => {
            head.push(NO_BODY);
            body = Some(StoredBody::NotKept(*why));
        }
        None => head.push(NO_BODY),
    }
    head.extend_from_slice(&codec::encode(&headless(plain)));
    let response = status.zip(body).map(|(status, body)| StoredResponse {
        status,
        headers: HeaderMap::new(),
        body,
        trailers: None,
        origin: None,
    });
    Ok(Completion { response, reference: Some(keys.seal_whole(bound(What::Answer), head)?.into()) })
}

pub(super) fn open(keys: &Keyring, id: &RecordId, sealed: &Completion) -> Result<Completion, SealError> {
    let whole = sealed.reference.as_ref().ok_or(SealError::NotSealed)?;
    let status = sealed.response.as_ref().map(|response| response.status);
    let bound = |what| Bound { what, id, status };
    let (key, head) = keys.open_whole(bound(What::Answer), whole)?;
    let (kind, rest) = head.split_first().ok_or(SealError::Malformed)?;
    let (body_seal, rest) = match *kind {
        NO_BODY => (None, rest),
        BODY => Seal::split(rest).map(|(seal, rest)| (Some(seal), rest)).ok_or(SealError::Malformed)?,
        _ => return Err(SealError::Malformed),
    };
    let mut plain = codec::decode(&Bytes::copy_from_slice(rest)).map_err(|_| SealError::Malformed)?;
    match (body_seal, &mut plain.response, sealed.response.as_ref().map(|response| &response.body)) {
        (None, None, None) | (None, Some(_), Some(StoredBody::NotKept(_))) => Ok(plain),
        (Some(seal), Some(response), Some(StoredBody::Kept(bytes))) => {
            let sealed = Detached { seal, bytes: bytes.to_vec() };
            response.body = StoredBody::Kept(keys.open(bound(What::Body), key, sealed)?.into());
            Ok(plain)
        }
        // The store has dropped it since, and says why.
        (Some(_), Some(response), Some(StoredBody::NotKept(why))) => {
            response.body = StoredBody::NotKept(*why);
            response.trailers = None;
            Ok(plain)
        }
        _ => Err(SealError::Changed(key)),
    }
}

/// All but the bytes of the body.
fn headless(plain: &Completion) -> Completion {
    let response = plain.response.as_ref().map(|response| StoredResponse {
        status: response.status,
        headers: response.headers.clone(),
        body: StoredBody::NotKept(match response.body {
            StoredBody::NotKept(why) => why,
            StoredBody::Kept(_) => NotKept::ByChoice,
        }),
        trailers: response.trailers.clone(),
        origin: response.origin.clone(),
    });
    Completion { response, reference: plain.reference.clone() }
}

impl Seal {
    /// What sealing adds to a completion beside its body, in bytes, over the completion without its body in the
    /// format of [`codec`].
    pub(super) const HEAD_OVERHEAD: usize = 4 + 4 + Self::BYTES + 1 + Self::BYTES;
}
