//! A layer over any HTTP client that is a tower service, such as hyper-util's.
//!
//! ```no_run
//! # #[cfg(feature = "hyper-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use semel_client::tower::{RequestBody, RetryLayer};
//! use semel_client::{Outcome, Retries, outcome};
//! use tower::{Layer as _, ServiceExt as _};
//!
//! let client = Client::builder(TokioExecutor::new()).build_http::<RequestBody>();
//! let client = RetryLayer::new(Retries::default()).layer(client);
//! let body = Full::<bytes::Bytes>::from(r#"{"item":7}"#);
//! let order = http::Request::post("http://shop.example/orders").body(body)?;
//! match outcome(client.oneshot(order).await) {
//!     Outcome::Done(answer) | Outcome::Replayed(answer) => println!("{}", answer.status()),
//!     Outcome::Rejected(answer) => println!("refused: {}", answer.status()),
//!     Outcome::Unknown(unknown) => println!("ask later with the key {:?}", unknown.key),
//!     Outcome::NotSent(error) => println!("nothing happened: {error}"),
//! }
//! # Ok(()) }
//! # #[cfg(not(feature = "hyper-util"))]
//! # fn main() {}
//! ```
//!
//! A request's body may be of any type: it is read into memory before the first try, up to
//! [`body_limit`](crate::RetriesBuilder::body_limit). One that is longer, or breaks off, is refused then, when nothing
//! has been sent.

mod body;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
#[cfg(feature = "hyper-util")]
use hyper_util::client::legacy::Error as Hyper;
use tower_layer::Layer;
use tower_service::Service;

pub use body::RequestBody;

use crate::outcome::BoxError;
use crate::shell::{self, Failed};
pub use crate::shell::{AnswerBody, NotBegun, Once, Unkeyed};
use crate::{Asked, Error, Failure, Retries};

/// Makes a [`RetryService`] of a client.
#[derive(Clone, Debug, Default)]
pub struct RetryLayer {
    retries: Retries,
    judge: Judge,
}

/// A client that retries. Its answers carry an [`End`](crate::End) in their extensions; [`outcome`](crate::outcome()) sorts them.
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: S,
    retries: Retries,
    judge: Judge,
}

/// Tells what a failure of the client means.
#[derive(Clone, Copy)]
struct Judge(fn(&(dyn std::error::Error + 'static)) -> Failure);

impl RetryLayer {
    /// Retries as these settings say.
    pub fn new(retries: Retries) -> Self {
        Self { retries, judge: Judge::default() }
    }

    /// Says what a failure of the client means, for clients that are not hyper-util's. [`Failure::NeverSent`] is a
    /// proof: an operation without a key is then sent again.
    ///
    /// By default a refused connection was never sent, as is what hyper-util's client could not connect for (with
    /// the feature `hyper-util`); all else may have run.
    #[must_use]
    pub fn failures(mut self, judge: fn(&(dyn std::error::Error + 'static)) -> Failure) -> Self {
        self.judge = Judge(judge);
        self
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner, retries: self.retries.clone(), judge: self.judge }
    }
}

impl<S, B, A> Service<Request<B>> for RetryService<S>
where
    S: Service<Request<RequestBody>, Response = Response<A>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    A: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    A::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody<A>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready: each try waits for the client within its own time.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.run(request).await })
    }
}

impl<S> RetryService<S> {
    async fn run<B, A>(self, request: Request<B>) -> Result<Response<AnswerBody<A>>, Error>
    where
        S: Service<Request<RequestBody>, Response = Response<A>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        A: HttpBody<Data = Bytes> + Unpin + Send + 'static,
        A::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let body = RequestBody::read(body, self.retries.body_limit).await?;
        let asked = Asked::new(&head.method, &head.headers)
            .once(head.extensions.get::<Once>().is_some())
            .unkeyed(head.extensions.get::<Unkeyed>().is_some());
        let call = shell::begin(&self.retries, &asked)?;
        if let Some((name, value)) = call.minted() {
            head.headers.insert(name.clone(), value.clone());
        }
        let (judge, inner) = (self.judge, self.inner);
        shell::drive(call, move || {
            let mut client = inner.clone();
            let request = Request::from_parts(head.clone(), body.clone());
            async move {
                let ready = poll_fn(|cx| client.poll_ready(cx)).await;
                // A client that is not ready was given nothing.
                ready.map_err(|error| Failed { failure: Failure::NeverSent, source: error.into() })?;
                client.call(request).await.map_err(|error| {
                    let source = error.into();
                    Failed { failure: judge.0(&*source), source }
                })
            }
        })
        .await
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self(never_sent)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

fn never_sent(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        #[cfg(feature = "hyper-util")]
        if error.downcast_ref::<Hyper>().is_some_and(Hyper::is_connect) {
            return Failure::NeverSent;
        }
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return Failure::NeverSent;
        }
        cause = error.source();
    }
    Failure::MayHaveRun
}
