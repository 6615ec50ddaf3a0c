//! Bodies go both ways byte for byte, trailers included.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use semel_tower::{Body, IdempotencyLayer, Whole};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{Effects, Seen, keyed, memory};

fn every_byte(length: usize) -> Bytes {
    (0..length).map(|n| u8::try_from(n * 7 % 256).unwrap()).collect()
}

/// A layer that reads bodies as text would lose every byte above 0x7f; 1 MiB is the limit itself.
#[tokio::test]
async fn every_byte_value_survives_both_ways_and_in_the_replay() {
    let effects = Effects::default();
    let ran = effects.clone();
    let mirror = service_fn(move |request: Request<Full<Bytes>>| {
        ran.take();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let mirrored: Bytes = body.iter().rev().copied().collect();
            Ok::<_, Infallible>(Response::new(Full::new(mirrored)))
        }
    });
    let service = IdempotencyLayer::new(memory()).layer(mirror);
    for length in [0, 1, 256, 1024 * 1024] {
        let sent = every_byte(length);
        let expected: Bytes = sent.iter().rev().copied().collect();
        let request = || keyed(&format!("k{length}")).body(Full::new(sent.clone())).unwrap();
        let first = Seen::of(service.clone().oneshot(request()).await.unwrap()).await;
        let again = Seen::of(service.clone().oneshot(request()).await.unwrap()).await;
        assert_eq!(first.status, 200, "{length}");
        assert!(first.body == expected, "{length}: the first answer differs");
        assert!(again.body == expected, "{length}: the replay differs");
        assert!(!first.replayed() && again.replayed());
    }
    assert_eq!(effects.count(), 4);
}

/// A body of exactly the limit runs, one more byte claims nothing, declared or not.
#[tokio::test]
async fn one_byte_over_the_limit_is_refused_and_claims_nothing() {
    let effects = Effects::default();
    let ran = effects.clone();
    let count = service_fn(move |_: Request<Full<Bytes>>| {
        let n = ran.take();
        async move { Ok::<_, Infallible>(Response::new(n.to_string())) }
    });
    let idempotency = memory().route(|policy| policy.body_limit(10)).unwrap();
    let service = IdempotencyLayer::new(idempotency).layer(count);
    let over = every_byte(11);
    for declared in [true, false] {
        let mut request = keyed("k").body(Full::new(over.clone())).unwrap();
        if declared {
            request.headers_mut().insert("content-length", HeaderValue::from_static("11"));
        }
        let refused = Seen::of(service.clone().oneshot(request).await.unwrap()).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (413, "content-too-large".to_owned()));
    }
    assert_eq!(effects.count(), 0);
    let fits = keyed("k").body(Full::new(every_byte(10))).unwrap();
    let ran = Seen::of(service.clone().oneshot(fits).await.unwrap()).await;
    assert_eq!((ran.status.as_u16(), ran.text()), (200, "1"), "the key was free");
}

/// A signature or checksum that comes after the body is as much of the request as the body.
#[tokio::test]
async fn request_trailers_reach_the_handler() {
    let tell = service_fn(|request: Request<Body<Full<Bytes>>>| async move {
        let whole = request.into_body().collect().await?;
        let digest = whole.trailers().and_then(|trailers| trailers.get("x-digest")).cloned();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
            digest.map_or("none".to_owned(), |digest| digest.to_str().unwrap().to_owned()),
        )))
    });
    let service = IdempotencyLayer::new(memory()).layer(tell);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-digest", HeaderValue::from_static("abc"));
    for (key, body) in [("k1", "{}"), ("k2", "")] {
        let whole = Whole::new(Bytes::from(body)).with_trailers(Some(trailers.clone()));
        let seen =
            Seen::of(service.clone().oneshot(keyed(key).body(Body::whole(whole)).unwrap()).await.unwrap());
        assert_eq!(seen.await.text(), "abc", "with the body {body:?}");
    }
}

/// gRPC says how a call ended in the trailer section: a replay without it is a broken answer.
#[tokio::test]
async fn response_trailers_are_sent_recorded_and_replayed() {
    let effects = Effects::default();
    let ran = effects.clone();
    let with_trailers = service_fn(move |_: Request<Full<Bytes>>| {
        ran.take();
        async {
            let mut trailers = HeaderMap::new();
            trailers.append("x-sum", HeaderValue::from_static("1"));
            trailers.append("x-sum", HeaderValue::from_bytes(b"\xe9").unwrap());
            let body = Whole::new(Bytes::from_static(b"done")).with_trailers(Some(trailers));
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let service = IdempotencyLayer::new(memory()).layer(with_trailers);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = keyed("k").body(Full::<Bytes>::from("{}")).unwrap();
        seen.push(Seen::of(service.clone().oneshot(request).await.unwrap()).await);
    }
    assert!(!seen[0].replayed() && seen[1].replayed());
    for seen in seen {
        assert_eq!(seen.text(), "done");
        let trailers = seen.trailers.expect("the trailer section is lost");
        let sums: Vec<_> = trailers.get_all("x-sum").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(sums, [b"1".as_slice(), b"\xe9"]);
    }
    assert_eq!(effects.count(), 1);
}

/// A body larger than what is kept still reaches its own client whole; the retry is told, and nothing runs twice.
#[tokio::test]
async fn an_answer_over_the_limit_flows_whole_and_its_retry_is_told_where_it_is() {
    let effects = Effects::default();
    let ran = effects.clone();
    let large = service_fn(move |_: Request<Full<Bytes>>| {
        ran.take();
        async {
            let mut response = Response::new(Full::new(every_byte(1000)));
            response.headers_mut().insert("location", HeaderValue::from_static("/orders/1"));
            Ok::<_, Infallible>(response)
        }
    });
    let idempotency = memory().route(|policy| policy.capture_limit(999)).unwrap();
    let service = IdempotencyLayer::new(idempotency).layer(large);
    let request = || keyed("k").body(Full::<Bytes>::from("{}")).unwrap();
    let first = Seen::of(service.clone().oneshot(request()).await.unwrap()).await;
    assert!(first.body == every_byte(1000));
    let again = Seen::of(service.clone().oneshot(request()).await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "replay-unavailable".to_owned()));
    assert_eq!(again.headers["location"], "/orders/1");
    assert_eq!(effects.count(), 1);
}
