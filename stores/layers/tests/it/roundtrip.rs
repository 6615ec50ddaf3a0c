//! Any answer goes through the layers and comes back the same.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use semel_core::record::{Completion, NotKept, StoredBody, StoredResponse};
use semel_store_layers::{Compress, Layers, Tier};
use semel_store_memory::MemoryStore;

use crate::support::{complete, read, replay, seal};

fn fields() -> impl Strategy<Value = HeaderMap> {
    // Few names, so that they repeat.
    let name = prop_oneof![Just("link"), Just("x-a"), Just("vary"), Just("content-encoding")];
    let value = vec(prop_oneof![0x20_u8..0x7F, 0x80_u8..=0xFF, Just(b'\t')], 0..40);
    vec((name, value), 0..12).prop_map(|fields| {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    })
}

/// Noise, runs of one byte, and repeated words, up to a mebibyte.
fn bytes() -> impl Strategy<Value = Bytes> {
    let length = prop_oneof![3 => 0_usize..3000, 1 => 0_usize..=(1 << 20)];
    (length, vec(any::<u8>(), 1..64), any::<u64>(), 0..3).prop_map(|(length, word, seed, kind)| {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = match kind {
            0 => std::iter::repeat_with(|| random.u8(..)).take(length).collect(),
            1 => vec![word[0]; length],
            _ => word.iter().copied().cycle().take(length).collect(),
        };
        bytes.into()
    })
}

fn body() -> impl Strategy<Value = StoredBody> {
    let why = prop_oneof![
        Just(NotKept::TooLarge),
        Just(NotKept::Endless),
        Just(NotKept::Slow),
        Just(NotKept::ByChoice),
        Just(NotKept::Expired),
        Just(NotKept::NoRoom),
    ];
    prop_oneof![4 => bytes().prop_map(StoredBody::Kept), 1 => why.prop_map(StoredBody::NotKept)]
}

fn completion() -> impl Strategy<Value = Completion> {
    let origin = option::of(Just(HeaderValue::from_static("https://shop.example")));
    let response = (100_u16..1000, fields(), body(), option::of(fields()), origin);
    let response = response.prop_map(|(status, headers, body, trailers, origin)| StoredResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body,
        trailers,
        origin,
    });
    // Beginnings that the layers' own notes have, too.
    let start = prop_oneof![Just(&b""[..]), Just(&b"\xF5Zs\x01"[..]), Just(&b"\xF5Sx\x01"[..])];
    let reference =
        (start, vec(any::<u8>(), 0..200)).prop_map(|(start, rest)| [start, &rest].concat().into());
    (option::weighted(0.9, response), option::of(reference))
        .prop_map(|(response, reference)| Completion { response, reference })
}

fn comes_back(layers: fn(Layers) -> Layers, plain: &Completion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = layers(Layers::new(MemoryStore::new())).build().unwrap();
        complete(&store, 1, plain.clone()).await;
        // Compared without printing: a failure would print a mebibyte.
        assert!(read(&store, 1).await == *plain, "read another answer");
        assert!(*replay(&store, 1).await.completion == *plain, "replayed another answer");
        let status = plain.response.as_ref().map(|response| response.status);
        assert_eq!(store.inspect(&crate::support::id(1)).await.unwrap().unwrap().status, status);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    // One lost trailer, one swapped pair of repeated fields, and the replay is another answer than the first.
    #[test]
    fn sealed(plain in completion()) {
        comes_back(|layers| layers.seal(seal()), &plain);
    }

    #[test]
    fn compressed(plain in completion()) {
        comes_back(|layers| layers.compress(Compress::new().at_least(1)), &plain);
    }

    #[test]
    fn all_together(plain in completion()) {
        comes_back(|layers| layers.tier(Tier::new()).compress(Compress::new()).seal(seal()), &plain);
    }
}
