//! A middleware for reqwest 0.13, through `reqwest-middleware`.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel_client::reqwest::{client, outcome};
//! use semel_client::{Outcome, Retries};
//!
//! let client = client(reqwest::Client::builder(), Retries::default())?;
//! let sent = client.post("https://shop.example/orders").body(r#"{"item":7}"#).send().await;
//! match outcome(sent) {
//!     Outcome::Done(answer) | Outcome::Replayed(answer) => println!("{}", answer.status()),
//!     Outcome::Rejected(answer) => println!("refused: {}", answer.status()),
//!     Outcome::Unknown(unknown) => println!("ask later with the key {:?}", unknown.key),
//!     Outcome::NotSent(error) => println!("nothing happened: {error}"),
//! }
//! # Ok(()) }
//! ```
//!
//! TLS, proxies, compression and the rest are those of the `reqwest` in your own manifest: none of its features is
//! turned on here.
//!
//! A body that is a stream cannot be sent again, and is refused before anything is sent, unless the request carries the
//! extension [`Once`]. [`Unkeyed`] keeps a request without a key.

use ::reqwest::{Body, ClientBuilder, Request, Response, ResponseBuilderExt as _};
use http::Extensions;
use reqwest_middleware::{ClientWithMiddleware, Middleware, Next};

use crate::shell::{self, AnswerBody, Failed};
pub use crate::shell::{NotBegun, Once, Unkeyed};
use crate::{Asked, End, Error, Failure, Outcome, Retries};

/// A reqwest client that retries.
///
/// Redirects are turned off, so that they are answers as any other: a connection that fails is then known to be the
/// request's own, and not that of a second request after one that was done. So are reqwest's own retries: nobody but
/// this counts the tries.
///
/// # Errors
///
/// Those of [`ClientBuilder::build`].
pub fn client(builder: ClientBuilder, retries: Retries) -> ::reqwest::Result<ClientWithMiddleware> {
    let builder = builder.redirect(::reqwest::redirect::Policy::none()).retry(::reqwest::retry::never());
    let retry = Retry::new(retries).without_redirects();
    Ok(reqwest_middleware::ClientBuilder::new(builder.build()?).with(retry).build())
}

/// The middleware, for a client of one's own making. Put it first (outermost), so that what comes after it, such as
/// tracing or signing, sees each try.
#[derive(Clone, Debug)]
pub struct Retry {
    retries: Retries,
    redirects: bool,
}

impl Retry {
    /// Retries as these settings say. The client may follow redirects: then no failed connection proves that nothing
    /// was sent, since it may be that of a redirect, and a request without a key is not sent again.
    pub fn new(retries: Retries) -> Self {
        Self { retries, redirects: true }
    }

    /// Says that the client follows no redirects (`redirect::Policy::none()`): a connection that fails is the request's own.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        self.redirects = false;
        self
    }

    fn failed(&self, error: reqwest_middleware::Error) -> Failed {
        let failure = match &error {
            reqwest_middleware::Error::Reqwest(error) if error.is_builder() => Failure::Invalid,
            reqwest_middleware::Error::Reqwest(error) if error.is_connect() && !self.redirects => {
                Failure::NeverSent
            }
            reqwest_middleware::Error::Reqwest(error) if error.is_timeout() => Failure::TimedOut,
            // What another middleware did before it failed is not known.
            _ => Failure::MayHaveRun,
        };
        let source = match error {
            // An address may carry a password.
            reqwest_middleware::Error::Reqwest(error) => error.without_url().into(),
            reqwest_middleware::Error::Middleware(error) => error.into(),
        };
        Failed { failure, source }
    }

    async fn run(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, Error> {
        let again = request.try_clone();
        let asked = Asked::new(request.method(), request.headers())
            .replayable(again.is_some())
            .once(extensions.get::<Once>().is_some())
            .unkeyed(extensions.get::<Unkeyed>().is_some());
        let call = shell::begin(&self.retries, &asked)?;
        let minted = call.minted().map(|(name, value)| (name.clone(), value.clone()));
        // A body that can be sent once is the first try's, and there is no other.
        let (mut first, template) = match again {
            Some(again) => (Some(request), Some(again)),
            None => (Some(request), None),
        };
        let extensions = &*extensions;
        let answer = shell::drive(call, || {
            let request = first.take().or_else(|| template.as_ref().and_then(Request::try_clone));
            let (next, mut extensions, minted) = (next.clone(), extensions.clone(), minted.clone());
            async move {
                let Some(mut request) = request else {
                    return Err(Failed { failure: Failure::Invalid, source: crate::NotReplayable.into() });
                };
                if let Some((name, value)) = minted {
                    request.headers_mut().insert(name, value);
                }
                let answer = next.run(request, &mut extensions).await.map_err(|error| self.failed(error))?;
                let url = answer.url().clone();
                let mut answer: http::Response<Body> = answer.into();
                answer.extensions_mut().insert(Address(url));
                Ok(answer)
            }
        })
        .await?;
        Ok(rebuilt(answer))
    }
}

/// Where the answer came from, while it is apart.
#[derive(Clone)]
struct Address(::reqwest::Url);

fn rebuilt(answer: http::Response<AnswerBody<Body>>) -> Response {
    let (mut head, mut body) = answer.into_parts();
    if let Some(Address(url)) = head.extensions.remove::<Address>() {
        // The only way to say where an answer is from.
        if let Ok(marked) = http::Response::builder().url(url).body(()) {
            head.extensions.extend(marked.into_parts().0.extensions);
        }
    }
    let body = body.take_whole().map_or_else(|| Body::wrap(body), Body::from);
    Response::from(http::Response::from_parts(head, body))
}

#[async_trait::async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.run(request, extensions, next)
            .await
            .map_err(|error| reqwest_middleware::Error::Middleware(error.into()))
    }
}

/// Sorts what a client with this middleware gave by what is known of the operation.
///
/// An error that is not this middleware's is one of a request that could not be made, or of a middleware before it: it
/// says nothing, so the operation is unknown.
pub fn outcome(sent: reqwest_middleware::Result<Response>) -> Outcome<Response> {
    let sent = sent.map_err(|error| match error {
        reqwest_middleware::Error::Middleware(error) => match error.downcast::<Error>() {
            Ok(own) => own,
            Err(other) => Error::foreign(other.into(), false),
        },
        reqwest_middleware::Error::Reqwest(error) => {
            let never = error.is_builder();
            Error::foreign(error.without_url().into(), never)
        }
    });
    crate::outcome::sort(sent, |answer| answer.extensions().get::<End>().cloned())
}
