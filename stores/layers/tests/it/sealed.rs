//! What a sealed store shows, and what it refuses to open.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, NotKept, Recovery, Retention, State, StoredBody, StoredRequest, codec,
};
use semel_core::store::{AnyStore, Begin, Begun, Query, Resolution, Settled, StoreErrorKind, Verdict};
use semel_store_layers::{Compress, KeyId, Layers, Seal};
use semel_store_memory::{ManualClock, MemoryStore};
use semel_store_sqlite::SqliteStore;

use crate::support::{answer, ask, body, bytes, claim, complete, id, key, read, replay, retry, seal};

/// The store below, and the same under seal.
fn both(seal: Seal) -> (AnyStore, AnyStore) {
    let memory = AnyStore::new(MemoryStore::new());
    (memory.clone(), Layers::over(memory).seal(seal).build().unwrap())
}

fn kind<T: std::fmt::Debug>(answer: Result<T, semel_core::store::StoreError>) -> StoreErrorKind {
    answer.unwrap_err().kind()
}

/// Puts this completion straight into the store below, under a new id.
async fn plant(below: &AnyStore, n: u8, completion: Completion) {
    complete(below, n, completion).await;
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

// A dump of the table must not show what customers were told.
#[tokio::test]
async fn nothing_of_the_answer_is_readable_below() {
    let (below, store) = both(seal());
    let mut secret = answer("body-secret-17");
    let response = secret.response.as_mut().unwrap();
    response.trailers =
        Some([("x-sum".parse().unwrap(), HeaderValue::from_static("secret-17"))].into_iter().collect());
    response.origin = Some(HeaderValue::from_static("https://secret-17.example"));
    secret.reference = Some(Bytes::from_static(b"reference-secret-17"));
    complete(&store, 1, secret.clone()).await;
    let kept = read(&below, 1).await;
    assert!(!contains(&codec::encode(&kept), b"secret"), "the answer is readable");
    let response = kept.response.as_ref().unwrap();
    assert_eq!((response.status, response.headers.len()), (StatusCode::CREATED, 0));
    assert_eq!(bytes(&kept).len(), "body-secret-17".len(), "limits and quotas count what they did");
    assert_eq!(read(&store, 1).await, secret);

    let lease = claim(&store, &ask(2)).await;
    let notes = Bytes::from_static(b"charged secret-17");
    assert_eq!(store.note(lease, &notes).await.unwrap(), Settled::Applied);
    let below_it = below.inspect(&id(2)).await.unwrap().unwrap().progress.unwrap();
    assert!(!contains(&below_it, b"secret"));
    assert_eq!(store.inspect(&id(2)).await.unwrap().unwrap().progress, Some(notes));
}

// The attack that encryption without binding allows: my refund under your key.
#[tokio::test]
async fn answers_do_not_open_in_another_record() {
    let (below, store) = both(seal());
    complete(&store, 1, answer("one")).await;
    complete(&store, 2, answer("two")).await;
    let (one, two) = (read(&below, 1).await, read(&below, 2).await);
    plant(&below, 3, one.clone()).await;
    assert_eq!(kind(store.read(&id(3)).await), StoreErrorKind::Undecodable);
    assert_eq!(kind(store.begin(&retry(3)).await), StoreErrorKind::Undecodable);
    // Nor do body and head of two records go together, nor those of two answers of one record.
    let mut mixed = one.clone();
    mixed.response = two.response.clone();
    let fresh = || {
        let memory = AnyStore::new(MemoryStore::new());
        (memory.clone(), Layers::over(memory).seal(seal()).build().unwrap())
    };
    let (below, store) = fresh();
    plant(&below, 1, mixed).await;
    assert_eq!(kind(store.read(&id(1)).await), StoreErrorKind::Undecodable);
    let (other_below, other) = fresh();
    complete(&other, 1, answer("uno")).await;
    let mut mixed = one.clone();
    mixed.response = read(&other_below, 1).await.response;
    let (below, store) = fresh();
    plant(&below, 1, mixed).await;
    assert_eq!(kind(store.read(&id(1)).await), StoreErrorKind::Undecodable);
    // While the same two in the same record do.
    let (below, store) = fresh();
    plant(&below, 1, one).await;
    assert_eq!(read(&store, 1).await, answer("one"));
}

// Each byte, and what stands readable beside them.
#[tokio::test]
async fn a_changed_bit_is_undecodable_and_never_absent() {
    let (below, store) = both(seal());
    complete(&store, 1, answer("a body")).await;
    let kept = read(&below, 1).await;
    let mut changed = Vec::new();
    for at in 0..kept.reference.as_ref().unwrap().len() {
        let mut copy = kept.clone();
        let mut reference = copy.reference.unwrap().to_vec();
        reference[at] ^= 1;
        copy.reference = Some(reference.into());
        changed.push(copy);
    }
    for at in 0..bytes(&kept).len() {
        let mut copy = kept.clone();
        let mut body = bytes(&copy).to_vec();
        body[at] ^= 1;
        copy.response.as_mut().unwrap().body = StoredBody::Kept(body.into());
        changed.push(copy);
    }
    for length in [0, 3, 7, 47, 48, 60] {
        let reference = kept.reference.as_ref().unwrap().slice(..length);
        changed.push(Completion { reference: Some(reference), ..kept.clone() });
    }
    let mut copy = kept.clone();
    copy.response.as_mut().unwrap().status = StatusCode::OK;
    changed.push(copy);
    changed.push(Completion { response: None, ..kept.clone() });
    changed.push(Completion { reference: None, ..kept.clone() });
    for (case, completion) in changed.into_iter().enumerate() {
        let (below, store) = both(seal());
        plant(&below, 1, completion).await;
        assert_eq!(kind(store.read(&id(1)).await), StoreErrorKind::Undecodable, "case {case}");
        assert_eq!(kind(store.begin(&retry(1)).await), StoreErrorKind::Undecodable, "case {case}");
    }
}

// Keys change every quarter; what they sealed lives on, and nothing runs again for it.
#[tokio::test]
async fn keys_rotate_and_a_missing_one_is_said() {
    let memory = AnyStore::new(MemoryStore::new());
    let with = |seal: Seal| Layers::over(memory.clone()).seal(seal).build().unwrap();
    complete(&with(Seal::new(KeyId(1), key(1))), 1, answer("by the first key")).await;
    let rotated = with(Seal::new(KeyId(2), key(2)).old(KeyId(1), key(1)));
    complete(&rotated, 2, answer("by the second key")).await;
    assert_eq!(bytes(&replay(&rotated, 1).await.completion), "by the first key");
    assert_eq!(bytes(&replay(&rotated, 2).await.completion), "by the second key");
    let retired = with(Seal::new(KeyId(2), key(2)));
    assert_eq!(bytes(&replay(&retired, 2).await.completion), "by the second key");
    let error = retired.begin(&retry(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Undecodable);
    assert!(error.to_string().contains("key 1"), "{error}");
    assert!(!error.can_retry());
    // Another key under the old number is not the old key.
    let wrong = with(Seal::new(KeyId(1), key(9)));
    assert_eq!(kind(wrong.begin(&retry(1)).await), StoreErrorKind::Undecodable);
}

// Progress that is dropped silently makes the next run do its steps twice.
#[tokio::test]
async fn progress_without_its_key_starts_no_run_and_hides_no_record() {
    let clock = ManualClock::new();
    let memory = AnyStore::new(MemoryStore::builder().clock(clock.clone()).build());
    let with = |seal: Seal| Layers::over(memory.clone()).seal(seal).build().unwrap();
    let first = with(Seal::new(KeyId(1), key(1)));
    let takeover = Begin { recovery: Recovery::Takeover, ..ask(1) };
    let lease = claim(&first, &takeover).await;
    assert_eq!(first.note(lease, &Bytes::from_static(b"charged")).await.unwrap(), Settled::Applied);
    clock.advance(Duration::from_secs(31));
    let retired = with(Seal::new(KeyId(2), key(2)));
    let again = Begin { claim: ClaimId::from_u128(9), ..takeover.clone() };
    assert_eq!(kind(retired.begin(&again).await), StoreErrorKind::Undecodable);
    let listed = retired.list(&Query { state: None, after: None, limit: 10 }).await.unwrap();
    assert_eq!(listed.records.len(), 1);
    assert_ne!(listed.records[0].progress.as_deref(), Some(&b"charged"[..]));
    assert!(listed.records[0].progress.is_some(), "it was taken for none");
    let Settled::Superseded(view) =
        retired.complete(lease, &answer("late").into(), &Retention::default()).await.unwrap()
    else {
        panic!("the late worker was not told")
    };
    assert_eq!(view.state, State::InFlight);
    // With the key it is all there.
    let Begun::Acquired(acquired) = first.begin(&again).await.unwrap() else { panic!("not its own claim") };
    assert_eq!(acquired.progress.as_deref(), Some(&b"charged"[..]));
}

// Progress of another record is as foreign as its answer, and is not an answer either.
#[tokio::test]
async fn progress_does_not_open_in_another_record() {
    let (below, store) = both(seal());
    let one = claim(&store, &ask(1)).await;
    assert_eq!(store.note(one, &Bytes::from_static(b"one")).await.unwrap(), Settled::Applied);
    let sealed = below.inspect(&id(1)).await.unwrap().unwrap().progress.unwrap();
    let two = claim(&below, &ask(2)).await;
    assert_eq!(below.note(two, &sealed).await.unwrap(), Settled::Applied);
    assert_eq!(kind(store.begin(&ask(2)).await), StoreErrorKind::Undecodable);
    plant(&below, 3, Completion { response: None, reference: Some(sealed) }).await;
    assert_eq!(kind(store.read(&id(3)).await), StoreErrorKind::Undecodable);
}

// The application chooses what its progress says; put where an answer lies, it would be one of its making.
#[tokio::test]
async fn progress_that_spells_an_answer_is_none() {
    let (below, store) = both(seal());
    let forged = Completion { response: None, reference: Some(Bytes::from_static(b"forged")) };
    let spelled: Bytes = [&[0][..], &codec::encode(&forged)].concat().into();
    let lease = claim(&store, &ask(1)).await;
    assert_eq!(store.note(lease, &spelled).await.unwrap(), Settled::Applied);
    let sealed = below.inspect(&id(1)).await.unwrap().unwrap().progress.unwrap();
    let (below, store) = both(seal());
    plant(&below, 1, Completion { response: None, reference: Some(sealed) }).await;
    assert_eq!(kind(store.read(&id(1)).await), StoreErrorKind::Undecodable);
}

// The table has records from before sealing began: read on request, since anybody could plant such a one.
#[tokio::test]
async fn unsealed_records_are_read_only_where_that_was_said() {
    let memory = AnyStore::new(MemoryStore::new());
    complete(&memory, 1, answer("plain")).await;
    let strict = Layers::over(memory.clone()).seal(seal()).build().unwrap();
    assert_eq!(kind(strict.begin(&retry(1)).await), StoreErrorKind::Undecodable);
    let moving = Layers::over(memory).seal(seal().accept_unsealed()).build().unwrap();
    assert_eq!(bytes(&replay(&moving, 1).await.completion), "plain");
    complete(&moving, 2, answer("sealed")).await;
    assert_eq!(bytes(&replay(&strict, 2).await.completion), "sealed");
}

// The store drops bodies on its own; what is left must still open.
#[tokio::test]
async fn a_body_that_the_store_dropped_leaves_its_head() {
    let clock = ManualClock::new();
    let memory = AnyStore::new(MemoryStore::builder().clock(clock.clone()).build());
    let store = Layers::over(memory).compress(Compress::new()).seal(seal()).build().unwrap();
    let mut whole = answer(vec![b'a'; 100_000]);
    whole.reference = Some(Bytes::from_static(b"order/17"));
    complete(&store, 1, whole.clone()).await;
    clock.advance(Duration::from_hours(25));
    let record = replay(&store, 1).await;
    assert_eq!(*body(&record.completion), StoredBody::NotKept(NotKept::Expired));
    assert_eq!(record.completion.reference, whole.reference);
    assert_eq!(record.completion.response.as_ref().unwrap().headers, whole.response.unwrap().headers);
}

// An operator's answer is an answer.
#[tokio::test]
async fn a_resolution_is_sealed() {
    let (below, store) = both(seal());
    let lease = claim(&store, &ask(1)).await;
    assert_eq!(store.abandon(lease).await.unwrap(), Settled::Applied);
    let verdict = Verdict::Applied(answer("secret").into());
    let op = ClaimId::from_u128(1);
    let resolution = Resolution { op, expect: None, verdict, retention: Retention::default() };
    let _resolved = store.resolve(&id(1), &resolution).await.unwrap();
    assert!(!contains(&codec::encode(&read(&below, 1).await), b"secret"));
    assert_eq!(bytes(&replay(&store, 1).await.completion), "secret");
}

// A kept request holds what the customer sent: card numbers more often than answers do.
#[tokio::test]
async fn a_kept_request_is_sealed_and_opens_for_its_completer() {
    let request = StoredRequest {
        method: http::Method::POST,
        uri: "/orders?secret=17".parse().unwrap(),
        headers: [("x-card".parse().unwrap(), HeaderValue::from_static("secret"))].into_iter().collect(),
        body: Bytes::from_static(b"secret"),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let file = SqliteStore::open(&path).unwrap();
    let store = Layers::new(file).seal(seal()).build().unwrap();
    claim(&store, &Begin { request: Some(request.clone()), ..ask(1) }).await;
    let table = rusqlite::Connection::open(&path).unwrap();
    let blob: Vec<u8> = table.query_row("SELECT request FROM record", [], |row| row.get(0)).unwrap();
    assert!(!contains(&blob, b"secret"));
    let kept = codec::decode_request(&blob.into()).unwrap();
    let opener = seal().opener().unwrap();
    assert_eq!(opener.request(&id(1), &kept).unwrap(), request);
    assert_eq!(kind(opener.request(&id(2), &kept)), StoreErrorKind::Undecodable);
}

// Keys end up in logs by way of `Debug`.
#[test]
fn keys_do_not_print() {
    let seal = Seal::new(KeyId(7), key(0xAB)).old(KeyId(6), key(0xCD));
    let memory = MemoryStore::new();
    let mut texts = vec![format!("{seal:?} {:#?}", key(0xAB))];
    texts.push(format!("{:?}", seal.opener().unwrap()));
    let layers = Layers::new(memory).seal(Seal::new(KeyId(7), key(0xAB)));
    texts.push(format!("{layers:?}"));
    texts.push(format!("{:?}", layers.build().unwrap()));
    for text in texts {
        for shown in ["171", "ABAB", "abab", "205"] {
            assert!(!text.contains(shown), "{text}");
        }
    }
}
