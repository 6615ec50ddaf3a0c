//! One span for each guarded request: its names, its fields, its children, and nothing that is secret.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::routing::post;
use axum::{Extension, Router};
use http::{Request, StatusCode};
use semel_store_memory::MemoryStore;
use semel_tower::core::scope::Scope;
use semel_tower::{Idempotency, IdempotencyLayer};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{Effects, Seen, bounded, memory};

/// A span as a collector gets it.
#[derive(Clone, Debug, Default)]
struct Told {
    name: &'static str,
    target: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    /// A field that was recorded twice is two attributes, or the wrong one.
    twice: Vec<&'static str>,
    closed: bool,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.fields.insert(field.name(), format!("{value:?}")).is_some() {
            self.twice.push(field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Everything that spans and events say.
#[derive(Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<BTreeMap<u64, Told>>>,
    events: Arc<Mutex<Vec<Told>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.id().into_u64());
        let mut told = Told { name: metadata.name(), target: metadata.target(), parent, ..Told::default() };
        attributes.record(&mut told);
        self.spans.lock().unwrap().insert(id.into_u64(), told);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        record.record(self.spans.lock().unwrap().get_mut(&id.into_u64()).unwrap());
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut told =
            Told { name: event.metadata().name(), target: event.metadata().target(), ..Told::default() };
        event.record(&mut told);
        self.events.lock().unwrap().push(told);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.spans.lock().unwrap().get_mut(&id.into_u64()).unwrap().closed = true;
    }
}

impl Recorder {
    /// Hears this thread, on which a test's runtime is.
    fn start() -> (Self, DefaultGuard) {
        let recorder = Self::default();
        let subscriber = tracing_subscriber::registry().with(recorder.clone());
        (recorder, tracing::subscriber::set_default(subscriber))
    }

    fn named(&self, name: &str) -> Vec<(u64, Told)> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|(_, told)| told.name == name).map(|(id, told)| (*id, told.clone())).collect()
    }

    /// The one span of a request.
    fn only(&self) -> (u64, Told) {
        let mut spans = self.named("idempotency");
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }

    fn clear(&self) {
        self.spans.lock().unwrap().clear();
        self.events.lock().unwrap().clear();
    }

    fn text(&self) -> String {
        format!("{:?} {:?}", self.spans.lock().unwrap(), self.events.lock().unwrap())
    }
}

fn app(idempotency: &Idempotency, effects: &Effects) -> Router {
    let ran = effects.clone();
    let make = move || {
        let ran = ran.clone();
        async move {
            let _own = tracing::info_span!("handler").entered();
            (StatusCode::CREATED, ran.take().to_string())
        }
    };
    Router::new().route("/shops/{shop}/orders", post(make)).layer(IdempotencyLayer::new(idempotency.clone()))
}

