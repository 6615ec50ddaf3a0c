//! Who is measured: one handler on a bare tower service, in an axum router, and behind hyper; each without the
//! layer, with it, and in what the layer does with it.

use std::convert::Infallible;
use std::future::{Ready, ready};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use semel_store_memory::MemoryStore;
use semel_tower::{Idempotency, IdempotencyLayer, IdempotencyService};
use serde::{Deserialize, Serialize};
use tower::util::{MapRequest, MapRequestLayer, ServiceFn};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::served::Served;
use crate::Failure;

/// 200 bytes.
pub(crate) const ORDER: &str = concat!(
    r#"{"customer":"cus_8e03978e40d543e8","currency":"EUR","amount":129900,"items":[{"sku":"A-1042","count":2},"#,
    r#"{"sku":"B-77","count":1}],"ship_to":"12 Example Street, 10115 Sampletown","gift":false}"#
);

#[derive(Deserialize)]
struct Order {
    customer: String,
    currency: String,
    amount: u64,
    items: Vec<Item>,
    ship_to: String,
    gift: bool,
}

#[derive(Deserialize, Serialize)]
struct Item {
    sku: String,
    count: u32,
}

#[derive(Serialize)]
struct Made {
    id: &'static str,
    status: &'static str,
    customer: String,
    currency: String,
    amount: u64,
    items: Vec<Item>,
    ship_to: String,
    gift: bool,
    created: &'static str,
    note: &'static str,
}

fn make(order: Order) -> Made {
    let Order { customer, currency, amount, items, ship_to, gift } = order;
    let (id, status, created) = ("ord_40d543e88e03978e", "accepted", "2026-01-05T10:00:00Z");
    let note = "made just to order";
    Made { id, status, customer, currency, amount, items, ship_to, gift, created, note }
}

type Plain = Request<Full<Bytes>>;
type Answered = Ready<Result<Response<Full<Bytes>>, Infallible>>;
type Handler = ServiceFn<fn(Plain) -> Answered>;

enum Kind {
    Tower(Handler),
    Nothing(MapRequest<Handler, fn(Plain) -> Plain>),
    Guarded(IdempotencyService<Handler>),
    Axum(Router),
    Served(Served),
}

/// One that is measured.
pub(crate) struct Subject {
    kind: Kind,
    requests: Requests,
}

/// Requests that are made before the clock starts.
pub(crate) enum Load {
    Plain(Vec<Plain>),
    Axum(Vec<Request<Body>>),
    Wire(Vec<Vec<u8>>),
}

impl Subject {
    pub(crate) fn new(name: &str) -> Result<Self, Failure> {
        let (host, what) = name.split_once('-').ok_or("no such subject")?;
        let requests = match what {
            "get" | "nothing-get" | "unguarded" => Requests::Get,
            "replay" => Requests::Again,
            _ => Requests::Fresh(0),
        };
        let layer = match what {
            "fresh" | "replay" | "unguarded" => {
                let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
                Some(IdempotencyLayer::new(idempotency))
            }
            _ => None,
        };
        let nothing = what.starts_with("nothing");
        let handler: Handler = service_fn(answer);
        let kind = match (host, layer) {
            ("tower", Some(layer)) => Kind::Guarded(layer.layer(handler)),
            ("tower", None) if nothing => Kind::Nothing(MapRequest::new(handler, |it| it)),
            ("tower", None) => Kind::Tower(handler),
            ("axum", layer) => Kind::Axum(router(layer, nothing)),
            ("served", layer) => Kind::Served(Served::start(router(layer, nothing))?),
            _ => return Err("no such subject".into()),
        };
        Ok(Self { kind, requests })
    }

    /// Sends what a replay needs to find.
    pub(crate) async fn prepare(&mut self) -> Result<(), Failure> {
        let load = self.load(1);
        self.send(load).await
    }

