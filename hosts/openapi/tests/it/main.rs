//! The documents that come out, read as JSON by whoever reads them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, clippy::unused_async, reason = "the handlers are there for their documentation")]

use axum::body::Body;
use http::{HeaderMap, HeaderName, Method, Request};
use http_body_util::BodyExt as _;
use semel_core::key::KeyFormat;
use semel_core::policy::{Policy, Profile};
use semel_core::problem::{Code, Docs, Problem};
use semel_openapi::{Guarded, IdempotencyProblem, OptionalKey, Refusals, RequiredKey};
use semel_store_memory::MemoryStore;
use semel_tower::{Idempotency, IdempotencyLayer};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::{Modify as _, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[utoipa::path(
    post,
    path = "/orders",
    params(RequiredKey),
    responses((status = 201, description = "Made."), Refusals)
)]
async fn by_hand() {}

#[utoipa::path(post, path = "/notes", params(OptionalKey), responses((status = 204, description = "Noted.")))]
async fn optional() {}

#[derive(OpenApi)]
#[openapi(paths(by_hand, optional), components(schemas(IdempotencyProblem)))]
struct ByHand;

#[utoipa::path(post, path = "/orders", responses((status = 201, description = "Made."), (status = 409, description = "Sold out.")))]
async fn create() {}
#[utoipa::path(get, path = "/orders", responses((status = 200, description = "All.")))]
async fn list() {}
#[utoipa::path(patch, path = "/orders/{id}", params(("id" = u64, Path)), responses((status = 200, description = "Changed.")))]
async fn change() {}
#[utoipa::path(put, path = "/orders/{id}", params(("id" = u64, Path)), responses((status = 200, description = "Put.")))]
async fn put() {}

#[derive(OpenApi)]
#[openapi(paths(create, list, change, put))]
struct Plain;

fn document(api: &utoipa::openapi::OpenApi) -> Value {
    serde_json::from_str(&api.to_json().unwrap()).unwrap()
}

fn modified(guarded: &Guarded) -> Value {
    let mut api = Plain::openapi();
    guarded.modify(&mut api);
    document(&api)
}

fn key_of(operation: &Value) -> Option<&Value> {
    let parameters = operation["parameters"].as_array()?;
    parameters.iter().find(|parameter| parameter["in"] == "header")
}

fn statuses(operation: &Value) -> Vec<&str> {
    operation["responses"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn an_operation_that_names_the_types_has_header_and_refusals() {
    let document = document(&ByHand::openapi());
    let orders = &document["paths"]["/orders"]["post"];
    let key = key_of(orders).unwrap();
    assert_eq!((&key["name"], &key["required"]), (&json!("Idempotency-Key"), &json!(true)));
    assert_eq!(key_of(&document["paths"]["/notes"]["post"]).unwrap()["required"], false);
    assert_eq!(statuses(orders), ["201", "400", "408", "409", "413", "422", "429", "503"]);
    let conflict = &orders["responses"]["409"];
    let content = &conflict["content"]["application/problem+json"];
    assert_eq!(content["schema"]["$ref"], "#/components/schemas/IdempotencyProblem");
    assert!(conflict["headers"]["Retry-After"].is_object());
    assert!(document["components"]["schemas"]["IdempotencyProblem"].is_object());
}

/// The texts have one place: what the document says of a code is what a client gets for it.
#[test]
fn every_example_is_the_very_document_that_a_client_gets() {
    let document = document(&ByHand::openapi());
    let mut seen = Vec::new();
    for (status, response) in document["paths"]["/orders"]["post"]["responses"].as_object().unwrap() {
        let Some(examples) = response["content"]["application/problem+json"]["examples"].as_object() else {
            continue;
        };
        for (name, example) in examples {
            let code: Code = name.parse().unwrap();
            let answer = Problem::new(code).render(&HeaderMap::new(), &Docs::default());
            assert_eq!(answer.status().as_str(), status);
            assert_eq!(example["value"], serde_json::from_slice::<Value>(answer.body()).unwrap());
            assert!(response["description"].as_str().unwrap().contains(code.title()), "{code}");
            seen.push(code);
        }
    }
    let left_out: Vec<_> = Code::ALL.into_iter().filter(|code| !seen.contains(code)).collect();
    assert_eq!(left_out, [Code::UpstreamUnreachable, Code::RolledBack]);
}

#[test]
fn the_schema_has_the_members_that_are_rendered() {
    let document = document(&ByHand::openapi());
    let schema = &document["components"]["schemas"]["IdempotencyProblem"];
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["code", "detail", "idempotency_key", "instance", "retry", "retryable", "status", "title", "type"]
    );
    let mut required: Vec<_> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    required.sort_unstable();
    assert_eq!(required, ["code", "detail", "retry", "retryable", "status", "title", "type"]);
    assert_eq!(
        (&properties["status"]["type"], &properties["retryable"]["type"]),
        (&json!("integer"), &json!("boolean"))
    );
    assert_eq!(properties["code"]["enum"].as_array().unwrap().len(), Code::ALL.len());
    assert_eq!(properties["retry"]["enum"], json!(["same-key", "new-key", "stop", "reconcile"]));
}

#[test]
fn a_policy_is_written_into_what_it_guards_and_nothing_else() {
    let policy = Policy::builder().require_key().build().unwrap();
    let document = modified(&Guarded::by(&policy));
    let paths = &document["paths"];
    for guarded in [&paths["/orders"]["post"], &paths["/orders/{id}"]["patch"]] {
        assert_eq!(key_of(guarded).unwrap()["required"], true);
        assert!(statuses(guarded).contains(&"422"));
    }
    for free in [&paths["/orders"]["get"], &paths["/orders/{id}"]["put"]] {
        assert!(key_of(free).is_none() && statuses(free).len() == 1, "{free}");
    }
    let made = &paths["/orders"]["post"]["responses"];
    // An answer of the operation's own is kept whatever its status, and a refusal never is.
    for (status, marked) in [("201", true), ("409", true), ("400", false), ("422", false)] {
        let marker = &made[status]["headers"]["Idempotency-Replayed"];
        assert_eq!(marker.is_object(), marked, "{status}: {marker}");
    }
    assert!(made["409"]["description"].as_str().unwrap().starts_with("Sold out.\n\n`in-flight`: "));
    assert!(document["components"]["schemas"]["IdempotencyProblem"].is_object());
    // Twice is once.
    let mut api = Plain::openapi();
    Guarded::by(&policy).modify(&mut api);
    Guarded::by(&policy).modify(&mut api);
    assert_eq!(self::document(&api), document);
}

#[test]
fn the_rules_of_the_route_decide_what_is_said() {
    let rules = Policy::builder()
        .methods([Method::PUT])
        .key_field(HeaderName::from_static("x-request-key"))
        .key_format(KeyFormat::UuidV7)
        .build()
        .unwrap();
    let document = modified(&Guarded::by(&rules).at("/orders/{id}").at("/nowhere"));
    let put = &document["paths"]["/orders/{id}"]["put"];
    let key = key_of(put).unwrap();
    assert_eq!(
        (&key["name"], &key["required"], &key["schema"]["format"]),
        (&json!("X-Request-Key"), &json!(false), &json!("uuid"))
    );
    let examples = &put["responses"]["400"]["content"]["application/problem+json"]["examples"];
    assert!(examples["key-missing"].is_null() && examples["key-expired"].is_object());
    assert!(key_of(&document["paths"]["/orders"]["post"]).is_none());
}

#[utoipa::path(post, path = "/tickets", responses(
    (status = 409, description = "Sold out", body = String, content_type = "text/plain", example = json!("none left")),
    (status = 422, description = "No such seat", body = Seat, content_type = "application/problem+json",
        example = json!({"seat": 7})),
    (status = 429, response = Slower),
    (status = 503, description = "Closed", body = String)
))]
async fn buy() {}

