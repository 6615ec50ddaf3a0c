//! Heads, from actix-web's types to those of `http` and back: every byte is kept.
//!
//! Actix-web is built on an older `http`, whose types are others of the same names.

use std::fmt::{Debug, Display};

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::{StatusCode as OldStatus, header as old};
use actix_web::{Error, HttpResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version};
use semel_core::engine::{Failure, Override};
use semel_core::policy::keep::Outcome;
use semel_driver::{Body, Whole};

use crate::body::{Answer, Taken};

/// The head of a request, without extensions.
pub(crate) fn of_request(request: &ServiceRequest) -> Result<http::request::Parts, http::Error> {
    let mut head = http::Request::new(()).into_parts().0;
    head.method = Method::from_bytes(request.method().as_str().as_bytes())?;
    head.uri = Uri::try_from(request.uri().to_string())?;
    head.version = match request.version() {
        actix_web::http::Version::HTTP_09 => Version::HTTP_09,
        actix_web::http::Version::HTTP_10 => Version::HTTP_10,
        actix_web::http::Version::HTTP_2 => Version::HTTP_2,
        actix_web::http::Version::HTTP_3 => Version::HTTP_3,
        _ => Version::HTTP_11,
    };
    head.headers = fields(request.headers())?;
    Ok(head)
}

/// Puts these fields in the place of all that the request has.
pub(crate) fn set_fields(request: &mut ServiceRequest, fields: &HeaderMap) {
    replace(request.headers_mut(), fields);
}

/// An answer that Semel made, to a request that no handler has.
pub(crate) fn answer<B: MessageBody + 'static>(
    request: ServiceRequest,
    answer: Response<Whole>,
) -> ServiceResponse<EitherBody<B, Answer<B>>> {
    request
        .into_response(join(HttpResponse::new(OldStatus::OK).drop_body(), answer.map(Body::whole)))
        .map_into_right_body()
}

/// An answer that Semel made, to a request that is elsewhere; with what it says of its run.
pub(crate) fn whole(mut answer: Response<Whole>) -> HttpResponse<Answer<BoxBody>> {
    let mut shell = HttpResponse::new(OldStatus::OK).drop_body();
    if let Some(word) = answer.extensions_mut().remove::<Override>() {
        shell.extensions_mut().insert(word);
    }
    join(shell, answer.map(Body::whole))
}

/// An answer without its request.
pub(crate) fn error(cause: impl Debug + Display + 'static, answer: HttpResponse<Answer<BoxBody>>) -> Error {
    InternalError::from_response(cause, answer.map_into_boxed_body()).into()
}

/// A handler's answer as Semel judges it, and what is left of it: extensions and flags of actix-web's own.
pub(crate) fn split<B>(response: HttpResponse<B>) -> (HttpResponse<()>, http::response::Parts, B) {
    let (mut shell, body) = response.into_parts();
    let mut parts = Response::new(()).into_parts().0;
    if let Ok(status) = StatusCode::from_u16(shell.status().as_u16()) {
        parts.status = status;
    }
    // What the older type took as a field the newer one takes, too: both have the grammar of RFC 9110, section 5.
    parts.headers = fields(shell.headers()).unwrap_or_default();
    let mut said = shell.extensions_mut();
    if let Some(word) = said.remove::<Override>() {
        parts.extensions.insert(word);
    }
    if let Some(word) = said.remove::<Outcome>() {
        parts.extensions.insert(word);
    }
    if let Some(word) = said.remove::<Failure>() {
        parts.extensions.insert(word);
    }
    drop(said);
    (shell, parts, body)
}

/// What may go out, in the shell of the answer that the handler gave.
pub(crate) fn join<B: MessageBody>(
    mut shell: HttpResponse<()>,
    answer: Response<Body<Taken<B>>>,
) -> HttpResponse<Answer<B>> {
    let (parts, body) = answer.into_parts();
    if let Ok(status) = OldStatus::from_u16(parts.status.as_u16()) {
        *shell.status_mut() = status;
    }
    replace(shell.headers_mut(), &parts.headers);
    shell.set_body(Answer::new(body))
}

fn fields(from: &old::HeaderMap) -> Result<HeaderMap, http::Error> {
    let mut fields = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let mut copy = HeaderValue::from_bytes(value.as_bytes())?;
        copy.set_sensitive(value.is_sensitive());
        fields.append(HeaderName::from_bytes(name.as_str().as_bytes())?, copy);
    }
    Ok(fields)
}

fn replace(into: &mut old::HeaderMap, fields: &HeaderMap) {
    into.clear();
    for (name, value) in fields {
        let (Ok(name), Ok(mut copy)) = (
            old::HeaderName::from_bytes(name.as_str().as_bytes()),
            old::HeaderValue::from_bytes(value.as_bytes()),
        ) else {
            continue;
        };
        copy.set_sensitive(value.is_sensitive());
        into.append(name, copy);
    }
}
