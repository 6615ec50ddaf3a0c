//! The life of a guarded request over any store, with a failure between every two of its steps: never a second effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use semel_conformance::Fixture;
use semel_conformance::faulty::{Fault, Faults, Faulty, Step};
use semel_core::engine::{Dispatch, Failure, FailureKind};
use semel_core::store::AnyStore;
use semel_driver::{Admitted, Body, Claimed, Client, Idempotency, Runtime as _, TestClock};

/// Writes a `#[test]` over a fixture of the laws: `semel_testkit::failpoints!(open = MyFixture);`
#[macro_export]
macro_rules! failpoints {
    (open = $fixture:ty) => {
        #[test]
        fn one_failure_at_any_step_over_this_store_never_makes_a_second_effect() {
            semel_conformance::run::<$fixture, _>($crate::failpoints::sweep);
        }
    };
}

/// What a handler does after it took effect, or before it.
#[derive(Clone, Copy, Debug)]
enum App {
    /// Takes effect and says so, after a while: long enough for its lease to be renewed.
    Succeeds,
    /// Says at first that nothing was done, and then succeeds.
    SaysLater,
    /// Takes effect and breaks off.
    BreaksOff,
}

/// Each fault at each step, once and until somebody gives up, each with a key of its own.
///
/// # Panics
///
/// Where there was a second effect, or a retry is not answered as it has to be.
pub async fn sweep<F: Fixture>(fixture: F) {
    let lives: [(App, &[Step]); 3] = [
        (App::Succeeds, &[Step::Begin, Step::Renew, Step::Complete, Step::Read]),
        (App::SaysLater, &[Step::Begin, Step::Release]),
        (App::BreaksOff, &[Step::Begin, Step::Abandon]),
    ];
    let mut cases = tokio::task::JoinSet::new();
    for (app, steps) in lives {
        for step in steps {
            for fault in Fault::ALL {
                for times in [1, 50] {
                    let (store, faults) = Faulty::over(fixture.store());
                    for _ in 0..times {
                        faults.next(*step, fault);
                    }
                    let name = format!("{app:?}-{step:?}-{fault:?}-{times}");
                    cases.spawn(Case::new(name, app, AnyStore::new(store), faults).judge());
                    // As many as a server has connections for.
                    if cases.len() >= 16 {
                        ended(cases.join_next().await);
                    }
                }
            }
        }
    }
    while let Some(case) = cases.join_next().await {
        ended(Some(case));
    }
}

fn ended(case: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = case {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[derive(Clone)]
struct Case {
    name: String,
    app: App,
    idem: Idempotency,
    clock: TestClock,
    faults: Faults,
    runs: Arc<AtomicUsize>,
    effects: Arc<AtomicUsize>,
}

impl Case {
    fn new(name: String, app: App, store: AnyStore, faults: Faults) -> Self {
        let tested = Idempotency::test_with(|_| store);
        // The records live by the fixture's clock, which stands still: only timers run here.
        #[expect(clippy::expect_used, reason = "settings that are written above")]
        let idem = tested.builder.sweep_every(Duration::ZERO).build().expect("settings");
        let (runs, effects) = Default::default();
        Self { name, app, idem, clock: tested.clock, faults, runs, effects }
    }

    async fn judge(self) {
        let name = self.name.clone();
        let (status, body) = self.patient().await;
        assert!(status != 201 || body == "order 1", "{name}: {status} {body}");
        self.faults.heal();
        // What is still to be settled is offered to the store again and again.
        for _ in 0..90 {
            self.pass(Duration::from_secs(1)).await;
        }
        let effects = |case: &Self| case.effects.load(Ordering::SeqCst);
        if matches!(self.app, App::BreaksOff) && effects(&self) > 0 {
            for _ in 0..2 {
                let (status, body) = self.patient().await;
                assert!(status >= 400, "{name}: an unknown outcome was told as {status} {body}");
            }
            assert_eq!(effects(&self), 1, "{name}: a second effect");
            return;
        }
        let mut last = (0, String::new());
        for _ in 0..10 {
            last = self.patient().await;
            if last.0 == 201 {
                break;
            }
        }
        if matches!(self.app, App::BreaksOff) {
            assert_eq!(effects(&self), 1, "{name}: {last:?}");
            return;
        }
        assert_eq!((last.0, last.1.as_str(), effects(&self)), (201, "order 1", 1), "{name}");
        let replayed = self.patient().await;
        assert_eq!((replayed.1.as_str(), effects(&self)), ("order 1", 1), "{name}");
    }

    /// Sends the request and moves the timers until its answer is there.
    async fn patient(&self) -> (u16, String) {
        let sent = tokio::spawn(self.clone().send());
        for _ in 0..1200 {
            if sent.is_finished() {
                return sent.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            }
            self.pass(Duration::from_millis(50)).await;
        }
        sent.abort();
        panic!("{}: no answer in a minute", self.name);
    }

    /// The store is a real one, which takes real time: timers wait for it, or each of its answers would come too late.
    async fn pass(&self, by: Duration) {
        while self.faults.below() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.clock.advance(by).await;
    }

    async fn send(self) -> (u16, String) {
        let request = Request::post("/orders")
            .header("host", "shop.test")
            .header("idempotency-key", format!("\"{}\"", self.name))
            .body(Full::new(Bytes::from_static(b"{}")));
        let Ok(request) = request else { return (0, "no request".to_owned()) };
        let response = self.serve(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        (status, body.map_or_else(|_| "cut".to_owned(), |body| String::from_utf8_lossy(&body).into_owned()))
    }

    async fn serve(self, request: Request<Full<Bytes>>) -> Response<Body<Full<Bytes>>> {
        let (mut parts, body) = request.into_parts();
        let guarded = match self.idem.admit(&mut parts) {
            Admitted::Guarded(guarded) => guarded,
            Admitted::Answer(answer) => return answer.map(Body::whole),
            Admitted::Bypass => return self.handle().await.unwrap_or_default().map(Body::passed),
        };
        let mut ticket = match guarded.claim(&parts, body).await {
            Claimed::Run(ticket, _) => ticket,
            Claimed::Answer(answer) => return answer.map(Body::whole),
            Claimed::Unguarded(_) => return self.handle().await.unwrap_or_default().map(Body::passed),
        };
        let (mut client, answered) = Client::line();
        let case = self.clone();
        tokio::spawn(async move {
            ticket.dispatch(&mut parts);
            let run = ticket.supervise(case.handle(), &mut client, |answer| answer.map(Body::whole)).await;
            let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
            client.answer(match run {
                Ok(Ok(response)) => ticket.respond(response).await,
                Ok(Err(())) | Err(_) => ticket.fail(failure).await.map(Body::whole),
            });
        });
        match answered.await {
            Some(answer) => answer,
            None => self.idem.torn_down().map(Body::whole),
        }
    }

    /// The application: its effects are what is counted.
    async fn handle(&self) -> Result<Response<Full<Bytes>>, ()> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        if matches!(self.app, App::Succeeds) {
            self.clock.sleep(Duration::from_secs(12)).await;
        }
        if matches!(self.app, App::SaysLater) && run == 1 {
            return Ok(answer(503, "later".to_owned()));
        }
        let effect = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        if matches!(self.app, App::BreaksOff) {
            return Err(());
        }
        Ok(answer(201, format!("order {effect}")))
    }
}

fn answer(status: u16, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