#[derive(utoipa::ToSchema)]
struct Seat {
    seat: u32,
}

#[derive(utoipa::ToResponse)]
#[response(description = "Slower")]
struct Slower {
    after: u32,
}

#[derive(OpenApi)]
#[openapi(paths(buy), components(schemas(Seat), responses(Slower)))]
struct Tickets;

/// A client that is told 409 must find both in the document: that it is sold out, and that the first try still runs.
#[test]
fn an_answer_of_the_operation_and_the_refusals_of_its_status_are_told_together() {
    let policy = Policy::builder().require_key().build().unwrap();
    let mut api = Tickets::openapi();
    Guarded::by(&policy).modify(&mut api);
    let once = document(&api);
    let responses = &once["paths"]["/tickets"]["post"]["responses"];
    let conflict = &responses["409"];
    assert_eq!(conflict["content"]["text/plain"]["example"], "none left");
    let problem = &conflict["content"]["application/problem+json"];
    assert_eq!(problem["schema"]["$ref"], "#/components/schemas/IdempotencyProblem");
    for code in [Code::InFlight, Code::OutcomeUnknown, Code::ReplayUnavailable] {
        assert_eq!(problem["examples"][code.as_str()]["value"]["code"], code.as_str());
        let line = format!("\n\n`{code}`: {}.", code.title());
        assert!(conflict["description"].as_str().unwrap().contains(&line), "{conflict}");
    }
    assert!(conflict["description"].as_str().unwrap().starts_with("Sold out\n"));
    assert!(conflict["headers"]["Retry-After"].is_object());

    let own = &responses["422"]["content"]["application/problem+json"];
    assert_eq!(own["schema"]["$ref"], "#/components/schemas/Seat", "its own schema stays");
    assert_eq!(own["examples"]["key-reused"]["value"]["status"], 422);
    assert_eq!(own["examples"]["example"]["value"]["seat"], 7);
    assert!(own["example"].is_null(), "both are not allowed: {own}");

    // Others may refer to the component: it is this operation alone that tells more.
    let copied = &responses["429"];
    assert!(copied["content"]["application/json"].is_object(), "{copied}");
    assert!(
        copied["content"]["application/problem+json"]["examples"]["quota-exceeded"].is_object(),
        "{copied}"
    );
    assert_eq!(once["components"]["responses"]["Slower"]["description"], "Slower");

    Guarded::by(&policy).modify(&mut api);
    assert_eq!(document(&api), once, "twice is once");
}

