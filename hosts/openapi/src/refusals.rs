//! What a guarded operation may answer instead of the application, by status.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use semel_core::key::KeyFormat;
use semel_core::policy::{Policy, Requirement};
use semel_core::problem::{Code, Docs, Problem};
use serde_json::Value;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Type};
use utoipa::{IntoResponses, ToSchema};

use crate::IdempotencyProblem;

/// The refusals of a guarded operation with the default rules, for `responses(Refusals)`: 400, 408, 409, 413, 422, 429 and 503,
/// each with its codes as examples. They refer to the schema [`IdempotencyProblem`], which has to be among the components.
///
/// An operation has one response for each status, and here these are it: where it answers 409 itself, have
/// [`Guarded`](crate::Guarded) put both together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(Rendered::by_default).into_iter().map(|(status, response)| (status, response.into())).collect()
    }
}

/// A refusal as clients get it.
pub(crate) struct Rendered {
    status: u16,
    kind: String,
    body: Value,
    /// In the form that has a schema.
    plain: bool,
}

impl Rendered {
    fn by_default(code: Code) -> Option<Self> {
        let answer = Problem::new(code).render(&HeaderMap::new(), &Docs::default());
        is_usual(code).then(|| Self::new(&answer, true))
    }

    fn by(policy: &Policy, code: Code) -> Option<Self> {
        let can_be = is_usual(code)
            && match code {
                Code::KeyMissing => policy.requirement == Requirement::Required,
                Code::KeyExpired => policy.key.format == KeyFormat::UuidV7,
                _ => true,
            };
        let answer = policy.render(&Problem::new(code), &HeaderMap::new());
        can_be.then(|| Self::new(&answer, policy.profile.is_none()))
    }

    fn new(answer: &http::Response<impl AsRef<[u8]>>, plain: bool) -> Self {
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let body = serde_json::from_slice(answer.body().as_ref()).unwrap_or_default();
        Self { status: answer.status().as_u16(), kind: kind.to_owned(), body, plain }
    }
}

/// Those of a gateway and of transactions are told by few services.
fn is_usual(code: Code) -> bool {
    !matches!(code, Code::UpstreamUnreachable | Code::RolledBack)
}

/// As a route answers.
pub(crate) fn by(policy: &Policy) -> BTreeMap<String, Response> {
    of(|code| Rendered::by(policy, code))
}

fn of(render: impl Fn(Code) -> Option<Rendered>) -> BTreeMap<String, Response> {
    let mut by_status: BTreeMap<u16, Vec<(Code, Rendered)>> = BTreeMap::new();
    for code in Code::ALL {
        if let Some(rendered) = render(code) {
            by_status.entry(rendered.status).or_default().push((code, rendered));
        }
    }
    by_status.into_iter().map(|(status, refusals)| (status.to_string(), response(&refusals))).collect()
}

fn response(refusals: &[(Code, Rendered)]) -> Response {
    let lines: Vec<_> = refusals.iter().map(|(code, _)| format!("`{code}`: {}.", code.title())).collect();
    let mut response = ResponseBuilder::new().description(lines.join("\n"));
    if let Some((_, first)) = refusals.first() {
        response = response.content(&first.kind, content(first, refusals));
    }
    if refusals.iter().any(|(code, _)| code.may_say_when()) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let header =
            HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds until a retry can help."));
        response = response.header("Retry-After", header.build());
    }
    response.build()
}

fn content(first: &Rendered, refusals: &[(Code, Rendered)]) -> Content {
    let examples: Vec<(String, RefOr<Example>)> = refusals
        .iter()
        .map(|(code, refusal)| {
            let example = ExampleBuilder::new().summary(code.title()).value(Some(refusal.body.clone()));
            (code.as_str().to_owned(), example.build().into())
        })
        .collect();
    let content = ContentBuilder::new().examples_from_iter(examples);
    if first.plain {
        content.schema(Some(Ref::from_schema_name(IdempotencyProblem::name()))).build()
    } else {
        content.schema(Some(ObjectBuilder::new())).build()
    }
}
