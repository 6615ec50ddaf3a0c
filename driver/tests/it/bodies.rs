//! Bodies both ways: limits, cuts, slowness, trailers; and completions that are durable before a byte leaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use semel_core::record::State;
use semel_testkit::faulty::{Fault, Step};

use crate::support::{Answer, App, Handler, order, payload, rig, send, serve, settle, text};

const SECOND: Duration = Duration::from_secs(1);

type Chunks = Vec<Result<Frame<Bytes>, &'static str>>;

#[expect(clippy::unnecessary_wraps, reason = "a frame of a stream that may break off")]
fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(bytes)))
}

fn post(
    declared: Option<u64>,
    chunks: Chunks,
) -> Request<StreamBody<stream::Iter<std::vec::IntoIter<Chunk>>>> {
    let mut request = Request::post("/orders").header("host", "shop.test").header("idempotency-key", "k");
    if let Some(declared) = declared {
        request = request.header("content-length", declared);
    }
    request.body(StreamBody::new(stream::iter(chunks))).unwrap()
}

type Chunk = Result<Frame<Bytes>, &'static str>;

// Edge case 24.
#[tokio::test]
async fn a_body_of_the_limit_runs_and_one_more_is_refused_with_and_without_a_length() {
    let ten: Chunks = vec![data(b"01234"), data(b"56789")];
    let eleven: Chunks = vec![data(b"01234"), data(b"567890")];
    for (declared, chunks, status, code) in [
        (Some(10), ten.clone_frames(), 201, ""),
        (None, ten.clone_frames(), 201, ""),
        (Some(11), eleven.clone_frames(), 413, "content-too-large"),
        (None, eleven.clone_frames(), 413, "content-too-large"),
        (Some(11), ten.clone_frames(), 413, "content-too-large"),
        (Some(9), ten.clone_frames(), 400, "body-incomplete"),
        (Some(10), vec![data(b"01234")], 400, "body-incomplete"),
        (None, vec![data(b"01234"), Err("reset")], 400, "body-incomplete"),
    ] {
        let rig = rig(|b| b.body_limit(10));
        let app = App::open();
        let got = send(rig.idem.clone(), post(declared, chunks), app.handler()).await;
        assert_eq!((got.status.as_u16(), got.code()), (status, code), "{declared:?}");
        if status != 201 {
            assert_eq!((app.runs(), rig.state("k").await), (0, None), "nothing was claimed");
            assert_eq!(rig.faults.calls(Step::Begin), 0);
        }
        assert_eq!(rig.idem.running(), 0);
    }
}

trait CloneFrames {
    fn clone_frames(&self) -> Self;
}

impl CloneFrames for Chunks {
    fn clone_frames(&self) -> Self {
        let bytes = |frame: &Chunk| frame.as_ref().ok().and_then(Frame::data_ref).cloned().unwrap();
        self.iter().map(|frame| Ok(Frame::data(bytes(frame)))).collect()
    }
}

#[tokio::test]
async fn a_slow_body_is_told_so_and_claims_nothing() {
    let rig = rig(|b| b.body_within(SECOND * 5));
    let app = App::open();
    let slow = StreamBody::new(stream::iter([data(b"0")]).chain(stream::pending()));
    let request = post(None, Vec::new()).map(|_| slow);
    let sent = tokio::spawn(send(rig.idem.clone(), request, app.handler()));
    settle().await;
    rig.clock.advance(SECOND * 4).await;
    assert!(!sent.is_finished());
    rig.clock.advance(SECOND * 2).await;
    let got = sent.await.unwrap();
    assert_eq!((got.status.as_u16(), got.code()), (408, "body-too-slow"));
    assert_eq!((rig.faults.calls(Step::Begin), rig.idem.running()), (0, 0));
}

fn handler(make: impl Fn() -> Answer + Send + Sync + 'static) -> Handler {
    let make = Arc::new(make);
    Arc::new(move |_, _| {
        let make = make.clone();
        Box::pin(async move { Ok(make()) })
    })
}

