//! The rules of a route, written into the operations of a document.

use http::Method;
use semel_core::policy::Policy;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ObjectBuilder, OpenApi, RefOr, Type};
use utoipa::{Modify, PartialSchema as _, ToSchema as _};

use crate::{IdempotencyProblem, key, refusals};

/// Writes the key's header and the refusals into every operation that a policy guards: for `modifiers`, or for a document that
/// is there. What an operation says itself stays.
#[derive(Clone, Debug)]
pub struct Guarded {
    policy: Policy,
    under: Vec<String>,
}

impl Guarded {
    /// All paths, by these rules.
    pub fn by(policy: &Policy) -> Self {
        Self { policy: policy.clone(), under: Vec::new() }
    }

    /// Only this path of the document, as it is spelled there (`/orders/{id}`). Several may be named.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.under.push(path.into());
        self
    }

    fn operation(&self, operation: &mut Operation) {
        let key = key::of(&self.policy);
        let parameters = operation.parameters.get_or_insert_default();
        let told = |known: &RefOr<utoipa::openapi::path::Parameter>| matches!(known, RefOr::T(known) if known.name.eq_ignore_ascii_case(&key.name));
        if !parameters.iter().any(told) {
            parameters.push(key.into());
        }
        for (status, response) in &mut operation.responses.responses {
            if let (RefOr::T(response), true) = (response, status.starts_with('2')) {
                let header = HeaderBuilder::new()
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"]))))
                    .description(Some("The answer of an earlier try, sent again."));
                response
                    .headers
                    .entry("Idempotency-Replayed".to_owned())
                    .or_insert_with(|| header.build().into());
            }
        }
        for (status, response) in refusals::by(&self.policy) {
            operation.responses.responses.entry(status).or_insert(response);
        }
    }
}

impl Modify for Guarded {
    fn modify(&self, openapi: &mut OpenApi) {
        for (path, item) in &mut openapi.paths.paths {
            if self.under.is_empty() || self.under.contains(path) {
                for method in &self.policy.methods {
                    if let Some(operation) = of(item, method) {
                        self.operation(operation);
                    }
                }
            }
        }
        if self.policy.profile.is_none() {
            let schemas = &mut openapi.components.get_or_insert_default().schemas;
            schemas.entry(IdempotencyProblem::name().into_owned()).or_insert_with(IdempotencyProblem::schema);
        }
    }
}

/// Of the methods that OpenAPI knows, those that are not safe.
fn of<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match *method {
        Method::POST => item.post.as_mut(),
        Method::PATCH => item.patch.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}
