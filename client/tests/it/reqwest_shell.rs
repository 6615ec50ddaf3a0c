//! The reqwest shell over sockets: what the server was really sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use semel_client::reqwest::{Once, Retry, Unkeyed, client, outcome};
use semel_client::{Limit, Outcome, Retries, RetriesBuilder, Why};
use semel_testkit::upstream::{Act, Received, Upstream, answer};

fn quick() -> RetriesBuilder {
    Retries::builder().backoff(Duration::from_millis(1), Duration::from_millis(5))
}

fn retrying(retries: RetriesBuilder) -> reqwest_middleware::ClientWithMiddleware {
    client(reqwest::Client::builder().no_proxy(), retries.build().unwrap()).unwrap()
}

/// Does this at the first request, that at the second, and answers `done` from then on.
async fn script(acts: Vec<fn() -> Act>) -> Upstream {
    let next = AtomicUsize::new(0);
    let script = move |_: &Received| {
        let act = acts.get(next.fetch_add(1, Ordering::SeqCst));
        act.map_or_else(|| Act::Answer(answer(200, "done")), |act| act())
    };
    Upstream::start(script).await.unwrap()
}

fn keys(upstream: &Upstream) -> Vec<Option<String>> {
    let received = upstream.received();
    received.iter().map(|seen| seen.message.one("idempotency-key").map(ToOwned::to_owned)).collect()
}

fn cut_answer() -> Act {
    Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
}

fn problem(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn every_try_has_the_same_key_and_body_until_a_whole_answer_is_there() {
    let upstream = script(vec![
        || Act::HangUp,
        || Act::Reset,
        cut_answer,
        || Act::AnswerAndClose(answer(503, "busy")),
        || Act::Answer(problem(409, r#"{"code":"in-flight","retry":"same-key"}"#)),
    ])
    .await;
    let sent = retrying(quick()).post(upstream.url()).body("order").send().await;
    let Outcome::Done(answer) = outcome(sent) else { panic!("done") };
    let end = answer.extensions().get::<semel_client::End>().unwrap().clone();
    assert_eq!((answer.url().as_str(), end.tries), (&*format!("{}/", upstream.url()), 6));
    assert_eq!(answer.text().await.unwrap(), "done");
    let keys = keys(&upstream);
    assert_eq!(keys.len(), 6);
    assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
    assert_eq!(keys[0].as_deref(), end.key.unwrap().as_str());
    assert!(upstream.received().iter().all(|seen| seen.message.body == b"order"));
}

#[tokio::test]
async fn two_operations_have_two_keys_and_the_callers_own_is_sent_as_it_is() {
    let upstream = script(vec![]).await;
    let client = retrying(quick());
    for _ in 0..2 {
        client.post(upstream.url()).send().await.unwrap();
    }
    client.post(upstream.url()).header("Idempotency-Key", "mine").send().await.unwrap();
    client.post(upstream.url()).with_extension(Unkeyed).send().await.unwrap();
    client.get(upstream.url()).send().await.unwrap();
    let keys = keys(&upstream);
    assert!(keys[0].is_some() && keys[1].is_some() && keys[0] != keys[1]);
    assert_eq!(keys[2..], [Some("mine".into()), None, None]);
}

#[tokio::test]
async fn a_request_without_a_key_that_may_have_run_is_sent_once() {
    let upstream = script(vec![|| Act::HangUp]).await;
    let sent = retrying(quick().keyed_methods([])).post(upstream.url()).body("order").send().await;
    let Outcome::Unknown(unknown) = outcome(sent) else { panic!("unknown") };
    assert_eq!((unknown.key, unknown.why, unknown.answer.is_none()), (None, Why::MayHaveRun, true));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_connection_that_never_was_is_proof_unless_redirects_are_followed() {
    // Bound and not listening to: nobody else gets the port, and connections are refused.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    let three = || quick().tries(3).keyed_methods([]);
    let Outcome::NotSent(error) = outcome(retrying(three()).post(&url).send().await) else {
        panic!("nothing was there")
    };
    assert_eq!((error.end().tries, error.end().limit), (3, Some(Limit::Tries)));
    assert!(!error.to_string().contains(&url), "an address may carry a password");

    let following = reqwest::Client::builder().no_proxy().build().unwrap();
    let retry = Retry::new(three().build().unwrap());
    let following = reqwest_middleware::ClientBuilder::new(following).with(retry).build();
    let Outcome::Unknown(unknown) = outcome(following.post(&url).send().await) else {
        panic!("it may be the second hop")
    };
    assert_eq!(unknown.error.unwrap().end().tries, 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let upstream = script(vec![|| {
        Act::Answer(b"HTTP/1.1 303 X\r\nLocation: /orders/7\r\nContent-Length: 0\r\n\r\n".to_vec())
    }])
    .await;
    let Outcome::Done(answer) = outcome(retrying(quick()).post(upstream.url()).send().await) else {
        panic!("done")
    };
    assert_eq!((answer.status(), upstream.count()), (StatusCode::SEE_OTHER, 1));
}

#[tokio::test]
async fn a_stream_is_refused_before_anything_is_sent_unless_one_try_is_asked_for() {
    let upstream = script(vec![]).await;
    let client = retrying(quick());
    let stream = || reqwest::Body::wrap(http_body_util::Full::new(bytes::Bytes::from_static(b"once")));
    let Outcome::NotSent(error) = outcome(client.post(upstream.url()).body(stream()).send().await) else {
        panic!("refused")
    };
    assert_eq!((error.end().tries, upstream.connections()), (0, 0));
    let sent = client.post(upstream.url()).body(stream()).with_extension(Once).send().await;
    assert!(matches!(outcome(sent), Outcome::Done(_)));
    assert_eq!(upstream.received()[0].message.body, b"once");
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_and_made_again() {
    let upstream = script(vec![|| Act::Never]).await;
    let retries = quick().try_within(Duration::from_millis(200));
    let Outcome::Done(_) = outcome(retrying(retries).post(upstream.url()).send().await) else {
        panic!("done")
    };
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn what_the_server_does_not_know_is_unknown_with_the_key_to_ask_with() {
    let upstream =
        script(vec![|| Act::Answer(problem(409, r#"{"code":"outcome-unknown","retry":"reconcile"}"#))]).await;
    let Outcome::Unknown(unknown) = outcome(retrying(quick()).post(upstream.url()).send().await) else {
        panic!("unknown")
    };
    assert_eq!(unknown.key.unwrap().as_str(), keys(&upstream)[0].as_deref());
    assert!(unknown.answer.unwrap().text().await.unwrap().contains("reconcile"));
    assert_eq!(upstream.count(), 1);
}

/// The answer of a long or endless body is handed on as it comes; what was read of it is not lost.
#[tokio::test]
async fn a_long_answer_flows_whole() {
    let long = "x".repeat(5000);
    let body = long.clone();
    let upstream = Upstream::start(move |seen| {
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let head =
            if seen.message.start.contains("/events") { "Content-Type: text/event-stream\r\n" } else { "" };
        Act::Answer(
            format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes(),
        )
    })
    .await
    .unwrap();
    for (path, limit) in [("/", 100), ("/", 0), ("/", 100_000), ("/events", 100_000)] {
        let client = retrying(quick().answer_limit(limit));
        let Outcome::Done(answer) = outcome(client.post(upstream.url() + path).send().await) else {
            panic!("done")
        };
        assert_eq!(answer.text().await.unwrap(), long, "{path} {limit}");
    }
}