    pub(crate) fn load(&mut self, count: usize) -> Load {
        match &self.kind {
            Kind::Tower(_) | Kind::Nothing(_) | Kind::Guarded(_) => {
                Load::Plain((0..count).map(|_| self.requests.next().map(Full::new)).collect())
            }
            Kind::Axum(_) => Load::Axum((0..count).map(|_| self.requests.next().map(Body::from)).collect()),
            Kind::Served(_) => Load::Wire((0..count).map(|_| wire(&self.requests.next())).collect()),
        }
    }

    /// Sends each after the answer to the one before it, and reads the answers.
    pub(crate) async fn send(&mut self, load: Load) -> Result<(), Failure> {
        match (&mut self.kind, load) {
            (Kind::Tower(service), Load::Plain(requests)) => ask(service, requests).await?,
            (Kind::Nothing(service), Load::Plain(requests)) => ask(service, requests).await?,
            (Kind::Guarded(service), Load::Plain(requests)) => ask(service, requests).await?,
            (Kind::Axum(router), Load::Axum(requests)) => {
                for request in requests {
                    let answer = router.clone().oneshot(request).await?;
                    check(answer.status(), answer.into_body().collect().await?.to_bytes().len())?;
                }
            }
            (Kind::Served(served), Load::Wire(requests)) => {
                for request in requests {
                    let (status, length) = served.ask(&request).await?;
                    check(status, length)?;
                }
            }
            _ => return Err("a load of another subject".into()),
        }
        Ok(())
    }
}

/// A subject that answers with an error would be measured as a fast one.
fn check(status: StatusCode, length: usize) -> Result<(), Failure> {
    if status == StatusCode::CREATED && length == 300 {
        return Ok(());
    }
    Err(format!("an answer of status {status} with {length} bytes").into())
}

fn answer(request: Plain) -> Answered {
    drop(request);
    let answer = Response::builder().status(StatusCode::CREATED).header("content-type", "application/json");
    ready(Ok(answer.body(Full::new(Bytes::from_static(&[b'x'; 300]))).unwrap_or_default()))
}

async fn ask<S, R>(service: &mut S, requests: Vec<Plain>) -> Result<(), Failure>
where
    S: Service<Plain, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Error: std::error::Error + Send + Sync + 'static>,
{
    for request in requests {
        let answer = service.ready().await?.call(request).await?;
        check(answer.status(), answer.into_body().collect().await?.to_bytes().len())?;
    }
    Ok(())
}

fn router(layer: Option<IdempotencyLayer>, nothing: bool) -> Router {
    let create = async |axum::Json(order): axum::Json<Order>| (StatusCode::CREATED, axum::Json(make(order)));
    let show = async || (StatusCode::CREATED, Bytes::from_static(&[b'x'; 300]));
    let router = Router::new().route("/orders", post(create).get(show));
    match layer {
        Some(layer) => router.layer(layer),
        None if nothing => router.layer(MapRequestLayer::new(|request| request)),
        None => router,
    }
}

/// What a client sends.
enum Requests {
    Get,
    Fresh(u64),
    Again,
}

impl Requests {
    fn next(&mut self) -> Request<Bytes> {
        let (method, key) = match self {
            Self::Get => (Method::GET, None),
            Self::Again => (Method::POST, Some(0)),
            Self::Fresh(last) => {
                *last += 1;
                (Method::POST, Some(*last))
            }
        };
        let mut request = Request::builder()
            .method(method)
            .uri("/orders")
            .header("host", "shop.test")
            .header("user-agent", "example/1.0")
            .header("accept", "application/json")
            .header("authorization", "Bearer 4f6c2d7a9b1e4c0d8a35e7f1c2b3a495");
        let mut body = Bytes::new();
        if let Some(key) = key {
            request = request
                .header("content-type", "application/json")
                .header("content-length", ORDER.len())
                .header("idempotency-key", format!("\"8e03978e-40d5-43e8-bc93-{key:012x}\""));
            body = Bytes::from_static(ORDER.as_bytes());
        }
        // Every part is a constant that parses.
        request.body(body).unwrap_or_default()
    }
}

fn wire(request: &Request<Bytes>) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(request.body());
    bytes
}
