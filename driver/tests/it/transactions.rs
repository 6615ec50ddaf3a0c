//! Transactions in memory, with faults between every two steps: however they end, each key has one effect.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use semel_core::engine::Override;
use semel_core::policy::Answers;
use semel_core::record::{Completion, RecordId, Reference, Retention, State};
use semel_core::store::{
    AnyStore, Committed, LeaseRef, Opened, Pending, RolledBack, Settled, Transactions, Undertaking, Writes,
};
use semel_driver::{BoxError, Builder, Idempotency};
use semel_testkit::faulty::{Fault, Step};

use crate::support::{App, Got, Handler, Rig, order, rig, send, text};

/// How a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Applied,
    /// The connection is gone before the commit was asked for.
    Never,
    Conflict,
    Rejected,
    /// Committed, and nobody says so.
    UnheardDone,
    /// Not committed, and nobody says so.
    UnheardLost,
    /// Nobody says anything for ever.
    Hangs,
    /// The commit arrives after everything else has happened.
    Late,
}

impl End {
    const ALL: [Self; 8] = [
        Self::Applied,
        Self::Never,
        Self::Conflict,
        Self::Rejected,
        Self::UnheardDone,
        Self::UnheardLost,
        Self::Hangs,
        Self::Late,
    ];
}

#[derive(Default)]
struct Database {
    store: OnceLock<AnyStore>,
    /// What was committed.
    effects: Mutex<Vec<String>>,
    ends: Mutex<VecDeque<End>>,
    late: Mutex<Vec<Asked>>,
}

/// A commit under way.
struct Asked {
    lease: LeaseRef,
    completion: Arc<Completion>,
    keep: Retention,
    writes: Vec<String>,
}

impl Database {
    /// Record and writes in one step, or neither: what a database does at a commit.
    async fn commit(&self, asked: Asked) -> Committed {
        let store = self.store.get().unwrap();
        match store.complete(asked.lease, &asked.completion, &asked.keep).await.unwrap() {
            Settled::Applied => {
                self.effects.lock().unwrap().extend(asked.writes);
                Committed::Applied
            }
            Settled::Superseded(_) | Settled::Absent => Committed::Lost,
        }
    }

    fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }

    async fn deliver(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for asked in late {
            let _too_late = self.commit(asked).await;
        }
    }
}

/// What a handler finds among the extensions; `None` before it writes.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Vec<String>>>>);

impl Slot {
    fn write(&self, what: &str) {
        self.0.lock().unwrap().get_or_insert_default().push(what.to_owned());
    }
}

#[derive(Clone)]
struct Fake(Arc<Database>, RecordId);

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Transactions for Fake {
    fn origin(&self) -> &RecordId {
        &self.1
    }

    fn tolerates_renewals(&self) -> bool {
        true
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = Slot(Arc::default());
        extensions.insert(slot.clone());
        Box::new(Run { database: Arc::clone(&self.0), lease, slot })
    }
}

struct Run {
    database: Arc<Database>,
    lease: LeaseRef,
    slot: Slot,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Run")
    }
}

