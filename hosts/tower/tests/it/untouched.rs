//! What is not guarded passes through as if the layer were not there.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use semel_tower::{Body, IdempotencyLayer};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::support::{bounded, memory};

/// A layer that buffers what it does not guard breaks uploads, event streams and long polls.
#[tokio::test]
async fn the_first_chunk_comes_out_before_the_last_has_gone_in() {
    let echo = service_fn(|request: Request<Body<Channel<Bytes>>>| async move {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let service = IdempotencyLayer::new(memory()).layer(echo);
    for request in [Request::put("/upload").header("idempotency-key", "\"k\""), Request::post("/no-key")] {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let request = request.body(Body::passed(body)).unwrap();
        let response = bounded(service.clone().oneshot(request)).await.unwrap();
        let mut body = response.into_body();
        for chunk in ["first", "second"] {
            sender.send_data(Bytes::from(chunk)).await.unwrap();
            let frame = bounded(body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), chunk);
        }
        assert!(!body.is_end_stream());
        drop(sender);
        assert!(bounded(body.frame()).await.is_none());
    }
}

/// Answers at once, from what it has.
#[derive(Clone)]
struct Plain;

impl Service<Request<Full<Bytes>>> for Plain {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

/// The allocations of one call, from the request that is there to the last byte of the answer.
fn allocations<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = 0;
    let counted = allocation_counter::measure(|| {
        assert!(service.poll_ready(&mut cx).is_ready());
        let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) else {
            unreachable!("it is ready at once")
        };
        let mut body = pin!(response.into_body());
        while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    });
    assert_eq!(read, 200, "the body came through");
    counted.count_total
}

/// What is not guarded is most of the traffic.
#[tokio::test]
async fn an_unguarded_request_costs_no_allocation() {
    let get = || {
        let mut request = Request::get("/orders/1").header("accept", "*/*").header("host", "shop.test");
        request = request.header("idempotency-key", "\"k\"").header("user-agent", "test");
        request.body(Full::new(Bytes::from_static(&[b'x'; 200]))).unwrap()
    };
    let without_key = || {
        let mut request = get();
        *request.method_mut() = http::Method::POST;
        request.headers_mut().remove("idempotency-key");
        request
    };
    let mut guarding = IdempotencyLayer::new(memory()).layer(Plain);
    for request in [&get as &dyn Fn() -> Request<Full<Bytes>>, &without_key] {
        let bare = allocations(&mut Plain, request());
        let layered = allocations(&mut guarding, request());
        assert_eq!((bare, layered), (0, 0));
    }
    // The counter counts: a box is seen.
    assert_ne!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 0);
}
