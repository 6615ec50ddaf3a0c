//! The rules of a route, written into the operations of a document.

use std::collections::BTreeMap;

use http::Method;
use semel_core::policy::Policy;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ObjectBuilder, OpenApi, Ref, RefOr, Response, Type};
use utoipa::{Modify, PartialSchema as _, ToSchema as _};

use crate::{IdempotencyProblem, key, merge, refusals};

/// Writes the key's header and the refusals into every operation that a policy guards: for `modifiers`, or for a document that
/// is there. What an operation says itself stays.
///
/// Where it has an answer of its own with the status of a refusal (409 "sold out"), that response tells both: the refusals' lines
/// follow its description, and `application/problem+json` with the schema of [`IdempotencyProblem`] joins its media types. If it has
/// that media type already, its schema stays as it is and only the examples are added, each by the name of its code; allow for
/// Semel's members in that schema. Its one `example` becomes the first of `examples`, by the name `example`, since a
/// document may not have both. A response that is a reference to one of the components is copied first; one to anywhere else is left as it is.
#[derive(Clone, Debug)]
pub struct Guarded {
    policy: Policy,
    under: Vec<String>,
}

impl Guarded {
    /// The paths that these rules guard. `only_paths` and `except_paths` are compared with the paths as the document spells
    /// them: `/orders/` means `/orders/{id}` as well, and what `servers` puts before them is not known.
    pub fn by(policy: &Policy) -> Self {
        Self { policy: policy.clone(), under: Vec::new() }
    }

    /// Of these only this path of the document, as it is spelled there (`/orders/{id}`). Several may be named.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.under.push(path.into());
        self
    }

    fn operation(&self, operation: &mut Operation, components: &Shared) {
        let key = key::of(&self.policy);
        let parameters = operation.parameters.get_or_insert_default();
        let told = |known: &RefOr<utoipa::openapi::path::Parameter>| matches!(known, RefOr::T(known) if known.name.eq_ignore_ascii_case(&key.name));
        if !parameters.iter().any(told) {
            parameters.push(key.into());
        }
        let ours = refusals::by(&self.policy);
        for (status, response) in &mut operation.responses.responses {
            if let (RefOr::T(own), false) = (response, ours.contains_key(status)) {
                self.mark(own);
            }
        }
        for (status, refusals) in ours {
            let responses = &mut operation.responses.responses;
            let known = responses.get(&status);
            let own = match known {
                Some(RefOr::T(own)) => Some(own.clone()),
                // What others refer to as well is theirs: this operation gets a copy that tells more.
                Some(RefOr::Ref(shared)) => match component(components, shared) {
                    Some(own) => Some(own.clone()),
                    None => continue,
                },
                None => None,
            };
            let response = match own {
                // A refusal alone is never kept.
                Some(mut own) if own != refusals => {
                    self.mark(&mut own);
                    merge::into(own, &refusals)
                }
                _ => refusals,
            };
            responses.insert(status, response.into());
        }
    }

    /// Says of an answer of the operation's own how it is told when it is sent again, if the rules keep it.
    fn mark(&self, own: &mut Response) {
        let marker = &self.policy.headers.marker;
        let value = String::from_utf8_lossy(marker.value.as_bytes());
        let text = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([&*value]));
        let header = HeaderBuilder::new()
            .schema(Some(text))
            .description(Some("On the answer of an earlier try that is sent again, and on no other."));
        own.headers.entry(key::spelled(marker.name.as_str())).or_insert_with(|| header.build().into());
    }
}

impl Modify for Guarded {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.as_ref().map(|all| all.responses.clone()).unwrap_or_default();
        for (path, item) in &mut openapi.paths.paths {
            if self.under.is_empty() || self.under.contains(path) {
                for method in self.policy.methods.iter().filter(|method| self.policy.guards(method, path)) {
                    if let Some(operation) = of(item, method) {
                        self.operation(operation, &components);
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

/// The responses that operations refer to, by name.
type Shared = BTreeMap<String, RefOr<Response>>;

fn component<'a>(components: &'a Shared, to: &Ref) -> Option<&'a Response> {
    match components.get(to.ref_location.strip_prefix("#/components/responses/")?)? {
        RefOr::T(response) => Some(response),
        RefOr::Ref(_) => None,
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