/// What passes unguarded must not be documented as refused.
#[test]
fn a_path_that_the_rules_leave_out_is_left_alone() {
    let only = Policy::builder().only_paths(["/orders"]).require_key().build().unwrap();
    let below = Policy::builder().only_paths(["/orders/"]).require_key().build().unwrap();
    let except = Policy::builder().except_paths(["/orders"]).require_key().build().unwrap();
    for (policy, orders, one) in [(only, true, false), (below, false, true), (except, false, true)] {
        let document = modified(&Guarded::by(&policy).at("/orders").at("/orders/{id}"));
        let paths = &document["paths"];
        for (operation, guarded) in
            [(&paths["/orders"]["post"], orders), (&paths["/orders/{id}"]["patch"], one)]
        {
            assert_eq!(key_of(operation).is_some(), guarded, "{:?}: {operation}", policy.paths);
            assert_eq!(statuses(operation).contains(&"422"), guarded, "{:?}: {operation}", policy.paths);
        }
    }
}

/// A profile answers in another form: the document must not promise ours.
#[test]
fn a_profile_is_documented_in_its_own_form() {
    let profile: Profile = "stripe-v1".parse().unwrap();
    let policy = Policy::builder().profile(profile).build().unwrap();
    let document = modified(&Guarded::by(&policy));
    let responses = &document["paths"]["/orders"]["post"]["responses"];
    let reused = &responses["400"]["content"]["application/json"]["examples"]["key-reused"]["value"];
    assert_eq!(reused["error"]["type"], "idempotency_error");
    assert!(responses["422"].is_null());
    assert!(!document.to_string().contains("IdempotencyProblem"));
}

/// A router with its document, both under the same rules: what the one answers is what the other says.
#[tokio::test]
async fn a_router_of_axum_answers_as_its_document_says() {
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build().unwrap();
    let (router, mut api) = OpenApiRouter::<()>::new().routes(routes!(create)).split_for_parts();
    Guarded::by(idempotency.policy()).modify(&mut api);
    let app = router.layer(IdempotencyLayer::new(idempotency));
    let document = document(&api);
    let operation = &document["paths"]["/orders"]["post"];
    let header = key_of(operation).unwrap()["name"].as_str().unwrap().to_owned();
    let key = key_of(operation).unwrap()["example"].as_str().unwrap().to_owned();
    let schema = &document["components"]["schemas"]["IdempotencyProblem"];
    for (key, body, refused) in [
        (None, "{}", Some("key-missing")),
        (Some("\""), "{}", Some("key-invalid")),
        (Some(&*key), "{}", None),
        (Some(&*key), "[]", Some("key-reused")),
    ] {
        let mut request =
            Request::post("/orders").header("host", "shop.test").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header(&header, key);
        }
        let answer = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let Some(code) = refused else {
            assert_eq!(status, 200);
            continue;
        };
        let told: Value = serde_json::from_slice(&body).unwrap();
        let content = &operation["responses"][status.as_str()]["content"][kind.unwrap().to_str().unwrap()];
        let example = &content["examples"][code]["value"];
        for member in ["type", "title", "status", "code", "retry", "retryable"] {
            assert_eq!(told[member], example[member], "{code}");
        }
        let known = schema["properties"].as_object().unwrap();
        assert!(told.as_object().unwrap().keys().all(|member| known.contains_key(member)), "{told}");
        let required = schema["required"].as_array().unwrap();
        assert!(required.iter().all(|member| told.get(member.as_str().unwrap()).is_some()), "{told}");
    }
}
