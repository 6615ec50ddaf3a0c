//! The application of the demo: an order service that knows nothing of Semel. It makes an order as soon as it is
//! asked, then takes as long to answer as the request says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::exit::{Exit, Fault};

const LARGEST: usize = 64 * 1024;
/// How long the script waits for an order.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_mins(5);

/// A running order service.
pub(super) struct Shop {
    pub(super) address: SocketAddr,
    counter: Arc<Counter>,
}

struct Counter {
    orders: watch::Sender<Vec<Order>>,
    /// Orders up to this number are answered at once.
    finished: watch::Sender<usize>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Order {
    pub(super) order: usize,
    pub(super) item: String,
}

#[derive(Debug, Deserialize)]
struct Wish {
    item: String,
    /// How long the answer takes, once the order is made.
    #[serde(default)]
    seconds: f32,
}

impl Shop {
    /// Starts one on a free port.
    pub(super) async fn open() -> Result<Self, Fault> {
        let fault = |error| Fault::system("cannot start the order service", &error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let counter = Counter { orders: watch::Sender::new(Vec::new()), finished: watch::Sender::new(0) };
        let counter = Arc::new(counter);
        tokio::spawn(accept(listener, Arc::clone(&counter)));
        Ok(Self { address, counter })
    }

    /// The orders that were made, counted where they are made.
    pub(super) fn orders(&self) -> Vec<Order> {
        self.counter.orders.borrow().clone()
    }

    /// Waits until so many orders were made.
    pub(super) async fn made(&self, count: usize) -> Result<(), Fault> {
        let mut orders = self.counter.orders.subscribe();
        let made = timeout(PATIENCE, orders.wait_for(|orders| orders.len() >= count)).await;
        match made {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Fault::new(Exit::Negative, format!("order {count} was not made within {PATIENCE:?}"))),
        }
    }

    /// Lets the service answer for all orders up to this one, however long they were to take.
    pub(super) fn finish(&self, order: usize) {
        self.counter.finished.send_replace(order);
    }
}

async fn accept(listener: TcpListener, counter: Arc<Counter>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let counter = Arc::clone(&counter);
        tokio::spawn(async move {
            let service =
                service_fn(|request| async { Ok::<_, Infallible>(answer(request, &counter).await) });
            // A client that breaks off is what the demo is about.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, counter: &Counter) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/orders") => make(request, counter).await,
        (&Method::GET, "/orders") => json(StatusCode::OK, &*counter.orders.borrow()),
        (_, "/orders") => {
            let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &"use GET or POST");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            response
        }
        (&Method::GET, path) => match path.strip_prefix("/orders/").and_then(|number| number.parse().ok()) {
            Some(number) => one(number, &counter.orders.borrow()),
            None => json(StatusCode::NOT_FOUND, &"there are only /orders and /orders/N"),
        },
        _ => json(StatusCode::NOT_FOUND, &"there are only /orders and /orders/N"),
    }
}

fn one(number: usize, orders: &[Order]) -> Response<Full<Bytes>> {
    match orders.iter().find(|order| order.order == number) {
        Some(order) => json(StatusCode::OK, order),
        None => json(StatusCode::NOT_FOUND, &"there is no such order"),
    }
}

async fn make(request: Request<Incoming>, counter: &Counter) -> Response<Full<Bytes>> {
    let Ok(body) = Limited::new(request.into_body(), LARGEST).collect().await else {
        return json(StatusCode::BAD_REQUEST, &"the body is incomplete or too large");
    };
    let Ok(wish) = serde_json::from_slice::<Wish>(&body.to_bytes()) else {
        return json(StatusCode::BAD_REQUEST, &r#"send JSON such as {"item":"book"}"#);
    };
    let mut made = Order { order: 0, item: wish.item };
    counter.orders.send_modify(|orders| {
        made.order = orders.len() + 1;
        orders.push(made.clone());
    });
    let pause = Duration::try_from_secs_f32(wish.seconds).unwrap_or_default().min(LONGEST);
    if !pause.is_zero() {
        let mut finished = counter.finished.subscribe();
        // Over when the time is, or before.
        let _ = timeout(pause, finished.wait_for(|number| *number >= made.order)).await;
    }
    let mut response = json(StatusCode::CREATED, &made);
    if let Ok(location) = HeaderValue::from_str(&format!("/orders/{}", made.order)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn json<T: Serialize + ?Sized>(status: StatusCode, document: &T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
