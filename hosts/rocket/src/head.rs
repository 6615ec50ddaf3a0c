//! Heads, from Rocket's types to those of `http` and back.
//!
//! A field's value is text in Rocket: one that is not UTF-8 cannot be told to it.

use std::net::SocketAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body as _;
use rocket::form::Form;
use rocket::http::ext::IntoOwned as _;
use rocket::http::uri::{Host, Origin};
use rocket::http::{Header, HeaderMap as Fields, Status};
use rocket::local::asynchronous::LocalResponse;
use rocket::{Request, Response as Answer};
use semel_driver::Body;
use tokio::io::AsyncRead;

use crate::body::{self, Reader, Sized, Taken};

/// What of a request's head is not among its fields.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) method: rocket::http::Method,
    pub(crate) uri: Origin<'static>,
    pub(crate) host: Option<Host<'static>>,
    pub(crate) remote: Option<SocketAddr>,
}

impl Target {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri().clone().into_owned(),
            host: request.host().map(|host| host.clone().into_owned()),
            remote: request.remote(),
        }
    }
}

/// The head of a request as Semel judges it.
pub(crate) fn of_request(request: &Request<'_>) -> Result<Parts, http::Error> {
    let mut head = http::Request::new(()).into_parts().0;
    head.method = Method::from_bytes(request.method().as_str().as_bytes())?;
    head.headers = fields(request.headers())?;
    let path = PathAndQuery::try_from(request.uri().to_string())?;
    head.uri = match request.host() {
        // HTTP/2 says in the target what HTTP/1.1 says in a field.
        Some(host) if !head.headers.contains_key(HOST) => Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(Authority::try_from(host.to_string())?)
            .path_and_query(path)
            .build()?,
        _ => path.into(),
    };
    Ok(head)
}

/// Whether this may have been a POST that is another method only since Rocket looked: it takes a form's first field for the
/// method if that is named `_method`.
///
/// `start` are the bytes that Rocket looked at, which are read as it reads them: `&_method=put` and `[_method]=put` are
/// among them. What was a PUT from the start cannot be told from what became one.
pub(crate) fn may_be_a_post(request: &Request<'_>, start: &[u8]) -> bool {
    let first = || Form::values(str::from_utf8(start).ok()?).next();
    request.content_type().is_some_and(|kind| kind.is_form())
        && first().is_some_and(|field| field.name == "_method")
}

/// A handler's answer as Semel judges it.
///
/// # Errors
///
/// It is none that could be sent: a status that does not exist, a field with a line break.
pub(crate) fn of_answer(answer: &LocalResponse<'_>) -> Result<http::response::Parts, http::Error> {
    let mut head = Response::new(()).into_parts().0;
    head.status = StatusCode::from_u16(answer.status().code)?;
    head.headers = fields(answer.headers())?;
    Ok(head)
}

/// What may go out.
pub(crate) fn answer<'r>(answer: Response<Body<Taken>>) -> Answer<'r> {
    let (parts, body) = answer.into_parts();
    let mut answer = Answer::new();
    answer.set_status(Status::new(parts.status.as_u16()));
    for (name, value) in &parts.headers {
        match str::from_utf8(value.as_bytes()) {
            Ok(value) => answer.adjoin_header(Header::new(name.as_str().to_owned(), value.to_owned())),
            Err(_) => {
                tracing::warn!(field = %name, "a recorded field is not UTF-8, and Rocket cannot send it");
            }
        }
    }
    let length = body.size_hint().exact();
    set_body(&mut answer, length, Reader::new(body));
    answer
}

/// An answer that nobody records, out of its own request.
pub(crate) fn passed<'r>(inner: LocalResponse<'r>) -> Answer<'r> {
    let mut answer = Answer::new();
    answer.set_status(inner.status());
    for header in inner.headers().iter() {
        answer.adjoin_header(Header::new(header.name().to_string(), header.value().to_owned()));
    }
    let length = body::length(&inner);
    set_body(&mut answer, length, inner);
    answer
}

fn set_body<'r>(answer: &mut Answer<'r>, length: Option<u64>, body: impl AsyncRead + Unpin + Send + 'r) {
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) => answer.set_sized_body(length, Sized(body)),
        None => answer.set_streamed_body(body),
    }
}

fn fields(from: &Fields<'_>) -> Result<http::HeaderMap, http::Error> {
    let mut fields = http::HeaderMap::with_capacity(from.len());
    for field in from.iter() {
        let name = HeaderName::from_bytes(field.name().as_str().as_bytes())?;
        fields.append(name, HeaderValue::from_bytes(field.value().as_bytes())?);
    }
    Ok(fields)
}
