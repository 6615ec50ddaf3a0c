//! The header parameter.

use semel_core::key::{KeyFormat, KeyRules};
use semel_core::policy::{Policy, Requirement};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, SchemaFormat, Type};

/// The key's header where it is required, with the default rules: for `params(RequiredKey)`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequiredKey;

/// The key's header where a request without it passes unguarded, with the default rules: for `params(OptionalKey)`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionalKey;

impl IntoParams for RequiredKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter(&KeyRules::default(), Requirement::Required)]
    }
}

impl IntoParams for OptionalKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter(&KeyRules::default(), Requirement::Optional)]
    }
}

/// As a route has it.
pub(crate) fn of(policy: &Policy) -> Parameter {
    parameter(&policy.key, policy.requirement)
}

fn parameter(rules: &KeyRules, requirement: Requirement) -> Parameter {
    let (format, example) = match rules.format {
        KeyFormat::UuidV7 => (Some("uuid"), "0192f5c0-0000-7000-8000-000000000001"),
        KeyFormat::Uuid => (Some("uuid"), "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        _ => (None, "8e03978e-40d5-43e8-bc93-6894a57f9324"),
    };
    let what = match requirement {
        Requirement::Required => "A request without it is refused.",
        Requirement::Optional => "A request without it is not guarded.",
    };
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(format.map(|format| SchemaFormat::Custom(format.to_owned())))
        .min_length(Some(1))
        // Quotes are not of the key's length.
        .max_length(Some(rules.max_len + 2));
    ParameterBuilder::new()
        .name(spelled(rules.field.as_str()))
        .parameter_in(ParameterIn::Header)
        .required(if requirement == Requirement::Required { Required::True } else { Required::False })
        .description(Some(format!(
            "Names this operation: the same key with every try, a new one with every operation. A retry gets the answer of the \
             first run. {what}"
        )))
        .schema(Some(text))
        .example(Some(format!("\"{example}\"").into()))
        .build()
}

/// As people write the names of fields: `Idempotency-Key`.
pub(crate) fn spelled(field: &str) -> String {
    let words = field.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}
