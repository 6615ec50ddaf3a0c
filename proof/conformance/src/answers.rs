//! Answers: what was put in comes out, to the byte.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use semel_core::record::{Completion, NotKept, Retention, StoredBody, StoredResponse};
use semel_core::store::Begun;

use crate::Fixture;
use crate::kit::{Lab, answer, applied, ask, id, ok, retry};

async fn comes_back<F: Fixture>(lab: &Lab<F>, n: u64, completion: Completion) {
    let completion = Arc::new(completion);
    let lease = lab.claim(&ask(n)).await;
    applied(&ok(lab.store.complete(lease, &completion, &Retention::default()).await));
    let read = ok(lab.store.read(&id(n)).await).map(|record| record.completion);
    assert!(read.as_ref() == Some(&completion), "read another answer than was put in");
    match lab.begin(&retry(&ask(n), 1)).await {
        Begun::Settled(record) => {
            assert!(record.completion == completion, "replayed another answer than was put in");
        }
        other => panic!("{other:?}"),
    }
    let view = lab.view(n).await;
    let response = completion.response.as_ref();
    let bytes = response.map_or(0, |response| match &response.body {
        StoredBody::Kept(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        StoredBody::NotKept(_) => 0,
    });
    assert_eq!((view.status, view.body_bytes), (response.map(|response| response.status), bytes));
}

fn with_body(body: impl Into<Bytes>) -> Completion {
    Completion::clone(&answer(body))
}

fn response(change: impl FnOnce(&mut StoredResponse)) -> Completion {
    let mut completion = with_body("body");
    if let Some(response) = &mut completion.response {
        change(response);
    }
    completion
}

/// Images, archives and compressed answers are not text; a NUL or a byte above 127 once ended or changed them.
pub async fn bodies_of_every_byte<F: Fixture>(f: F) {
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    comes_back(&Lab::new(f), 1, with_body(every)).await;
}

/// An empty body is a body: a 204 is replayed as one, and is not "no longer kept".
pub async fn empty_bodies<F: Fixture>(f: F) {
    comes_back(&Lab::new(f), 1, with_body(Bytes::new())).await;
}

/// The default limit, exactly, and one byte beyond a power of two.
pub async fn bodies_of_a_mebibyte<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    // Bytes that no compression shortens away.
    let mut word = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    comes_back(&lab, 1, with_body(bytes.clone())).await;
    comes_back(&lab, 2, with_body(Bytes::from(bytes).slice(..65_537))).await;
}

/// `Set-Cookie` and `Link` repeat, in an order; values may hold bytes that are not UTF-8 (RFC 9110, section 5.5).
pub async fn headers_repeat_and_hold_any_byte<F: Fixture>(f: F) {
    let completion = response(|response| {
        let headers = &mut response.headers;
        for value in [&b"<a>; rel=next"[..], b"<b>; rel=next", b"", b"caf\xe9 \xff\x80\ttab"] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(http::header::LINK, value.clone());
                headers.append(HeaderName::from_static("x-other"), value);
            }
        }
    });
    let links = completion.response.as_ref().map(|response| response.headers.get_all("link").iter().count());
    assert_eq!(links, Some(4), "the law's own headers are legal");
    comes_back(&Lab::new(f), 1, completion).await;
}

/// A checksum or `grpc-status` comes after the body; without it the answer is another one.
pub async fn trailers_are_kept<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let mut trailers = HeaderMap::new();
    trailers.append("grpc-status", HeaderValue::from_static("0"));
    trailers.append("x-sum", HeaderValue::from_static("1"));
    trailers.append("x-sum", HeaderValue::from_static("2"));
    comes_back(&lab, 1, response(|response| response.trailers = Some(trailers))).await;
    comes_back(&lab, 2, response(|response| response.trailers = Some(HeaderMap::new()))).await;
}

/// `Access-Control-*` is replayed to the first request's origin only, so the origin is kept.
pub async fn the_origin_is_kept<F: Fixture>(f: F) {
    let origin = HeaderValue::from_static("https://shop.example");
    comes_back(&Lab::new(f), 1, response(|response| response.origin = Some(origin))).await;
}

/// A reference stands where the application makes its answer anew; it may stand alone or beside a response.
pub async fn references_are_kept<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let reference = Some(Bytes::from_static(b"order \x00\xff"));
    comes_back(&lab, 1, Completion { response: None, reference: reference.clone() }).await;
    comes_back(&lab, 2, Completion { reference, ..with_body("body") }).await;
    comes_back(&lab, 3, Completion::default()).await;
}

/// A retry of an answer without its body is told why there is none.
pub async fn the_reason_for_no_body_is_kept<F: Fixture>(f: F) {
    let lab = Lab::new(f);
    let reasons = [
        NotKept::TooLarge,
        NotKept::Endless,
        NotKept::Slow,
        NotKept::ByChoice,
        NotKept::Expired,
        NotKept::NoRoom,
    ];
    for (n, why) in (1..).zip(reasons) {
        let status = if n % 2 == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
        let body = StoredBody::NotKept(why);
        comes_back(&lab, n, response(|response| (response.body, response.status) = (body, status))).await;
    }
}
