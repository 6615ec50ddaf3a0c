//! Reads an answer's body before anything of it is sent, up to the engine's limit and time.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as HttpBody;
use semel_core::engine::End;

use crate::body::{Body, Whole};
use crate::runtime::{BoxFuture, Runtime};

/// How the reading ended, and the body to hand on.
pub(crate) struct Captured<B> {
    pub(crate) end: End,
    /// `None` where the body broke off: nothing of it is sent.
    pub(crate) body: Option<Body<B>>,
}

/// Reads a body of at most `limit` bytes for at most `length`. A body that is ready at once costs no timer, one
/// of a single frame no copy.
pub(crate) async fn capture<B>(runtime: &dyn Runtime, limit: usize, length: Duration, body: B) -> Captured<B>
where
    B: HttpBody,
{
    // The body has to move on after a part of it was read, so it is pinned on the heap, and only here.
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let mut size = 0_usize;
    let mut trailers: Option<HeaderMap> = None;
    let mut sleep: Option<BoxFuture<'static, ()>> = None;
    let stopped = std::future::poll_fn(|cx| {
        loop {
            let frame = match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let sleep = sleep.get_or_insert_with(|| runtime.sleep(length));
                    return sleep.as_mut().poll(cx).map(|()| Stopped::Slow);
                }
            };
            match frame {
                None => return Poll::Ready(Stopped::Whole),
                Some(Err(_)) => return Poll::Ready(Stopped::Cut),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        let data = data.copy_to_bytes(data.remaining());
                        size = size.saturating_add(data.len());
                        if !data.is_empty() {
                            frames.push_back(data);
                        }
                        if size > limit {
                            return Poll::Ready(Stopped::Overflow);
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    })
    .await;
    match stopped {
        Stopped::Whole => {
            let bytes = join(frames, size);
            let whole = Whole::new(bytes.clone()).with_trailers(trailers.clone());
            Captured { end: End::Whole { body: bytes, trailers }, body: Some(Body::whole(whole)) }
        }
        Stopped::Cut => Captured { end: End::Cut, body: None },
        Stopped::Overflow => Captured { end: End::Overflow, body: Some(Body::resumed(frames, body)) },
        Stopped::Slow => Captured { end: End::Slow, body: Some(Body::resumed(frames, body)) },
    }
}

enum Stopped {
    Whole,
    Overflow,
    Slow,
    Cut,
}

fn join(mut frames: VecDeque<Bytes>, size: usize) -> Bytes {
    if frames.len() <= 1 {
        return frames.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(size);
    for frame in frames {
        whole.extend_from_slice(&frame);
    }
    whole.freeze()
}