fn order(key: &str, body: &'static str) -> Request<Body> {
    Request::post("/shops/7/orders?token=query-s3cret")
        .header("host", "shop.test")
        .header("authorization", "Bearer token-s3cret")
        .header("idempotency-key", format!("\"{key}\""))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> Seen {
    Seen::of(bounded(app.clone().oneshot(request)).await.unwrap()).await
}

/// The fields of the documentation's table (docs/operating.md), for each outcome.
#[tokio::test]
async fn a_request_is_one_span_that_says_what_became_of_it() {
    let (recorder, _guard) = Recorder::start();
    let (idempotency, effects) = (memory(), Effects::default());
    let app = app(&idempotency, &effects);
    let head = [
        ("http.request.method", "POST"),
        ("http.route", "/shops/{shop}/orders"),
        ("idempotency.namespace", "default"),
        ("otel.kind", "internal"),
        ("url.path", "/shops/7/orders"),
    ];
    let record = idempotency.locate(&semel_tower::Address::key("key-s3cret")).to_string();
    let record = ("idempotency.record", record.as_str());
    let ran = [record, ("idempotency.attempt", "1"), ("idempotency.settled", "completed")];
    let refused = |code| [("idempotency.outcome", code), ("error.type", code)];
    for (request, status, said) in [
        (
            order("key-s3cret", r#"{"a":"body-s3cret"}"#),
            "201",
            [&ran[..], &[("idempotency.outcome", "fresh")]].concat(),
        ),
        (
            order("key-s3cret", r#"{"a":"body-s3cret"}"#),
            "201",
            vec![record, ("idempotency.outcome", "replayed")],
        ),
        (order("key-s3cret", r#"{"a":2}"#), "422", [&[record][..], &refused("key-reused")].concat()),
        (order("key s3cret\u{e9}", "{}"), "400", refused("key-invalid").to_vec()),
    ] {
        let seen = send(&app, request).await;
        assert_eq!(seen.status.as_str(), status);
        let (_, told) = recorder.only();
        let mut fields = told.fields.clone();
        if let Some(fence) = fields.remove("idempotency.fence") {
            assert!(fence.parse::<u64>().is_ok_and(|fence| fence > 0), "{fence}");
            assert!(said.contains(&("idempotency.attempt", "1")));
        }
        // Where a head is refused the framework's route is not asked for.
        let routed = status != "400";
        let head = head.iter().filter(|(name, _)| routed || *name != "http.route");
        let expected: BTreeMap<_, _> = head
            .copied()
            .chain(said)
            .chain([("http.response.status_code", status)])
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        assert_eq!(fields, expected);
        assert_eq!(
            (told.target, told.closed, told.twice.is_empty()),
            ("semel::request", true, true),
            "{told:?}"
        );
        recorder.clear();
    }
    assert_eq!(effects.count(), 1);
}

/// Keys, credentials, queries and bodies are in no span and in no event, at any level.
#[tokio::test]
async fn nothing_that_is_secret_is_traced() {
    let (recorder, _guard) = Recorder::start();
    let app = app(&memory(), &Effects::default());
    for (key, body) in
        [("key-s3cret", r#"{"a":"body-s3cret"}"#), ("key-s3cret", "[]"), ("key-s3cret\u{e9}", "{}")]
    {
        send(&app, order(key, body)).await;
    }
    let text = recorder.text();
    assert!(text.contains("idempotency.record") && text.contains("refused"), "it was heard: {text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn steps_of_the_store_and_the_handlers_own_spans_are_its_children() {
    let (recorder, _guard) = Recorder::start();
    let outer = tracing::info_span!("outer");
    let app = app(&memory(), &Effects::default());
    {
        use tracing::Instrument as _;
        send(&app, order("k", "{}")).instrument(outer.clone()).await;
    }
    let (id, told) = recorder.only();
    assert_eq!(told.parent, outer.id().map(|id| id.into_u64()), "the caller's span is its parent");
    let steps = recorder.named("store");
    for (_, step) in &steps {
        assert_eq!((step.parent, step.target, step.closed), (Some(id), "semel::store", true), "{step:?}");
        assert_eq!((&*step.fields["db.system.name"], &*step.fields["otel.kind"]), ("memory", "client"));
        assert!(!step.fields.contains_key("error.type"));
    }
    let names: Vec<_> = steps.iter().map(|(_, step)| &*step.fields["db.operation.name"]).collect();
    assert_eq!(names, ["begin", "complete"]);
    assert_eq!(recorder.named("handler")[0].1.parent, Some(id));
}

/// What is not guarded is most of the traffic, and has spans of its own.
#[tokio::test]
async fn what_is_not_guarded_has_no_span() {
    let (recorder, _guard) = Recorder::start();
    let app = app(&memory(), &Effects::default());
    let mut without_key = order("k", "{}");
    without_key.headers_mut().remove("idempotency-key");
    let mut get = order("k", "{}");
    *get.method_mut() = http::Method::GET;
    for request in [without_key, get] {
        send(&app, request).await;
    }
    assert!(recorder.named("idempotency").is_empty() && recorder.named("store").is_empty());
}

async fn held(Extension((effects, gate)): Extension<(Effects, Arc<Semaphore>)>) -> &'static str {
    effects.take();
    gate.acquire().await.unwrap().forget();
    tracing::info_span!("after").in_scope(|| "done")
}

/// The run goes to a task of its own when its client goes, and its span with it.
#[tokio::test]
async fn a_run_whose_client_has_gone_stays_within_its_span() {
    let (recorder, _guard) = Recorder::start();
    let (effects, gate) = (Effects::default(), Arc::new(Semaphore::new(0)));
    let opens = Arc::clone(&gate);
    // Only then does the run go on.
    let detached = move |event: &semel_tower::core::observe::Event<'_>| {
        if event.name() == "detached-run" {
            opens.add_permits(1);
        }
    };
    let idempotency = Idempotency::builder(MemoryStore::new()).observer(detached).build().unwrap();
    let app = Router::new()
        .route("/shops/{shop}/orders", post(held))
        .layer(Extension((effects.clone(), Arc::clone(&gate))))
        .layer(IdempotencyLayer::new(idempotency.clone()));
    let mut call = Box::pin(app.oneshot(order("k", "{}")));
    tokio::select! {
        _ = &mut call => panic!("it answered before it was let go"),
        () = effects.begun() => drop(call),
    }
    bounded(idempotency.drain(Duration::from_secs(20))).await.unwrap();
    let (id, told) = recorder.only();
    assert_eq!(recorder.named("after")[0].1.parent, Some(id));
    let said = |name| told.fields.get(name).map(String::as_str);
    assert_eq!(
        (said("idempotency.detached"), said("idempotency.settled"), told.closed),
        (Some("true"), Some("completed"), true)
    );
}

/// Nobody knows what became of it: an error for whoever looks at traces, and the record says so.
#[tokio::test]
async fn a_run_that_ends_without_an_answer_is_an_error() {
    let (recorder, _guard) = Recorder::start();
    let idempotency = memory();
    let fails = tower::service_fn(|_: Request<Body>| async { Err::<http::Response<Body>, _>("torn") });
    let service = tower::ServiceBuilder::new().layer(IdempotencyLayer::new(idempotency)).service(fails);
    assert!(bounded(service.oneshot(order("k", "{}"))).await.is_err());
    let (_, told) = recorder.only();
    for (name, value) in [
        ("idempotency.outcome", "outcome-unknown"),
        ("error.type", "outcome-unknown"),
        ("otel.status_code", "ERROR"),
        ("idempotency.settled", "abandoned"),
        ("http.response.status_code", "500"),
    ] {
        assert_eq!(told.fields.get(name).map(String::as_str), Some(value), "{name}: {told:?}");
    }
}

#[derive(Clone)]
struct User(&'static str);

/// To its clients a layer in the wrong place looks like a missing login: whoever runs the service is told which extension was
/// missing, and not for each request again.
#[tokio::test]
async fn authentication_inside_of_a_scope_is_refused_and_the_log_says_where_it_belongs() {
    let (recorder, _guard) = Recorder::start();
    let effects = Effects::default();
    let scope = Scope::extension(|user: &User| user.0.to_owned());
    let idempotency = memory().route(|policy| policy.scope(scope)).unwrap();
    let make = post(move || async move { effects.take().to_string() });
    let orders = Router::new().route("/shops/{shop}/orders", make);
    let (guard, user) = (IdempotencyLayer::new(idempotency), Extension(User("alice")));
    let inside = orders.clone().layer(user.clone()).layer(guard.clone());
    for _ in 0..3 {
        let refused = send(&inside, order("k", "{}")).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, "principal-missing".to_owned()));
    }
    let said = |recorder: &Recorder| -> Vec<String> {
        let events = recorder.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event.fields.contains_key("extension"))
            .map(|event| format!("{event:?}"))
            .collect()
    };
    let lines = said(&recorder);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in ["traces::User", "outside of Semel's", "principal-missing"] {
        assert!(lines[0].contains(word), "{word}: {lines:?}");
    }
    recorder.clear();
    let outside = orders.layer(guard).layer(user);
    assert_eq!(send(&outside, order("k", "{}")).await.text(), "1");
    assert!(said(&recorder).is_empty());
}
