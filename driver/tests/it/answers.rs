//! Three ways to keep an answer: what is in the record, and what retries, waiters and overtaken workers get.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use semel_core::engine::Override;
use semel_core::policy::Answers;
use semel_core::record::{Completion, NotKept, Recovery, Reference, Retention, State, StoredBody};
use semel_driver::{Address, BoxError, Idempotency};
use semel_testkit::faulty::{Fault, Step};

use crate::support::{Answer, App, Handler, Rig, order, rig, send, settle, text};

const SECOND: Duration = Duration::from_secs(1);
const SECRET: &str = "s3cret-token";

/// An answer with a secret in a field and in the body, and a reference to make it again from.
fn secret(n: usize) -> Answer {
    let mut answer = text(201, format!("order {n}: {SECRET}"));
    answer.headers_mut().insert("location", "/orders/7".parse().unwrap());
    answer.headers_mut().insert("x-token", SECRET.parse().unwrap());
    answer
}

fn referring(app: &App) -> Handler {
    app.answering(|n, _| {
        let mut answer = secret(n);
        let reference = Reference::new(format!("order/{n}")).unwrap();
        answer.extensions_mut().insert(Override::new().reference(reference));
        answer
    })
}

/// Makes answers, and counts how often it did.
fn remade(idem: &Idempotency, made: &Arc<AtomicUsize>) -> Idempotency {
    let made = made.clone();
    idem.on_replay(move |reference: Bytes, parts: Parts| {
        let nth = made.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            let said = format!("{} again at {}, {nth}", str::from_utf8(&reference)?, parts.uri.path());
            Ok::<_, BoxError>(Response::builder().status(201).body(Full::new(Bytes::from(said)))?)
        }
    })
}

async fn completion(rig: &Rig, key: &str) -> Arc<Completion> {
    let id = rig.idem.locate(&Address::key(key));
    rig.idem.store().read(&id).await.unwrap().unwrap().completion
}

#[tokio::test]
async fn a_reference_is_kept_without_the_secrets_of_its_answer_and_made_again_for_each_retry() {
    let rig = rig(|b| b.answers(Answers::Reference));
    let (app, made) = (App::open(), Arc::default());
    let idem = remade(&rig.idem, &made);
    let first = send(idem.clone(), order("k", "{}"), referring(&app)).await;
    assert_eq!((first.body.as_str(), first.replayed()), ("order 1: s3cret-token", false));
    assert_eq!(first.headers["x-token"], SECRET);
    let kept = completion(&rig, "k").await;
    assert!(!format!("{kept:?}").contains("s3cret"), "{kept:?}");
    assert_eq!(kept.reference.as_deref(), Some(&b"order/1"[..]));
    for n in 1..=2 {
        let retry = send(idem.clone(), order("k", "{}"), referring(&app)).await;
        assert_eq!(
            (retry.status, retry.body),
            (StatusCode::CREATED, format!("order/1 again at /orders, {n}"))
        );
        assert_eq!(retry.headers["idempotency-replayed"], "true");
    }
    assert_eq!(app.runs(), 1);
    // Another request under that key must not learn what the reference leads to.
    let other = send(idem, order("k", "{\"other\":1}"), referring(&app)).await;
    assert_eq!((other.code(), made.load(Ordering::SeqCst)), ("key-reused", 2));
}

#[tokio::test]
async fn a_tombstone_keeps_the_fact_and_its_location_only() {
    let rig = rig(|b| b.answers(Answers::Tombstone));
    let app = App::open();
    let plain = app.answering(|n, _| secret(n));
    let first = send(rig.idem.clone(), order("k", "{}"), plain.clone()).await;
    assert_eq!((first.status.as_u16(), first.headers["x-token"].as_bytes()), (201, SECRET.as_bytes()));
    let kept = completion(&rig, "k").await;
    assert!(!format!("{kept:?}").contains("s3cret"), "{kept:?}");
    let response = kept.response.as_ref().unwrap();
    assert_eq!((response.status.as_u16(), &response.body), (201, &StoredBody::NotKept(NotKept::ByChoice)));
    let retry = send(rig.idem.clone(), order("k", "{}"), plain).await;
    assert_eq!((retry.status.as_u16(), retry.code()), (409, "replay-unavailable"));
    assert_eq!(retry.headers["location"], "/orders/7");
    assert_eq!(app.runs(), 1);
}

/// What the body of an answer without a reference holds may be as secret as that of one with.
#[tokio::test]
async fn an_answer_without_a_reference_is_not_stored_on_a_route_of_references() {
    let rig = rig(|b| b.answers(Answers::Reference));
    let app = App::open();
    let idem = remade(&rig.idem, &Arc::default());
    send(idem.clone(), order("k", "{}"), app.answering(|n, _| secret(n))).await;
    assert!(!format!("{:?}", completion(&rig, "k").await).contains("s3cret"));
    let retry = send(idem, order("k", "{}"), app.handler()).await;
    assert_eq!((retry.code(), app.runs()), ("replay-unavailable", 1));
}

