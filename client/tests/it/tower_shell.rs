//! The tower shell over a client that a test answers for, and over hyper-util's.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use semel_client::tower::{RequestBody, RetryLayer, Unkeyed};
use semel_client::{Failure, Limit, Outcome, Retries, outcome};
use semel_testkit::upstream::{Act, Upstream, answer};
use tower::{Layer, Service, ServiceExt as _, service_fn};

type Tried = Result<Response<Full<Bytes>>, io::Error>;

/// What a client was asked, as (key, body, trailers).
type Asked = (Option<String>, Bytes, Option<HeaderMap>);

/// A client that does as it is told, once a try, and remembers what it was asked.
#[derive(Clone)]
struct Told {
    acts: Arc<Mutex<VecDeque<Option<Tried>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Told {
    /// Nothing for a try that never ends.
    fn new(acts: Vec<Option<Tried>>) -> Self {
        Self { acts: Arc::new(Mutex::new(acts.into())), asked: Arc::default() }
    }
}

impl Service<Request<RequestBody>> for Told {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Tried> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
            let body = request.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned();
            this.asked.lock().unwrap().push((key, body.to_bytes(), trailers));
            let act = this.acts.lock().unwrap().pop_front().expect("no more tries than acts");
            match act {
                Some(tried) => tried,
                None => std::future::pending().await,
            }
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an act is an answer or nothing")]
fn status(status: u16) -> Option<Tried> {
    Some(Ok(Response::builder().status(status).body(Full::default()).unwrap()))
}

#[expect(clippy::unnecessary_wraps, reason = "an act is an answer or nothing")]
fn broken(kind: io::ErrorKind) -> Option<Tried> {
    Some(Err(kind.into()))
}

fn order() -> Request<Full<Bytes>> {
    Request::post("http://shop.test/orders").body(Full::from("order")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_try_has_the_same_key_body_and_trailers() {
    let told = Told::new(vec![
        broken(io::ErrorKind::ConnectionReset),
        None,
        status(503),
        broken(io::ErrorKind::ConnectionRefused),
        status(201),
    ]);
    let client = RetryLayer::new(Retries::default()).layer(told.clone());
    let trailers = super::support::fields(&[("x-sum", "7")]);
    let frames = vec![
        Ok::<_, Infallible>(Frame::data(Bytes::from("or"))),
        Ok(Frame::data(Bytes::from("der"))),
        Ok(Frame::trailers(trailers.clone())),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let begun = tokio::time::Instant::now();
    let request = Request::post("http://shop.test/orders").body(body).unwrap();
    let Outcome::Done(answer) = outcome(client.oneshot(request).await) else { panic!("done") };
    assert_eq!(answer.status(), StatusCode::CREATED);
    let asked = told.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|tried| tried == &asked[0]));
    assert_eq!((&asked[0].1[..], asked[0].2.as_ref()), (&b"order"[..], Some(&trailers)));
    assert!(asked[0].0.is_some());
    assert!(begun.elapsed() >= Duration::from_secs(15), "the second try was given its time");
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_after_the_deadline() {
    let told = Told::new(vec![None, None, None, None, None]);
    let retries = Retries::builder().deadline(Duration::from_secs(40)).build().unwrap();
    let begun = tokio::time::Instant::now();
    let Outcome::Unknown(unknown) =
        outcome(RetryLayer::new(retries).layer(told.clone()).oneshot(order()).await)
    else {
        panic!("nobody answered")
    };
    assert_eq!(unknown.error.unwrap().end().limit, Some(Limit::Deadline));
    assert!(begun.elapsed() <= Duration::from_secs(40));
    assert_eq!(told.asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_proven_unsent_is_repeated_without_a_key() {
    for (acts, tries, unknown) in [
        (vec![broken(io::ErrorKind::ConnectionRefused), status(200)], 2, false),
        (vec![broken(io::ErrorKind::ConnectionReset)], 1, true),
        (vec![broken(io::ErrorKind::TimedOut)], 1, true),
        (vec![status(500)], 1, true),
        (vec![status(503)], 1, false),
    ] {
        let told = Told::new(acts);
        let mut request = order();
        request.extensions_mut().insert(Unkeyed);
        let sent = RetryLayer::default().layer(told.clone()).oneshot(request).await;
        assert_eq!(matches!(outcome(sent), Outcome::Unknown(_)), unknown);
        assert_eq!(told.asked.lock().unwrap().len(), tries);
    }
    // What a failure means is the caller's to say, for clients that have errors of their own.
    let told = Told::new(vec![broken(io::ErrorKind::AddrNotAvailable), status(200)]);
    let layer = RetryLayer::default().failures(|_| Failure::NeverSent);
    let mut request = order();
    request.extensions_mut().insert(Unkeyed);
    assert!(matches!(outcome(layer.layer(told).oneshot(request).await), Outcome::Done(_)));
}

#[tokio::test]
async fn a_body_that_is_too_long_or_breaks_off_is_refused_before_anything_is_sent() {
    let retries = Retries::builder().body_limit(4).build().unwrap();
    let told = Told::new(vec![]);
    let client = RetryLayer::new(retries).layer(told.clone());
    let frames = |parts: &[&'static str]| {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, io::Error>(Frame::data(Bytes::from(*part)))).collect();
        parts
    };
    let mut broken = frames(&["or"]);
    broken.push(Err(io::ErrorKind::UnexpectedEof.into()));
    for parts in [frames(&["or", "der"]), frames(&["order"]), broken] {
        let body = StreamBody::new(futures_util::stream::iter(parts));
        let sent = client.clone().oneshot(Request::post("http://shop.test/").body(body).unwrap()).await;
        let Outcome::NotSent(error) = outcome(sent) else { panic!("refused") };
        assert_eq!(error.end().tries, 0);
    }
    assert!(told.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_ready_was_given_nothing() {
    #[derive(Clone)]
    struct Busy;
    impl Service<Request<RequestBody>> for Busy {
        type Response = Response<Full<Bytes>>;
        type Error = io::Error;
        type Future = std::future::Ready<Tried>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::WouldBlock.into()))
        }
        fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
            panic!("it was not ready")
        }
    }
    let sent = RetryLayer::default().layer(Busy).oneshot(order()).await;
    assert!(matches!(outcome(sent), Outcome::NotSent(_)));
}

#[tokio::test]
async fn hyper_utils_client_says_what_it_never_sent_and_reads_answers_to_their_end() {
    let retries = Retries::builder().tries(3).backoff(Duration::from_millis(1), Duration::from_millis(5));
    let retries = retries.build().unwrap();
    let hyper = Client::builder(TokioExecutor::new()).build_http::<RequestBody>();
    let client = RetryLayer::new(retries).layer(hyper);

    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nowhere = Request::post(format!("http://{}/", closed.local_addr().unwrap()));
    let mut nowhere = nowhere.body(Full::<Bytes>::from("order")).unwrap();
    nowhere.extensions_mut().insert(Unkeyed);
    let Outcome::NotSent(error) = outcome(client.clone().oneshot(nowhere).await) else {
        panic!("nobody there")
    };
    assert_eq!(error.end().tries, 3);

    let upstream = Upstream::start(|seen| match seen.connection {
        0 => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        _ => Act::Answer(answer(200, "whole")),
    })
    .await
    .unwrap();
    let request = Request::post(upstream.url()).body(Full::<Bytes>::from("order")).unwrap();
    let Outcome::Done(answer) = outcome(client.oneshot(request).await) else { panic!("done") };
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "whole");
    let keys: Vec<_> = upstream
        .received()
        .iter()
        .map(|seen| seen.message.one("idempotency-key").unwrap().to_owned())
        .collect();
    assert!(keys.len() == 2 && keys[0] == keys[1]);
}

/// The layer's service can be boxed, cloned and shared as clients are.
#[tokio::test]
async fn it_composes_as_services_do() {
    let inner = service_fn(|_: Request<RequestBody>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done")))
    });
    let boxed = tower::util::BoxCloneSyncService::new(RetryLayer::default().layer(inner));
    let answer = boxed.oneshot(order()).await.unwrap();
    assert_eq!(answer.into_body().whole(), Some(&b"done"[..]));
}
