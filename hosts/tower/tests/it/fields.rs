//! Which fields of an answer come back, and which of a request get through.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use semel_tower::IdempotencyLayer;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::support::{Effects, Seen, keyed, memory, order};

type Answer = Response<Full<Bytes>>;

/// A guarded service that answers the same each time, and counts.
fn answering(
    effects: &Effects,
    answer: impl Fn() -> Answer + Clone + Send + 'static,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<semel_tower::Body<Full<Bytes>>>,
    Error = Infallible,
    Future = impl Send,
> + Clone {
    let effects = effects.clone();
    IdempotencyLayer::new(memory()).layer(service_fn(move |_: Request<Full<Bytes>>| {
        effects.take();
        let answer = answer();
        async { Ok::<_, Infallible>(answer) }
    }))
}

/// Maps that keep one value a name lose `Link`; maps that keep text lose what is no UTF-8.
#[tokio::test]
async fn repeated_fields_keep_their_order_and_their_bytes() {
    let effects = Effects::default();
    let service = answering(&effects, || {
        let mut answer = Response::new(Full::from("done"));
        for value in [b"</a>; rel=next".as_slice(), b"</b>; rel=prev", b"</c>; title=\"\xe9\xff\""] {
            answer.headers_mut().append("link", HeaderValue::from_bytes(value).unwrap());
        }
        answer
    });
    let first = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    let again = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    assert!(again.replayed());
    let lines = |seen: &Seen| -> Vec<Vec<u8>> {
        seen.headers.get_all("link").iter().map(|value| value.as_bytes().to_vec()).collect()
    };
    assert_eq!(lines(&first).len(), 3);
    assert_eq!(lines(&first), lines(&again));
    assert_eq!(lines(&again)[2], b"</c>; title=\"\xe9\xff\"");
}

/// A replayed session cookie signs a client back in that has signed out since.
#[tokio::test]
async fn a_cookie_is_set_once_and_location_each_time() {
    let effects = Effects::default();
    let service = answering(&effects, || {
        let mut answer = Response::new(Full::from("done"));
        *answer.status_mut() = StatusCode::CREATED;
        answer.headers_mut().insert("set-cookie", HeaderValue::from_static("session=1"));
        answer.headers_mut().insert("location", HeaderValue::from_static("/orders/1"));
        answer
    });
    let first = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    let again = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
    assert!(again.replayed());
    assert_eq!(first.headers["set-cookie"], "session=1");
    assert!(!again.headers.contains_key("set-cookie"));
    assert_eq!([&first, &again].map(|seen| seen.headers["location"].to_str().unwrap()), ["/orders/1"; 2]);
}

/// Answers without a body have a shape of their own; 307 and 308 say that nothing ran here.
#[tokio::test]
async fn answers_of_every_shape_are_replayed_or_run_again_as_the_contract_says() {
    for (status, replays) in [
        (200, true),
        (201, true),
        (204, true),
        (205, true),
        (303, true),
        (304, true),
        (307, false),
        (308, false),
    ] {
        let effects = Effects::default();
        let status = StatusCode::from_u16(status).unwrap();
        let service = answering(&effects, move || {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = status;
            answer.headers_mut().insert("location", HeaderValue::from_static("/there"));
            answer
        });
        let first = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
        let again = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
        assert_eq!((first.status, again.status), (status, status));
        assert_eq!((first.body.len(), again.body.len()), (0, 0));
        assert_eq!(again.headers["location"], "/there");
        assert_eq!(again.replayed(), replays, "{status}");
        assert_eq!(effects.count(), if replays { 1 } else { 2 }, "{status}");
        assert!(!again.headers.contains_key("content-length"), "{status}: the host's to add");
    }
}

/// Safe methods repeat at will: a key on them guards nothing, and their shape is not touched.
#[tokio::test]
async fn get_and_head_run_each_time_whatever_key_they_carry() {
    let effects = Effects::default();
    let service = answering(&effects, || {
        let mut answer = Response::new(Full::default());
        answer.headers_mut().insert("content-length", HeaderValue::from_static("1234"));
        answer
    });
    for method in [Method::GET, Method::HEAD, Method::GET, Method::HEAD] {
        let mut request = order("k");
        *request.method_mut() = method;
        let seen = Seen::of(service.clone().oneshot(request).await.unwrap()).await;
        assert_eq!(seen.headers["content-length"], "1234");
        assert!(!seen.replayed());
    }
    assert_eq!(effects.count(), 4);
}

/// The fields that the handler saw, in its answer.
fn told() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<semel_tower::Body<String>>,
    Error = Infallible,
    Future = impl Send,
> + Clone {
    IdempotencyLayer::new(memory()).layer(service_fn(|request: Request<Full<Bytes>>| async move {
        let names = ["key", "attempt", "fence", "outcome"];
        let seen = names.map(|name| {
            let values = request.headers().get_all(format!("idempotency-{name}"));
            let values: Vec<_> = values.iter().map(|value| value.to_str().unwrap()).collect();
            format!("{name}={}", values.join("+"))
        });
        let mut answer = Response::new(seen.join(" "));
        // Released, so that the next try runs again.
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Ok::<_, Infallible>(answer)
    }))
}

/// The handler can tell a rerun from a first run, and fence what it does downstream.
#[tokio::test]
async fn the_handler_sees_the_key_its_attempt_and_a_fence_that_grows() {
    let service = told();
    let mut fences = Vec::new();
    for attempt in 1..=3 {
        let seen = Seen::of(service.clone().oneshot(order("k")).await.unwrap()).await;
        let (head, fence) = seen.text().strip_suffix(" outcome=").unwrap().split_once(" fence=").unwrap();
        assert_eq!(head, format!("key=\"k\" attempt={attempt}"));
        fences.push(fence.parse::<u64>().unwrap());
    }
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

/// A client that could forge these would tell the application "a retry, skip the charge", or fence out the
/// real run.
#[tokio::test]
async fn forged_fields_are_removed_from_guarded_and_from_unguarded_requests() {
    let service = told();
    let forge = |request: http::request::Builder| {
        request
            .header("Idempotency-Attempt", "9")
            .header("Idempotency-Attempt", "10")
            .header("Idempotency-Fence", "18446744073709551615")
            .header("Idempotency-Outcome", "applied")
            .body(Full::from("{}"))
            .unwrap()
    };
    let guarded = Seen::of(service.clone().oneshot(forge(keyed("k"))).await.unwrap()).await;
    assert!(guarded.text().starts_with("key=\"k\" attempt=1 fence="), "{}", guarded.text());
    assert!(!guarded.text().contains("18446744073709551615") && guarded.text().ends_with("outcome="));
    for unguarded in [Request::post("/orders"), keyed("k").method(Method::GET), Request::get("/orders")] {
        let seen = Seen::of(service.clone().oneshot(forge(unguarded)).await.unwrap()).await;
        assert!(seen.text().ends_with("attempt= fence= outcome="), "{}", seen.text());
    }
}
