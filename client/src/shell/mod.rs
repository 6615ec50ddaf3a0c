//! What both shells do: send, wait, and read as the call says.

mod answer;

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;

pub use answer::AnswerBody;

use crate::outcome::BoxError;
use crate::{Answer, Asked, Call, End, Entropy, Error, Failure, NotReplayable, Retries, Step, Why};

/// A request extension: no key is minted for this request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mark")]
pub struct Unkeyed;

/// A request extension: one try is all that is made, so that a body that cannot be sent again may be sent once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mark")]
pub struct Once;

/// A try that failed, and how.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) source: BoxError,
}

/// Why a call did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotBegun {
    /// Its body cannot be sent again.
    #[error(transparent)]
    NotReplayable(#[from] NotReplayable),
    /// Its body is longer than is kept.
    #[error("the request's body is longer than {limit} bytes, which are kept so that it can be sent again")]
    TooLarge {
        /// What is kept of a body, in bytes.
        limit: usize,
    },
    /// Its body broke off before its end.
    #[error("the request's body broke off")]
    Body(#[source] BoxError),
    /// The system gave no randomness for a key.
    #[error("the system gave no randomness for a key")]
    NoEntropy,
}

impl From<NotBegun> for Error {
    fn from(why: NotBegun) -> Self {
        let end =
            End { verdict: crate::Verdict::NotSent, why: Why::Invalid, limit: None, tries: 0, key: None };
        Self::new(end, Some(Box::new(why)))
    }
}

pub(crate) fn begin(retries: &Retries, asked: &Asked<'_>) -> Result<Call, NotBegun> {
    let mut octets = [0; 18];
    getrandom::fill(&mut octets).map_err(|_| NotBegun::NoEntropy)?;
    let (mut key, mut jitter) = ([0; 10], [0; 8]);
    key.copy_from_slice(&octets[..10]);
    jitter.copy_from_slice(&octets[10..]);
    let entropy = Entropy { key, jitter: u64::from_ne_bytes(jitter) };
    Ok(Call::begin(retries, asked, entropy, now(), SystemTime::now())?)
}

/// Sends until the call has ended. The answer carries the [`End`] in its extensions.
pub(crate) async fn drive<B, F>(
    mut call: Call,
    mut send: impl FnMut() -> F,
) -> Result<Response<AnswerBody<B>>, Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    F: Future<Output = Result<Response<B>, Failed>>,
{
    let mut last = None;
    loop {
        let trying = call.send(now()).map_err(|end| Error::new(end, last.take()))?;
        let tried = tokio::time::timeout(trying.within(), attempt(&trying, send())).await;
        let (step, answer) = match tried {
            Ok(Ok(answer)) => {
                let body = answer.body().whole();
                let said = Answer { status: answer.status(), headers: answer.headers(), body };
                (trying.answered(&said, now(), SystemTime::now()), Some(answer))
            }
            Ok(Err(failed)) => {
                last = Some(failed.source);
                (trying.failed(failed.failure, now()), None)
            }
            Err(elapsed) => {
                last = Some(elapsed.into());
                (trying.failed(Failure::TimedOut, now()), None)
            }
        };
        match (step, answer) {
            (Step::Again { call: again, after, .. }, unwanted) => {
                // Its connection is not kept busy while nobody reads.
                drop(unwanted);
                tokio::time::sleep(after).await;
                call = again;
            }
            (Step::End(end), Some(mut answer)) => {
                answer.extensions_mut().insert(end);
                return Ok(answer);
            }
            (Step::End(end), None) => return Err(Error::new(end, last.take())),
        }
    }
}

async fn attempt<B>(
    trying: &crate::Trying,
    sending: impl Future<Output = Result<Response<B>, Failed>>,
) -> Result<Response<AnswerBody<B>>, Failed>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, body) = sending.await?.into_parts();
    let limit = trying.reads(head.status, &head.headers);
    let body = AnswerBody::read(body, limit)
        .await
        .map_err(|error| Failed { failure: Failure::MayHaveRun, source: error.into() })?;
    Ok(Response::from_parts(head, body))
}

/// Tokio's clock, which tests move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