/// One handler may know better than its route.
#[tokio::test]
async fn the_handler_chooses_for_one_answer() {
    let rig = rig(|b| b.answers(Answers::Tombstone));
    let app = App::open();
    let stored = app.answering(|n, _| {
        let mut answer = secret(n);
        answer.extensions_mut().insert(Override::new().answers(Answers::Stored));
        answer
    });
    send(rig.idem.clone(), order("k", "{}"), stored.clone()).await;
    let retry = send(rig.idem.clone(), order("k", "{}"), stored).await;
    assert_eq!((retry.body.as_str(), retry.replayed()), ("order 1: s3cret-token", true));
}

/// Bodies end before their records do; a reference fills the time between.
#[tokio::test]
async fn an_answer_stored_with_a_reference_is_made_again_after_its_bodys_life() {
    let minute = Retention { body: SECOND * 60, ..Retention::default() };
    let rig = rig(|b| b.retention(minute));
    let (app, made) = (App::open(), Arc::default());
    let idem = remade(&rig.idem, &made);
    let both = app.answering(|n, _| {
        let mut answer = text(201, format!("order {n}"));
        let reference = Reference::new("order/1").unwrap();
        let decided = Override::new().answers(Answers::Stored).reference(reference);
        answer.extensions_mut().insert(decided);
        answer
    });
    send(idem.clone(), order("k", "{}"), both.clone()).await;
    assert_eq!(send(idem.clone(), order("k", "{}"), both.clone()).await.body, "order 1");
    rig.clock.advance(SECOND * 61).await;
    assert_eq!(send(idem, order("k", "{}"), both).await.body, "order/1 again at /orders, 1");
    assert_eq!(app.runs(), 1);
}

/// A deploy that changes the setting must change no record that is there.
#[tokio::test]
async fn records_made_under_another_setting_replay_as_they_were_made() {
    let rig = rig(|b| b);
    let (app, made) = (App::open(), Arc::default());
    let by = |answers| rig.idem.route(|policy| policy.answers(answers)).unwrap();
    send(by(Answers::Stored), order("stored", "{}"), app.handler()).await;
    send(by(Answers::Reference), order("reference", "{}"), referring(&app)).await;
    send(by(Answers::Tombstone), order("tombstone", "{}"), app.handler()).await;
    for answers in Answers::ALL {
        let idem = remade(&by(answers), &made);
        assert_eq!(send(idem.clone(), order("stored", "{}"), app.handler()).await.body, "order 1");
        let again = send(idem.clone(), order("reference", "{}"), app.handler()).await;
        assert!(again.body.starts_with("order/2 again"), "{answers:?}: {again:?}");
        let none = send(idem, order("tombstone", "{}"), app.handler()).await;
        assert_eq!(none.code(), "replay-unavailable", "{answers:?}");
    }
    assert_eq!(app.runs(), 3);
}

/// A deploy took `on_replay` away.
#[tokio::test]
async fn a_reference_that_nobody_can_read_is_told_as_not_available() {
    let rig = rig(|b| b.answers(Answers::Reference));
    let app = App::open();
    send(rig.idem.clone(), order("k", "{}"), referring(&app)).await;
    let retry = send(rig.idem.clone(), order("k", "{}"), referring(&app)).await;
    assert_eq!((retry.status.as_u16(), retry.code()), (409, "replay-unavailable"));
    assert_eq!(retry.headers["location"], "/orders/7");
    // One route's `on_replay` makes no answers of another.
    let derived = remade(&rig.idem, &Arc::default()).route(|policy| policy).unwrap();
    assert_eq!(send(derived, order("k", "{}"), referring(&app)).await.code(), "replay-unavailable");
}