#[tokio::test]
async fn whole_answers_replay_with_frames_trailers_and_none_at_all() {
    let with_trailers = || {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        payload(
            200,
            StreamBody::new(stream::iter([
                data(b"ab"),
                data(b""),
                data(b"cd"),
                Ok(Frame::trailers(trailers)),
            ])),
        )
    };
    let empty = |status| move || payload(status, Empty::new().map_err(|never| match never {}));
    let see_other = || {
        let mut answer = text(303, "");
        answer.headers_mut().insert("location", HeaderValue::from_static("/orders/1"));
        answer
    };
    let cases: [(Handler, &str); 4] = [
        (handler(with_trailers), "abcd"),
        (handler(empty(204)), ""),
        (handler(see_other), ""),
        (handler(|| text(201, "one")), "one"),
    ];
    for (handler, body) in cases {
        let rig = rig(|b| b);
        let first = send(rig.idem.clone(), order("k", "{}"), handler.clone()).await;
        let again = send(rig.idem.clone(), order("k", "{}"), handler).await;
        assert_eq!((first.body.as_str(), again.body.as_str()), (body, body));
        assert_eq!((first.status, &first.trailers), (again.status, &again.trailers));
        assert_eq!(first.headers.get("location"), again.headers.get("location"));
        assert!(again.replayed() && !first.replayed());
    }
}

/// What cannot be kept: the completion is durable before the first byte, a retry is told where the result is, and
/// nothing runs again.
#[tokio::test]
async fn an_answer_too_large_slow_or_endless_is_recorded_before_its_first_byte() {
    let large = || {
        let mut answer =
            payload(201, StreamBody::new(stream::iter([data(b"0123456"), data(b"789"), data(b"abc")])));
        answer.headers_mut().insert("location", HeaderValue::from_static("/orders/1"));
        answer
    };
    let slow = || payload(201, StreamBody::new(stream::iter([data(b"0")]).chain(stream::pending())));
    let events = || {
        let mut answer = payload(200, StreamBody::new(stream::pending()));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        answer
    };
    for (name, handler) in [("large", handler(large)), ("slow", handler(slow)), ("endless", handler(events))]
    {
        let rig = rig(|b| b.capture_limit(8).capture_for(SECOND * 5));
        // The store hangs on the completion: until it has answered there is no head either.
        rig.faults.next(Step::Complete, Fault::NeverApplied);
        let served = tokio::spawn(serve(rig.idem.clone(), order("k", "{}"), handler.clone()));
        settle().await;
        rig.clock.advance(Duration::from_millis(1_500)).await;
        assert!(!served.is_finished(), "{name}: nothing leaves before it is recorded");
        rig.clock.advance(SECOND * 10).await;
        let mut response = served.await.unwrap().unwrap();
        assert_eq!(rig.state("k").await, Some(State::Completed), "{name}");
        if name == "large" {
            let body = response.body_mut().collect().await.unwrap().to_bytes();
            assert_eq!(body, "0123456789abc", "the prefix, then the rest");
        }
        let retry = send(rig.idem.clone(), order("k", "{}"), handler).await;
        assert_eq!((retry.status.as_u16(), retry.code()), (409, "replay-unavailable"), "{name}");
        assert_eq!(retry.headers.contains_key("location"), name == "large");
    }
}

// Edge case 11.
#[tokio::test]
async fn an_answer_that_breaks_off_is_unknown_and_nothing_of_it_is_sent() {
    let rig = rig(|b| b);
    let cut = handler(|| payload(201, StreamBody::new(stream::iter([data(b"half"), Err("reset")]))));
    let got = send(rig.idem.clone(), order("k", "{}"), cut).await;
    assert_eq!((got.status.as_u16(), got.code(), got.cut), (500, "outcome-unknown", false));
    assert!(!got.body.contains("half"));
    assert_eq!(rig.state("k").await, Some(State::Unknown));
}

#[tokio::test]
async fn a_request_that_is_not_guarded_keeps_its_body_unread() {
    let rig = rig(|b| b);
    let app = App::open();
    let request = Request::get("/orders").body(Full::new(Bytes::from_static(b"x"))).unwrap();
    let got = send(rig.idem.clone(), request, app.handler()).await;
    assert_eq!((got.status.as_u16(), rig.faults.calls(Step::Begin)), (201, 0));
}
