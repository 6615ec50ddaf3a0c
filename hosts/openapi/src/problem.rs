//! The schema of a refusal, read off a rendered one.

use http::HeaderMap;
use semel_core::key::Key;
use semel_core::problem::{Code, Docs, Problem, Retry};
use serde_json::{Map, Value};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// A refusal of Semel's: problem details of RFC 9457 with the members `code`, `retry` and `retryable`, and where they are known
/// `idempotency_key` and `instance`. For `components(schemas(IdempotencyProblem))`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct IdempotencyProblem;

impl ToSchema for IdempotencyProblem {}

impl PartialSchema for IdempotencyProblem {
    fn schema() -> RefOr<Schema> {
        let always = members(&Problem::new(Code::InFlight));
        let object = members(&full()).into_iter().fold(ObjectBuilder::new(), |object, (name, value)| {
            let object = if always.contains_key(&name) { object.required(&name) } else { object };
            let member = member(&name, &value);
            object.property(name, member)
        });
        object.description(Some("Problem details (RFC 9457) of a request that was not run.")).into()
    }
}

/// With every member that there can be.
fn full() -> Problem {
    let problem = Problem::new(Code::InFlight).with_instance(Uuid::nil());
    match Key::from_text("key") {
        Ok(key) => problem.with_key(key),
        Err(_) => problem,
    }
}

fn member(name: &str, value: &Value) -> ObjectBuilder {
    let object = ObjectBuilder::new();
    let object = match value {
        Value::Number(_) => object.schema_type(Type::Integer),
        Value::Bool(_) => object.schema_type(Type::Boolean),
        _ => object.schema_type(Type::String),
    };
    match name {
        "type" | "instance" => object.format(Some(SchemaFormat::Custom("uri".to_owned()))),
        "code" => object.enum_values(Some(Code::ALL.map(Code::as_str))),
        "retry" => {
            let all = [Retry::SameKey, Retry::NewKey, Retry::Stop, Retry::Reconcile];
            object.enum_values(Some(all.map(Retry::as_str)))
        }
        _ => object,
    }
}

/// The members of its JSON.
pub(crate) fn members(problem: &Problem) -> Map<String, Value> {
    let answer = problem.render(&HeaderMap::new(), &Docs::default());
    serde_json::from_slice(answer.body()).unwrap_or_default()
}