impl Undertaking for Run {
    fn opened(&mut self) -> Opened {
        if self.slot.0.lock().unwrap().is_some() { Opened::Back } else { Opened::Never }
    }

    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed> {
        Box::pin(async move {
            let written = self.slot.0.lock().unwrap().take().unwrap_or_default();
            let writes = if writes == Writes::Commit { written } else { Vec::new() };
            let asked = Asked { lease: self.lease, completion: Arc::clone(completion), keep: *keep, writes };
            let end = self.database.ends.lock().unwrap().pop_front().unwrap_or(End::Applied);
            match end {
                End::Applied => self.database.commit(asked).await,
                End::Never => Committed::Never,
                End::Conflict => Committed::Conflict,
                End::Rejected => Committed::Rejected,
                End::UnheardDone => {
                    let _unheard = self.database.commit(asked).await;
                    Committed::Unheard
                }
                End::UnheardLost => Committed::Unheard,
                End::Hangs => std::future::pending().await,
                End::Late => {
                    self.database.late.lock().unwrap().push(asked);
                    Committed::Unheard
                }
            }
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        self.slot.0.lock().unwrap().take();
        Box::pin(std::future::ready(RolledBack::Undone))
    }
}

fn bank() -> (Rig, Arc<Database>) {
    bank_with(|builder| builder)
}

fn bank_with(rules: impl FnOnce(Builder) -> Builder) -> (Rig, Arc<Database>) {
    let database = Arc::<Database>::default();
    let fake = Fake(Arc::clone(&database), RecordId::from_bytes([1; 32]));
    let rig = rig(|builder| rules(builder.transactional(fake)));
    assert!(database.store.set(rig.idem.store().clone()).is_ok());
    (rig, database)
}

/// A handler that runs without a claim finds no transaction: a route that says fail-open would answer 500 whenever it could
/// help.
#[tokio::test]
async fn a_transactional_route_that_fails_open_is_refused_by_both_names() {
    let fake = || Fake(Arc::default(), RecordId::from_bytes([1; 32]));
    let tested = Idempotency::test();
    let said = tested.builder.transactional(fake()).fail_open().build().map(drop).unwrap_err().to_string();
    assert!(said.contains("`fail_open`") && said.contains("`transactional`"), "{said}");
    let (rig, _) = bank();
    let said =
        rig.idem.route(semel_core::policy::PolicyBuilder::fail_open).map(drop).unwrap_err().to_string();
    assert!(said.contains("`fail_open`") && said.contains("`transactional`"), "{said}");
    assert!(rig.idem.route(|policy| policy.reruns(1)).is_ok());
    let said = rig
        .idem
        .transactional(fake(), semel_core::policy::PolicyBuilder::fail_open)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(said.contains("`fail_open`"), "{said}");
}

fn pay() -> Request<Full<Bytes>> {
    order("k", "{}")
}

fn paying(app: &App) -> Handler {
    app.answering(|n, parts| {
        parts.extensions.get::<Slot>().unwrap().write("paid");
        text(201, format!("paid by run {n}"))
    })
}

/// Sends it until it is told a success, as a client does.
async fn until_paid(rig: &Rig, handler: &Handler) -> Got {
    for _ in 0..12 {
        let got = rig.patient(pay(), handler).await;
        if got.status == 201 {
            return got;
        }
        assert!(matches!(got.status.as_u16(), 409 | 500 | 503), "{got:?}");
        rig.clock.advance(Duration::from_secs(31)).await;
    }
    panic!("never paid");
}

/// Each end of a commit, with each fault of the release that settles it.
#[tokio::test]
async fn however_a_commit_ends_there_is_one_effect_and_one_answer() {
    let releases = [None].into_iter().chain(Fault::ALL.map(Some));
    for (end, release) in releases.flat_map(|release| End::ALL.map(|end| (end, release))) {
        let (rig, database) = bank();
        let app = App::open();
        let handler = paying(&app);
        database.ends.lock().unwrap().push_back(end);
        if let Some(fault) = release {
            rig.faults.next(Step::Release, fault);
        }
        let paid = until_paid(&rig, &handler).await;
        assert_eq!(database.effects(), ["paid"], "{end:?} {release:?}");
        // Whatever was under way arrives by now.
        rig.faults.deliver().await;
        database.deliver().await;
        rig.clock.advance(Duration::from_mins(2)).await;
        let again = rig.patient(pay(), &handler).await;
        assert!(again.replayed(), "{end:?} {release:?}: {again:?}");
        assert_eq!(again.body, paid.body, "{end:?} {release:?}");
        assert_eq!(database.effects(), ["paid"], "{end:?} {release:?}");
    }
}

/// The store is down for the whole time in which the release is tried: nobody guesses, and it is settled later.
#[tokio::test]
async fn a_doubt_that_nobody_can_settle_is_told_as_one_and_settled_when_the_store_is_back() {
    for (end, effects) in [(End::UnheardDone, 1), (End::UnheardLost, 0)] {
        let (rig, database) = bank();
        let app = App::open();
        database.ends.lock().unwrap().push_back(end);
        rig.faults.always(Step::Release, Fault::Refused);
        let got = rig.patient(pay(), &paying(&app)).await;
        assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"), "{end:?}");
        rig.faults.heal();
        rig.clock.advance(Duration::from_secs(5)).await;
        let expected = if effects == 1 { State::Completed } else { State::Released };
        assert_eq!(rig.state("k").await, Some(expected), "{end:?}");
        assert_eq!(database.effects().len(), effects);
        assert_eq!(until_paid(&rig, &paying(&app)).await.status, 201);
        assert_eq!(database.effects(), ["paid"], "{end:?}");
    }
}

/// Rolled back, and only then released.
#[tokio::test]
async fn what_was_not_done_leaves_nothing_and_runs_again() {
    let (rig, database) = bank();
    let app = App::open();
    let handler = app.answering(|n, parts| {
        parts.extensions.get::<Slot>().unwrap().write("paid");
        text(if n == 1 { 500 } else { 201 }, "answer")
    });
    assert_eq!(rig.patient(pay(), &handler).await.status, 500);
    assert_eq!((rig.state("k").await, database.effects().len()), (Some(State::Released), 0));
    assert_eq!(rig.patient(pay(), &handler).await.status, 201);
    assert_eq!(database.effects(), ["paid"]);
    // A declined one is an answer.
    let declined = app.answering(|_, parts| {
        parts.extensions.get::<Slot>().unwrap().write("declined");
        text(402, "declined")
    });
    let other = || order("other", "{}");
    assert_eq!(rig.patient(other(), &declined).await.status, 402);
    assert!(rig.patient(other(), &declined).await.replayed());
    assert_eq!(database.effects(), ["paid"]);
}

/// What is kept of these is small, whatever the body is.
#[tokio::test]
async fn an_answer_of_which_only_the_fact_is_kept_may_have_a_body_of_any_size() {
    for answers in Answers::ALL {
        let (rig, database) = bank_with(|builder| builder.answers(answers).capture_limit(20));
        let app = App::open();
        let handler = app.answering(move |_, parts| {
            parts.extensions.get::<Slot>().unwrap().write("paid");
            let mut answer = text(201, "larger than what is read of it");
            answer.headers_mut().insert("location", "/payments/1".parse().unwrap());
            if answers == Answers::Reference {
                let reference = Reference::new("payment/1").unwrap();
                answer.extensions_mut().insert(Override::new().reference(reference));
            }
            answer
        });
        let idem = rig.idem.on_replay(async |reference: Bytes, _| {
            let again = format!("{} again", str::from_utf8(&reference)?);
            Ok::<_, BoxError>(Response::builder().status(201).body(Full::new(Bytes::from(again)))?)
        });
        let first = send(idem.clone(), pay(), handler.clone()).await;
        if answers == Answers::Stored {
            assert_eq!((first.status.as_u16(), first.code()), (500, "rolled-back"));
            assert!(database.effects().is_empty());
            continue;
        }
        assert_eq!((first.status.as_u16(), first.body.as_str()), (201, "larger than what is read of it"));
        assert_eq!((rig.state("k").await, database.effects()), (Some(State::Completed), vec!["paid".into()]));
        let retry = send(idem, pay(), handler).await;
        if answers == Answers::Reference {
            assert!(retry.replayed());
            assert_eq!((retry.status.as_u16(), retry.body.as_str()), (201, "payment/1 again"));
        } else {
            assert_eq!((retry.status.as_u16(), retry.code()), (409, "replay-unavailable"));
            assert_eq!(retry.headers["location"], "/payments/1");
        }
        assert_eq!(database.effects(), ["paid"], "{answers:?}");
    }
}
