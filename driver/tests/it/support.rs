//! A host of a few lines, a handler that counts its effects, and a store that can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use semel_core::engine::{Dispatch, Failure, FailureKind};
use semel_core::record::{RecordView, State};
use semel_core::store::AnyStore;
use semel_driver::{
    Address, Admitted, Body, BoxFuture, Builder, Claimed, Client, Idempotency, TestClock, Ticket, Whole,
};
use semel_testkit::faulty::{Faults, Faulty};
use tokio::sync::Semaphore;

pub(crate) type Payload = UnsyncBoxBody<Bytes, &'static str>;
pub(crate) type Answer = Response<Payload>;
pub(crate) type Ran = Result<Answer, &'static str>;
pub(crate) type Handler = Arc<dyn Fn(Parts, Bytes) -> BoxFuture<'static, Ran> + Send + Sync>;

/// What was built for a test.
pub(crate) struct Rig {
    pub(crate) idem: Idempotency,
    pub(crate) clock: TestClock,
    pub(crate) faults: Faults,
}

pub(crate) fn rig(set: impl FnOnce(Builder) -> Builder) -> Rig {
    let mut faults = None;
    let tested = Idempotency::test_with(|memory| {
        let (store, script) = Faulty::new(memory);
        faults = Some(script);
        AnyStore::new(store)
    });
    let idem = set(tested.builder.sweep_every(Duration::ZERO)).build().unwrap();
    Rig { idem, clock: tested.clock, faults: faults.unwrap() }
}

impl Rig {
    pub(crate) async fn view(&self, key: &str) -> Option<RecordView> {
        self.idem.inspect(&Address::key(key)).await.unwrap()
    }

    pub(crate) async fn state(&self, key: &str) -> Option<State> {
        self.view(key).await.map(|view| view.state)
    }

    /// Sends a request and moves the clock until its answer is there, for a minute of the clock at most.
    pub(crate) async fn patient(&self, request: Request<Full<Bytes>>, handler: &Handler) -> Got {
        let mut sent = tokio::spawn(send(self.idem.clone(), request, handler.clone()));
        for _ in 0..600 {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if sent.is_finished() {
                break;
            }
            self.clock.advance(Duration::from_millis(100)).await;
        }
        assert!(sent.is_finished(), "no answer in a minute");
        (&mut sent).await.unwrap()
    }
}

/// Lets every task that was woken run.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn order(key: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post("/orders")
        .header("host", "shop.test")
        .header("idempotency-key", format!("\"{key}\""))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// An answer as its client saw it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
    /// The body broke off.
    pub(crate) cut: bool,
    pub(crate) panicked: bool,
}

impl Got {
    pub(crate) fn replayed(&self) -> bool {
        self.headers.contains_key("idempotency-replayed")
    }

    /// The problem's code; empty if it is none.
    pub(crate) fn code(&self) -> &str {
        let problem = self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let code = problem.then(|| self.body.split("\"code\":\"").nth(1)?.split('"').next()).flatten();
        code.unwrap_or_default()
    }
}

/// A handler that counts, waits at its gate if it has one, and answers with its number.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) ran: Arc<AtomicUsize>,
    pub(crate) gate: Arc<Semaphore>,
}

impl App {
    pub(crate) fn open() -> Self {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    pub(crate) fn gated() -> Self {
        Self::with_permits(0)
    }

    fn with_permits(permits: usize) -> Self {
        Self { ran: Arc::default(), gate: Arc::new(Semaphore::new(permits)) }
    }

    pub(crate) fn runs(&self) -> usize {
        self.ran.load(Ordering::SeqCst)
    }

    /// Waits until it has been called so often.
    pub(crate) async fn called(&self, times: usize) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.runs() < times {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the handler was called");
    }

    pub(crate) fn handler(&self) -> Handler {
        self.answering(|n, _| text(201, format!("order {n}")))
    }

    pub(crate) fn answering(
        &self,
        answer: impl Fn(usize, Parts) -> Answer + Send + Sync + 'static,
    ) -> Handler {
        let (app, answer) = (self.clone(), Arc::new(answer));
        Arc::new(move |parts, _| {
            let (app, answer) = (app.clone(), answer.clone());
            Box::pin(async move {
                let n = app.ran.fetch_add(1, Ordering::SeqCst) + 1;
                app.gate.acquire().await.unwrap().forget();
                Ok(answer(n, parts))
            })
        })
    }
}

pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Answer {
    payload(status, Full::new(body.into()).map_err(|never| match never {}))
}

pub(crate) fn payload(
    status: u16,
    body: impl HttpBody<Data = Bytes, Error = &'static str> + Send + 'static,
) -> Answer {
    Response::builder().status(status).body(body.boxed_unsync()).unwrap()
}

/// Serves one request and reads the whole answer.
pub(crate) async fn send<B>(idem: Idempotency, request: Request<B>, handler: Handler) -> Got
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
{
    let Some(response) = serve(idem, request, handler).await else {
        return Got {
            status: StatusCode::IM_A_TEAPOT,
            headers: HeaderMap::new(),
            body: String::new(),
            trailers: None,
            cut: false,
            panicked: true,
        };
    };
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut trailers, mut cut) = (Vec::new(), None, false);
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => cut = true,
        }
        if cut {
            break;
        }
    }
    let body = String::from_utf8(bytes).unwrap();
    Got { status: parts.status, headers: parts.headers, body, trailers, cut, panicked: false }
}

/// `None`: the handler panicked.
pub(crate) async fn serve<B>(
    idem: Idempotency,
    request: Request<B>,
    handler: Handler,
) -> Option<Response<Body<Payload>>>
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
{
    let (mut parts, body) = request.into_parts();
    let guarded = match idem.admit(&mut parts) {
        Admitted::Guarded(guarded) => guarded,
        Admitted::Answer(answer) => return Some(answer.map(Body::whole)),
        Admitted::Bypass => return Some(handler(parts, Bytes::new()).await.unwrap().map(Body::passed)),
    };
    let (ticket, whole) = match guarded.claim(&parts, body).await {
        Claimed::Run(ticket, whole) => (ticket, whole),
        Claimed::Answer(answer) => return Some(answer.map(Body::whole)),
        Claimed::Unguarded(whole) => {
            return Some(handler(parts, whole.bytes).await.unwrap().map(Body::passed));
        }
    };
    let (client, awaited) = Client::line();
    tokio::spawn(run(ticket, parts, whole, handler, client));
    match awaited.await {
        Some(answer) => answer,
        None => Some(idem.torn_down().map(Body::whole)),
    }
}

async fn run(
    mut ticket: Box<Ticket>,
    mut parts: Parts,
    whole: Whole,
    handler: Handler,
    mut client: Client<Option<Response<Body<Payload>>>>,
) {
    ticket.dispatch(&mut parts);
    let call = async { handler(parts, whole.bytes).await };
    let outcome = ticket.supervise(call, &mut client, |answer| Some(answer.map(Body::whole))).await;
    let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
    client.answer(match outcome {
        Ok(Ok(response)) => Some(ticket.respond(response).await),
        Ok(Err(_)) => Some(ticket.fail(failure).await.map(Body::whole)),
        Err(_) => {
            drop(ticket.fail(failure).await);
            None
        }
    });
}
