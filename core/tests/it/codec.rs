//! The record format: bytes that shipped once must decode for ever, and damage must never pass for an answer.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use semel_core::record::codec::{self, DecodeErrorKind};
use semel_core::record::{Completion, NotKept, StoredBody, StoredRequest, StoredResponse};
use semel_core::steps::{Entered, Walk};

fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap()))
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn answer(status: u16, fields: &[(&str, &[u8])], body: StoredBody) -> StoredResponse {
    StoredResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers(fields),
        body,
        trailers: None,
        origin: None,
    }
}

fn kept(body: &[u8]) -> StoredBody {
    StoredBody::Kept(Bytes::copy_from_slice(body))
}

fn of(response: StoredResponse) -> Completion {
    Completion { response: Some(response), reference: None }
}

/// One of each shape that a store has had to keep.
fn shapes() -> Vec<(&'static str, Completion)> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let json: &[(&str, &[u8])] = &[("content-type", b"application/json"), ("location", b"/orders/17")];
    let mut streamed = answer(200, &[("grpc-encoding", b"identity")], kept(b"frame"));
    streamed.trailers = Some(headers(&[("grpc-status", b"0"), ("grpc-message", b"")]));
    let mut cors = answer(200, &[("access-control-allow-origin", b"https://a.example")], kept(b"{}"));
    cors.origin = Some(HeaderValue::from_static("https://a.example"));
    let mut shapes = vec![
        ("created", of(answer(201, json, kept(br#"{"order":17}"#)))),
        ("done-without-answer", Completion::default()),
        ("empty", of(answer(204, &[], kept(b"")))),
        ("every-byte", of(answer(200, &[], kept(&every_byte)))),
        (
            "repeated-fields",
            of(answer(
                303,
                &[("link", b"</a>"), ("x-b", b""), ("link", b"</c>"), ("x-latin", b"caf\xe9 \xff")],
                kept(b"see other"),
            )),
        ),
        ("trailers", of(streamed)),
        ("origin", of(cors)),
        ("reference", Completion { response: None, reference: Some(Bytes::from_static(b"order/17")) }),
        (
            "reference-and-answer",
            Completion {
                response: Some(answer(599, json, StoredBody::NotKept(NotKept::ByChoice))),
                reference: Some(Bytes::new()),
            },
        ),
    ];
    for (name, why) in [
        ("too-large", NotKept::TooLarge),
        ("endless", NotKept::Endless),
        ("slow", NotKept::Slow),
        ("expired", NotKept::Expired),
        ("no-room", NotKept::NoRoom),
    ] {
        shapes.push((name, of(answer(200, json, StoredBody::NotKept(why)))));
    }
    shapes
}

/// Three steps in each state, as a walk leaves them; the second attempt found the third one started.
fn progress() -> Bytes {
    let mut walk = Walk::open(None, 1).unwrap();
    for (name, done, result) in [("charge", true, &b"\"ch_17\""[..]), ("check:stock", false, b"none left")] {
        let Ok(Entered::Start(_)) = walk.enter(name) else { panic!("{name}") };
        let _note = walk.leave(done, Bytes::from_static(result)).unwrap();
        walk.left(done, Bytes::from_static(result));
    }
    let Ok(Entered::Start(note)) = walk.enter("mail-1") else { panic!("mail-1") };
    let mut walk = Walk::open(Some(&note), 2).unwrap();
    assert_eq!(walk.enter("charge"), Ok(Entered::Done(Bytes::from_static(b"\"ch_17\""))));
    assert_eq!(walk.enter("check:stock"), Ok(Entered::Failed(Bytes::from_static(b"none left"))));
    let Ok(Entered::Start(note)) = walk.enter("mail-1") else { panic!("mail-1 again") };
    note
}

/// A deploy in the middle of a run must find its steps, and damaged ones are an error rather than none.
#[test]
fn progress_that_shipped_once_decodes_for_ever_and_damage_is_an_error() {
    let fresh = progress();
    let golden = golden("progress", &fresh);
    assert_eq!(golden, fresh);
    let decoded = codec::decode_progress(&golden).unwrap();
    let said: Vec<String> = decoded
        .steps
        .iter()
        .map(|step| format!("{} {} {}", step.name, step.state.as_str(), step.attempt))
        .collect();
    assert_eq!(said, ["charge done 1", "check:stock failed 1", "mail-1 started 2"]);
    assert!(!format!("{decoded:?}").contains("ch_17"), "results do not print");
    for at in 0..golden.len() {
        let mut damaged = golden.to_vec();
        damaged[at] ^= 1;
        let error = codec::decode_progress(&damaged.into()).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::Corrupt, "{at}");
        assert!(codec::decode_progress(&golden.slice(..at)).is_err(), "{at}");
    }
    let mut newer = golden.to_vec();
    (newer[2], newer[3]) = (9, 9);
    let error = codec::decode_progress(&sealed(newer).into()).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::Newer { version: 9, min_reader: 9 });
    assert!(codec::decode(&golden).is_err(), "another kind of blob");
}

fn request() -> StoredRequest {
    StoredRequest {
        method: http::Method::PATCH,
        uri: "/orders/17?a=%20".parse().unwrap(),
        headers: headers(&[("content-type", b"application/json"), ("x-n", b"\xfe"), ("x-n", b"2")]),
        body: Bytes::from_static(b"{\"state\":\"paid\"}\0"),
    }
}

/// The committed bytes of a name. To add a shape, run the test once with `SEMEL_GOLDEN=write`.
fn golden(name: &str, fresh: &[u8]) -> Bytes {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/records").join(format!("{name}.bin"));
    if std::env::var_os("SEMEL_GOLDEN").is_some_and(|word| word == "write") && !path.exists() {
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Gives a blob that was edited by hand the checksum that its writer would have given it.
fn sealed(mut blob: Vec<u8>) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&blob[..4]);
    sum.update(&blob[8..]);
    blob[4..8].copy_from_slice(&sum.finalize().to_be_bytes());
    blob
}

/// What a version 2 would write: one field more in the head, and one of a kind that version 1 never uses.
fn of_version_2(min_reader: u8) -> Vec<u8> {
    let mut blob = codec::encode(&shapes()[0].1);
    blob[2] = 2;
    blob[3] = min_reader;
    assert_eq!(blob[8], 0xa3, "a map of status, headers and body");
    blob[8] = 0xa5;
    // 63: {"a": [1, null, 2.5]} before the body (64, h'..'), and 65: "later" after it.
    let body = blob.windows(2).rposition(|pair| pair == [0x18, 64]).unwrap();
    blob.splice(body..body, *b"\x18\x3f\xa1\x61a\x83\x01\xf6\xf9\x41\x00");
    blob.extend_from_slice(b"\x18\x41\x65later");
    sealed(blob)
}

#[test]
fn bytes_that_shipped_decode_and_are_written_the_same() {
    for (name, shape) in shapes() {
        let golden = golden(&format!("v1-{name}"), &codec::encode(&shape));
        let decoded = codec::decode(&golden).unwrap();
        assert_eq!(decoded, shape, "{name}");
        assert_eq!(codec::encode(&decoded), golden, "{name}");
    }
    let golden = golden("v1-request", &codec::encode_request(&request()));
    let decoded = codec::decode_request(&golden).unwrap();
    assert_eq!(decoded, request());
    assert_eq!(codec::encode_request(&decoded), golden);
}

// A rolling update has both versions on one store.
#[test]
fn the_next_version_is_read_without_what_it_added() {
    let golden = golden("v2-fields-added", &of_version_2(1));
    assert_eq!(codec::decode(&golden).unwrap(), shapes()[0].1);
}

#[test]
fn a_version_that_says_we_are_too_old_is_refused_and_says_so() {
    let golden = golden("v2-needs-reader-2", &of_version_2(2));
    let error = codec::decode(&golden).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::Newer { version: 2, min_reader: 2 });
    assert!(error.to_string().contains("update"), "{error}");
}

#[test]
fn every_truncation_is_corrupt() {
    for (name, shape) in shapes() {
        let blob = Bytes::from(codec::encode(&shape));
        for length in 0..blob.len() {
            let error = codec::decode(&blob.slice(..length)).unwrap_err();
            assert_eq!(error.kind(), DecodeErrorKind::Corrupt, "{name} cut at {length}");
        }
    }
}

// Without a checksum a flipped bit in a body was replayed as the answer.
#[test]
fn every_flipped_bit_is_corrupt_in_the_body_too() {
    for (name, shape) in shapes() {
        let blob = codec::encode(&shape);
        for bit in 0..blob.len() * 8 {
            let mut damaged = blob.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = codec::decode(&damaged.into()).unwrap_err();
            assert_eq!(error.kind(), DecodeErrorKind::Corrupt, "{name}, bit {bit}");
        }
    }
}

#[test]
fn a_request_is_not_a_completion() {
    assert!(codec::decode(&codec::encode_request(&request()).into()).is_err());
    assert!(codec::decode_request(&codec::encode(&shapes()[0].1).into()).is_err());
}

#[test]
fn half_an_answer_is_corrupt() {
    for (what, map) in [
        ("status alone", &b"\xa1\x01\x18\xc8"[..]),
        ("a status of 99", b"\xa3\x01\x18\x63\x02\x80\x18\x40\x40"),
        ("no value", b"\xa3\x01\x18\xc8\x02\x81\x41a\x18\x40\x40"),
        ("a newline in a value", b"\xa3\x01\x18\xc8\x02\x82\x41a\x41\n\x18\x40\x40"),
        ("kept and not kept", b"\xa4\x01\x18\xc8\x02\x80\x05\x00\x18\x40\x40"),
        ("a status twice", b"\xa4\x01\x18\xc8\x01\x18\xc8\x02\x80\x18\x40\x40"),
        ("a map without length", b"\xbf\xff"),
        ("more than it says", b"\xa0\xa0"),
        ("2^64-1 fields", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("an array of 2^63 headers", b"\xa3\x01\x18\xc8\x02\x9b\x80\0\0\0\0\0\0\0"),
    ] {
        let blob = sealed([b"Sc\x01\x01\0\0\0\0", map].concat());
        let error = codec::decode(&blob.into()).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::Corrupt, "{what}");
    }
}

// A header map takes 32,768 fields and panics beyond when it is not asked nicely.
#[test]
fn more_fields_than_a_map_takes_are_corrupt() {
    let mut map = b"\xa3\x01\x18\xc8\x02\x9a".to_vec();
    map.extend_from_slice(&80_000u32.to_be_bytes());
    for n in 0..40_000 {
        map.extend_from_slice(format!("\x46x{n:05}\x40").as_bytes());
    }
    map.extend_from_slice(b"\x18\x40\x40");
    let blob = sealed([&b"Sc\x01\x01\0\0\0\0"[..], &map].concat());
    assert_eq!(codec::decode(&blob.into()).unwrap_err().kind(), DecodeErrorKind::Corrupt);
}

#[test]
fn a_body_shares_the_memory_of_its_blob() {
    let blob = Bytes::from(codec::encode(&of(answer(200, &[], kept(&[7; 4096])))));
    let Some(StoredResponse { body: StoredBody::Kept(body), .. }) = codec::decode(&blob).unwrap().response
    else {
        panic!("the body is gone")
    };
    assert!(blob.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn dropping_the_body_keeps_the_rest_and_an_earlier_reason() {
    let created = shapes()[0].1.clone();
    let rest = codec::without_body(&created, NotKept::Expired);
    let (before, after) = (created.response.unwrap(), rest.response.unwrap());
    assert_eq!(after.body, StoredBody::NotKept(NotKept::Expired));
    assert_eq!((after.status, after.headers), (before.status, before.headers));

    let slow = of(answer(200, &[], StoredBody::NotKept(NotKept::Slow)));
    assert_eq!(codec::without_body(&slow, NotKept::Expired), slow);
    assert_eq!(codec::without_body(&Completion::default(), NotKept::Expired), Completion::default());
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let value = vec(prop_oneof![Just(b'\t'), 0x20u8..=0x7e, 0x80u8..=0xff], 0..20);
    vec(("[a-z][a-z0-9-]{0,6}", value), 0..8).prop_map(|pairs| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        headers(&pairs)
    })
}

fn any_completion() -> impl Strategy<Value = Completion> {
    let body = prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(|body| StoredBody::Kept(body.into())),
        Just(StoredBody::NotKept(NotKept::TooLarge)),
    ];
    let response =
        (100u16..1000, any_headers(), body, option::of(any_headers()), option::of("[a-z:/.]{0,20}"))
            .prop_map(|(status, headers, body, trailers, origin)| StoredResponse {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body,
                trailers,
                origin: origin.map(|text| HeaderValue::from_str(&text).unwrap()),
            });
    (option::of(response), option::of(vec(any::<u8>(), 0..40)))
        .prop_map(|(response, reference)| Completion { response, reference: reference.map(Bytes::from) })
}

proptest! {
    #[test]
    fn what_is_written_is_read(completion in any_completion()) {
        let blob = Bytes::from(codec::encode(&completion));
        prop_assert_eq!(codec::decode(&blob).unwrap(), completion);
    }

    // The checksum keeps accidents out; this is what is behind it.
    #[test]
    fn no_bytes_panic(mut blob in any_completion().prop_map(|c| codec::encode(&c)), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for (at, byte) in edits {
            let at = 8 + at.index(blob.len() - 8);
            blob[at] = byte;
        }
        let _ = codec::decode(&sealed(blob).into());
    }
}
