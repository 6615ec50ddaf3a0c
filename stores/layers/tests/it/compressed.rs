//! What the compressing layer leaves, and what it refuses to expand.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use semel_core::record::{Completion, NotKept, StoredBody, codec};
use semel_core::store::{AnyStore, StoreErrorKind};
use semel_store_layers::{Compress, Layers};
use semel_store_memory::{ManualClock, MemoryStore};

use crate::support::{answer, body, bytes, complete, id, read, replay, retry, seal};

fn both(compress: Compress) -> (AnyStore, AnyStore) {
    let memory = AnyStore::new(MemoryStore::new());
    (memory.clone(), Layers::over(memory).compress(compress).build().unwrap())
}

fn text(length: usize) -> Vec<u8> {
    b"{\"order\":17,\"state\":\"paid\"},".iter().copied().cycle().take(length).collect()
}

fn noise(length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect()
}

// The limit is the threshold to the byte; what does not get smaller stays as it is.
#[tokio::test]
async fn only_what_is_large_and_gets_smaller_is_compressed() {
    let (below, store) = both(Compress::new());
    let mut encoded = answer(text(5000));
    encoded.response.as_mut().unwrap().headers.insert("content-encoding", HeaderValue::from_static("br"));
    let cases = [
        (1, answer(text(1023)), false),
        (2, answer(text(1024)), true),
        (3, answer(noise(5000)), false),
        (4, encoded, false),
        (5, answer(text(1 << 20)), true),
        (6, Completion::default(), false),
    ];
    for (n, plain, smaller) in cases {
        complete(&store, n, plain.clone()).await;
        let kept = read(&below, n).await;
        let (kept_size, plain_size) = (codec::encode(&kept).len(), codec::encode(&plain).len());
        assert_eq!(kept_size < plain_size, smaller, "case {n}: {plain_size} bytes became {kept_size}");
        assert!(smaller || kept == plain, "case {n} was changed for nothing");
        assert_eq!(read(&store, n).await, plain, "case {n}");
        assert_eq!(*replay(&store, n).await.completion, plain, "case {n}");
    }
}

// A frame of a kilobyte that unfolds to gigabytes takes the process down.
#[tokio::test]
async fn a_bomb_is_refused() {
    let (below, store) = both(Compress::new().max_body(1 << 20));
    // Honest about its size, which is too much.
    let unbounded = Layers::over(below.clone()).compress(Compress::new()).build().unwrap();
    complete(&unbounded, 1, answer(vec![0; (1 << 20) + 1])).await;
    // Not honest: a megabyte that says it is a byte less, more, or a hundred.
    complete(&unbounded, 2, answer(vec![0; 1 << 20])).await;
    assert_eq!(bytes(&read(&store, 2).await).len(), 1 << 20);
    let honest = read(&below, 2).await;
    for (n, says) in (3..).zip([(1_u64 << 20) - 1, (1 << 20) + 1, 100, 0, u64::MAX]) {
        let mut note = honest.reference.clone().unwrap().to_vec();
        note[5..13].copy_from_slice(&says.to_be_bytes());
        complete(&below, n, Completion { reference: Some(note.into()), ..honest.clone() }).await;
    }
    for n in [1, 3, 4, 5, 6, 7] {
        let error = store.read(&id(n)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Undecodable, "case {n}");
        assert_eq!(store.begin(&retry(n)).await.unwrap_err().kind(), StoreErrorKind::Undecodable);
    }
    // What is too large to be expanded is not compressed.
    complete(&store, 9, answer(vec![0; (1 << 20) + 1])).await;
    assert_eq!(bytes(&read(&store, 9).await).len(), (1 << 20) + 1);
}

