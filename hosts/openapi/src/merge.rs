//! One response that tells an operation's own answer and the refusals of the same status.

use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{Content, RefOr, Response};

/// Adds the refusals to what the operation says itself. Twice is once.
pub(crate) fn into(mut own: Response, refusals: &Response) -> Response {
    for line in refusals.description.lines() {
        if !own.description.lines().any(|known| known == line) {
            // A paragraph of its own, so that a text that ends without a full stop stays apart.
            own.description.push_str(if own.description.is_empty() { "" } else { "\n\n" });
            own.description.push_str(line);
        }
    }
    for (name, header) in &refusals.headers {
        if !own.headers.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            own.headers.insert(name.clone(), header.clone());
        }
    }
    for (kind, content) in &refusals.content {
        match (own.content.get_mut(kind), content) {
            (Some(RefOr::T(known)), RefOr::T(content)) => examples(known, content),
            (Some(_), _) => {}
            (None, _) => {
                own.content.insert(kind.clone(), content.clone());
            }
        }
    }
    own
}

fn examples(own: &mut Content, refusals: &Content) {
    if let Some(single) = own.example.take() {
        own.examples.entry("example".to_owned()).or_insert_with(|| told(single));
    }
    for (code, example) in &refusals.examples {
        own.examples.entry(code.clone()).or_insert_with(|| example.clone());
    }
}

fn told(value: Value) -> RefOr<utoipa::openapi::example::Example> {
    ExampleBuilder::new().value(Some(value)).build().into()
}
