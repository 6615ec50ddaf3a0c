//! The future of an answer: the inner service's own where nothing is guarded.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use semel_driver::{Attended, Body};

use crate::service::Outcome;

pin_project! {
    /// The answer to come.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        kind: Kind<F, R, E>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, R, E> {
        Bypass { #[pin] inner: F },
        Answer { answer: Option<Box<Response<Body<R>>>> },
        Guarded { run: Attended<Outcome<R, E>> },
    }
}

impl<F, R, E> ResponseFuture<F, R, E> {
    pub(crate) fn bypass(inner: F) -> Self {
        Self { kind: Kind::Bypass { inner } }
    }

    pub(crate) fn answer(answer: Response<Body<R>>) -> Self {
        Self { kind: Kind::Answer { answer: Some(Box::new(answer)) } }
    }

    pub(crate) fn guarded(run: Attended<Outcome<R, E>>) -> Self {
        Self { kind: Kind::Guarded { run } }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Body<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Bypass { inner } => {
                Poll::Ready(ready!(inner.poll(cx)).map(|response| response.map(Body::passed)))
            }
            KindProj::Answer { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(*answer)),
                None => Poll::Pending,
            },
            KindProj::Guarded { run } => match ready!(Pin::new(run).poll(cx)) {
                Ok(answer) => Poll::Ready(answer),
                Err(panicked) => panicked.resume(),
            },
        }
    }
}

impl<F, R, E> std::fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