// Half a frame, a flipped bit, a note of a later version: never an empty or another body.
#[tokio::test]
async fn what_is_damaged_is_undecodable() {
    let (below, store) = both(Compress::new());
    complete(&store, 1, answer(text(5000))).await;
    let kept = read(&below, 1).await;
    let with_body = |body: Vec<u8>| {
        let mut copy = kept.clone();
        copy.response.as_mut().unwrap().body = StoredBody::Kept(body.into());
        copy
    };
    let with_note = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut note = kept.reference.clone().unwrap().to_vec();
        change(&mut note);
        Completion { reference: Some(note.into()), ..kept.clone() }
    };
    let frame = bytes(&kept).to_vec();
    let mut damaged = vec![
        with_body(Vec::new()),
        with_body(frame[..frame.len() - 1].to_vec()),
        with_body([&frame[..], &frame[..]].concat()),
        with_note(&|note| note[3] = 2),
        with_note(&|note| note[4] = 9),
        with_note(&|note| note.truncate(7)),
        Completion { response: None, ..kept.clone() },
    ];
    // Not only the checksum: a body in which a letter changed.
    for at in [frame.len() / 2, frame.len() - 1] {
        let mut flipped = frame.clone();
        flipped[at] ^= 1;
        damaged.push(with_body(flipped));
    }
    for (case, completion) in damaged.into_iter().enumerate() {
        let n = u8::try_from(10 + case).unwrap();
        complete(&below, n, completion).await;
        let error = store.read(&id(n)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Undecodable, "case {case}");
    }
}

// The application's own reference may be any bytes, also such as look like this layer's note or a seal.
#[tokio::test]
async fn a_reference_that_looks_like_a_note_stays_what_it_is() {
    let (below, store) = both(Compress::new());
    complete(&store, 1, answer(text(5000))).await;
    let note = read(&below, 1).await.reference.unwrap();
    for (n, reference) in (2..).zip([note, Bytes::from_static(b"\xF5Zs"), Bytes::from_static(b"\xF5Sx\x01")])
    {
        for (n, body) in [(n, "short".into()), (n + 10, text(5000))] {
            let plain = Completion { reference: Some(reference.clone()), ..answer(body) };
            complete(&store, n, plain.clone()).await;
            assert_eq!(read(&store, n).await, plain);
        }
        let plain = Completion { response: None, reference: Some(reference) };
        complete(&store, n + 20, plain.clone()).await;
        assert_eq!(read(&store, n + 20).await, plain);
    }
}

// Sealed bytes look like noise, and compressing them costs time for nothing: whoever stacks stores by hand.
#[tokio::test]
async fn sealed_bytes_are_not_compressed() {
    let memory = AnyStore::new(MemoryStore::new());
    let below = Layers::over(memory.clone()).compress(Compress::new()).build().unwrap();
    let stacked = Layers::over(below).seal(seal()).build().unwrap();
    complete(&stacked, 1, answer(text(100_000))).await;
    assert_eq!(bytes(&read(&memory, 1).await).len(), 100_000);
    assert_eq!(bytes(&read(&stacked, 1).await), &text(100_000));
    // In the order that makes sense they are small, and sealed.
    let memory = AnyStore::new(MemoryStore::new());
    let layered = Layers::over(memory.clone()).compress(Compress::new()).seal(seal()).build().unwrap();
    complete(&layered, 1, answer(text(100_000))).await;
    assert!(bytes(&read(&memory, 1).await).len() < 1000);
    assert_eq!(bytes(&read(&layered, 1).await), &text(100_000));
}

// The store ends a body's life; the note beside it must not make the rest undecodable.
#[tokio::test]
async fn a_compressed_body_that_the_store_dropped_is_not_kept() {
    let clock = ManualClock::new();
    let memory = MemoryStore::builder().clock(clock.clone()).build();
    let store = Layers::new(memory).compress(Compress::new()).build().unwrap();
    let plain = Completion { reference: Some(Bytes::from_static(b"order/17")), ..answer(text(5000)) };
    complete(&store, 1, plain.clone()).await;
    clock.advance(Duration::from_hours(25));
    let record = replay(&store, 1).await;
    assert_eq!(*body(&record.completion), StoredBody::NotKept(NotKept::Expired));
    assert_eq!(record.completion.reference, plain.reference);
}

// The layer is added to a store in use.
#[tokio::test]
async fn records_from_before_read_alike() {
    let (below, store) = both(Compress::new());
    complete(&below, 1, answer(text(5000))).await;
    assert_eq!(read(&store, 1).await, answer(text(5000)));
}
