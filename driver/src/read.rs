//! Reads a guarded request's body up to the limit that the engine names.

use std::future::poll_fn;
use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as HttpBody;
use semel_core::engine::Buffering;

use crate::body::Whole;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Unread {
    TooLarge,
    Cut,
}

/// Reads the whole body, hashing while it arrives. A body of one frame is not copied.
pub(crate) async fn whole<B: HttpBody>(buffering: &mut Buffering, body: B) -> Result<Whole, Unread> {
    let mut body = pin!(body);
    let mut collected = Collected::Nothing;
    let mut trailers = None;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Unread::Cut)?;
        match frame.into_data() {
            Ok(mut data) => {
                let data = data.copy_to_bytes(data.remaining());
                if !buffering.chunk(&data) {
                    return Err(Unread::TooLarge);
                }
                collected = collected.and(data, buffering.declared());
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let bytes = collected.into_bytes();
    // A body shorter than its head declared was cut by whatever carried it here.
    match buffering.declared() {
        Some(declared) if declared != bytes.len() as u64 => Err(Unread::Cut),
        _ => Ok(Whole::new(bytes).with_trailers(trailers)),
    }
}

enum Collected {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Collected {
    fn and(self, data: Bytes, declared: Option<u64>) -> Self {
        match self {
            _ if data.is_empty() => self,
            Self::Nothing => Self::One(data),
            Self::One(first) => {
                let length = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
                let mut many = BytesMut::with_capacity(length.max(first.len() + data.len()));
                many.extend_from_slice(&first);
                many.extend_from_slice(&data);
                Self::Many(many)
            }
            Self::Many(mut many) => {
                many.extend_from_slice(&data);
                Self::Many(many)
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}