#[tokio::test]
async fn an_on_replay_that_fails_in_any_way_tells_the_client_to_ask_again_and_changes_nothing() {
    let rig = rig(|b| b.answers(Answers::Reference).capture_limit(100));
    let app = App::open();
    send(rig.idem.clone(), order("k", "{}"), referring(&app)).await;
    let before = rig.view("k").await;
    let body = |text: String| Full::new(Bytes::from(text));
    let failing = [
        ("error", rig.idem.on_replay(async |_, _| Err::<Response<Full<Bytes>>, BoxError>("no".into()))),
        (
            "panic",
            rig.idem.on_replay(async |_, _| -> Result<Response<Full<Bytes>>, BoxError> { panic!("x") }),
        ),
        (
            "busy",
            rig.idem.on_replay(move |_, _| async move {
                Ok::<_, BoxError>(Response::builder().status(503).body(body("busy".into()))?)
            }),
        ),
        (
            "too large",
            rig.idem.on_replay(
                move |_, _| async move { Ok::<_, BoxError>(Response::new(body("x".repeat(101)))) },
            ),
        ),
        (
            "endless",
            rig.idem.on_replay(async |_, _| {
                std::future::pending::<()>().await;
                Ok::<_, BoxError>(Response::new(Full::new(Bytes::new())))
            }),
        ),
    ];
    for (how, idem) in failing {
        let asked = tokio::spawn(send(idem, order("k", "{}"), app.handler()));
        settle().await;
        rig.clock.advance(SECOND * 11).await;
        let got = asked.await.unwrap();
        assert_eq!((got.status.as_u16(), got.code()), (503, "replay-unavailable"), "{how}");
        assert!(got.body.contains("\"retry\":\"same-key\""), "{how}: {}", got.body);
        assert_eq!((got.headers["retry-after"].as_bytes(), got.replayed()), (&b"1"[..], false), "{how}");
    }
    let after = rig.view("k").await.map(|mut view| {
        view.now = before.as_ref().unwrap().now;
        view
    });
    assert_eq!(after, before);
    let mended = remade(&rig.idem, &Arc::default());
    assert_eq!(send(mended, order("k", "{}"), app.handler()).await.status, StatusCode::CREATED);
    assert_eq!(app.runs(), 1);
}

/// A duplicate that waits gets what a retry gets.
#[tokio::test]
async fn waiters_get_the_answer_made_again() {
    for (answers, says) in [(Answers::Reference, "order/1 again"), (Answers::Tombstone, "replay-unavailable")]
    {
        let rig = rig(|b| b.answers(answers).wait(SECOND * 5));
        let app = App::gated();
        let idem = remade(&rig.idem, &Arc::default());
        let handler = match answers {
            Answers::Tombstone => app.handler(),
            _ => referring(&app),
        };
        let first = tokio::spawn(send(idem.clone(), order("k", "{}"), handler.clone()));
        app.called(1).await;
        let waits = tokio::spawn(send(idem, order("k", "{}"), handler));
        settle().await;
        app.gate.add_permits(1);
        assert_eq!(first.await.unwrap().status.as_u16(), 201);
        let got = waits.await.unwrap();
        assert!(got.body.contains(says), "{answers:?}: {}", got.body);
        assert_eq!(app.runs(), 1);
    }
}

/// A worker that lost its lease answers its client as any retry would be.
#[tokio::test]
async fn an_overtaken_worker_gets_the_answer_made_again() {
    let rig = rig(|b| b.answers(Answers::Reference).recovery(Recovery::Takeover));
    let (late, next, made) = (App::gated(), App::open(), Arc::default());
    let idem = remade(&rig.idem, &made);
    let first = tokio::spawn(send(idem.clone(), order("k", "{}"), referring(&late)));
    late.called(1).await;
    rig.faults.always(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 31).await;
    rig.faults.heal();
    let second = send(idem, order("k", "{}"), referring(&next)).await;
    assert_eq!((second.status.as_u16(), second.replayed()), (201, false));
    assert_eq!(rig.state("k").await, Some(State::Completed));
    late.gate.add_permits(1);
    let got = first.await.unwrap();
    assert_eq!((got.body.as_str(), got.replayed()), ("order/1 again at /orders, 1", true));
}

#[test]
fn settings_that_contradict_the_way_to_keep_are_refused_by_both_names() {
    use semel_core::policy::{HeaderRules, Policy};
    let mut cookies = HeaderRules::default();
    cookies.keep_set_cookie = true;
    for answers in [Answers::Reference, Answers::Tombstone] {
        let with_cookies = Policy::builder().answers(answers).header_rules(cookies.clone()).build();
        let without_bodies = Policy::builder().answers(answers).drop_no_store_bodies().build();
        for (refused, other) in [(with_cookies, "keep_set_cookie"), (without_bodies, "drop_no_store_bodies")]
        {
            let text = refused.unwrap_err().to_string();
            assert!(
                text.contains("`answers`") && text.contains(other) && text.contains(answers.as_str()),
                "{text}"
            );
        }
    }
    assert!(Policy::builder().header_rules(cookies).drop_no_store_bodies().build().is_ok());
}

#[test]
fn a_reference_has_a_bound_and_does_not_print() {
    assert!(Reference::new(vec![0; Reference::MAX]).is_ok());
    let error = Reference::new(vec![0; Reference::MAX + 1]).unwrap_err().to_string();
    assert!(error.contains("1024") && error.contains("1025"), "{error}");
    assert_eq!(format!("{:?}", Reference::new("order/7").unwrap()), "Reference(7 bytes)");
}
