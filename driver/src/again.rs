//! Answers that the application makes again from a reference.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, Response, response};
use http_body::Body as HttpBody;
use semel_core::engine::Rederiving;
use semel_core::record::RecordId;

use crate::body::Whole;
use crate::idempotency::Idempotency;
use crate::runtime::{BoxFuture, within};
use crate::trace::Trace;

/// Any error of the application's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes an answer from a reference and the retry's head; the number is the most bytes of its body.
pub(crate) type Remake =
    dyn Fn(Bytes, Parts, usize) -> BoxFuture<'static, Result<Made, BoxError>> + Send + Sync;

pub(crate) struct Made {
    parts: response::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

pub(crate) fn erase<F, Fut, B, E>(make: F) -> Arc<Remake>
where
    F: Fn(Bytes, Parts) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: HttpBody + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    Arc::new(move |reference, parts, limit| {
        let answer = make(reference, parts);
        Box::pin(async move {
            let (parts, body) = answer.await.map_err(Into::into)?.into_parts();
            let (body, trailers) = whole(body, limit).await?;
            Ok(Made { parts, body, trailers })
        })
    })
}

async fn whole<B: HttpBody>(body: B, limit: usize) -> Result<(Bytes, Option<HeaderMap>), BoxError> {
    let mut body = pin!(body);
    let (mut read, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| "its body broke off")?;
        match frame.into_data() {
            Ok(mut data) => {
                if data.remaining() > limit.saturating_sub(read.len()) {
                    return Err(format!("its body has more than `capture_limit`, {limit} bytes").into());
                }
                read.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((read.freeze(), trailers))
}

impl Idempotency {
    /// Has the application make the answer of a request that was done before. Changes nothing in its record.
    pub(crate) async fn rederive(
        &self,
        trace: &Trace,
        rederiving: Rederiving,
        parts: Option<Parts>,
        id: &RecordId,
    ) -> Response<Whole> {
        let (Some(remake), Some(parts)) = (self.remake(), parts) else {
            tracing::warn!(record = %id, "the answer is kept by a reference, and its route has no `on_replay`");
            return self.reject(trace, rederiving.unregistered(), Some(id));
        };
        let making = {
            let (reference, limit) = (rederiving.reference().clone(), rederiving.limit());
            // In a block, so that a panic of the call itself is caught like one of its future.
            AssertUnwindSafe(async move { remake(reference, parts, limit).await }).catch_unwind()
        };
        let made = match within(self.runtime(), rederiving.within(), making).await {
            Ok(Ok(Ok(made))) => made,
            Ok(Ok(Err(error))) => {
                tracing::warn!(record = %id, %error, "`on_replay` failed");
                return self.reject(trace, rederiving.failed(), Some(id));
            }
            Ok(Err(_)) => {
                tracing::error!(record = %id, "`on_replay` panicked");
                return self.reject(trace, rederiving.failed(), Some(id));
            }
            Err(_) => {
                tracing::warn!(record = %id, limit = ?rederiving.within(), "`on_replay` took longer than `capture_for`");
                return self.reject(trace, rederiving.failed(), Some(id));
            }
        };
        match rederiving.answer(made.parts, made.body, made.trailers) {
            Ok(replay) => self.replay(trace, replay, id),
            Err(rejection) => self.reject(trace, rejection, Some(id)),
        }
    }
}
