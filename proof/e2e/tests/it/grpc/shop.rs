//! The application: a service of tonic whose messages are plain bytes, the same at `/shop.Orders/` and `/shop.Streams/`.
//!
//! A test steers one call by metadata: `x-status` ends it with this status, `x-outcome` says what came of it, `x-hold`
//! waits for [`Shop::let_go`] after the effect, `x-panic` panics there, `x-large` answers with so many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use semel_tower::Whole;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

/// A message as it is on the wire: a flag, its length, its bytes.
pub(in crate::grpc) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

#[derive(Clone)]
pub(in crate::grpc) struct Shop(Arc<Inner>);

struct Inner {
    effects: AtomicUsize,
    held: Semaphore,
}

impl Shop {
    pub(in crate::grpc) fn new() -> Self {
        Self(Arc::new(Inner { effects: AtomicUsize::new(0), held: Semaphore::new(0) }))
    }

    /// How often something was really done.
    pub(in crate::grpc) fn effects(&self) -> usize {
        self.0.effects.load(Ordering::SeqCst)
    }

    /// Lets this many held calls go on.
    pub(in crate::grpc) fn let_go(&self, count: usize) {
        self.0.held.add_permits(count);
    }

    pub(in crate::grpc) fn router(&self) -> Router {
        let call = |shop: Self| {
            post(move |request: http::Request<axum::body::Body>| async move { shop.call(request).await })
        };
        Router::new()
            .route("/shop.Orders/{method}", call(self.clone()))
            .route("/shop.Streams/{method}", call(self.clone()))
    }

    pub(in crate::grpc) fn routes(&self) -> Routes {
        Routes::from(self.router())
    }

    async fn call(self, request: http::Request<axum::body::Body>) -> http::Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut grpc = tonic::server::Grpc::new(Plain)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        match method.as_str() {
            "Place" => {
                let place = service_fn(|request: Request<Bytes>| self.clone().place(request));
                grpc.unary(place, request).await
            }
            "Watch" => {
                let watch = service_fn(|_: Request<Bytes>| std::future::ready(Ok(self.watch())));
                grpc.server_streaming(watch, request).await
            }
            "Part" => {
                let part = service_fn(|request: Request<Bytes>| std::future::ready(Ok(self.part(&request))));
                grpc.server_streaming(part, request).await
            }
            "Upload" => {
                let upload = service_fn(|request: Request<Streaming<Bytes>>| self.clone().upload(request));
                grpc.client_streaming(upload, request).await
            }
            "Chat" => {
                let chat = service_fn(|request: Request<Streaming<Bytes>>| {
                    self.did();
                    std::future::ready(Ok(Response::new(request.into_inner().boxed())))
                });
                grpc.streaming(chat, request).await
            }
            "Sum" => self.sum(),
            "Cut" => {
                self.did();
                answer(Body::new(Full::new(framed(b"and then"))))
            }
            other => Status::unimplemented(other.to_owned()).into_http(),
        }
    }

    fn did(&self) -> usize {
        self.0.effects.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn place(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let effect = self.did();
        let metadata = request.metadata();
        if metadata.contains_key("x-hold") {
            self.0.held.acquire().await.unwrap().forget();
        }
        assert!(!metadata.contains_key("x-panic"), "as the call asks");
        let told = |name: &str| metadata.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        if let Some(status) = status(metadata) {
            return Err(status);
        }
        let text = match told("x-large").parse() {
            Ok(size) => "x".repeat(size),
            Err(_) => format!(
                "effect={effect};nonce={};item={};attempt={};outcome={};takes={}",
                fastrand::u64(..),
                String::from_utf8_lossy(request.get_ref()),
                told("idempotency-attempt"),
                told("idempotency-outcome"),
                told("grpc-accept-encoding"),
            ),
        };
        let mut response = Response::new(Bytes::from(text));
        let fields = response.metadata_mut();
        fields.insert("x-order", effect.into());
        fields.insert_bin("x-order-bin", MetadataValue::from_bytes(&[0, 255, 1]));
        let outcome = told("x-outcome");
        if !outcome.is_empty() {
            fields.insert("idempotency-outcome", outcome.parse().unwrap());
        }
        Ok(response)
    }

    /// Messages without end.
    fn watch(&self) -> Response<BoxStream<'static, Result<Bytes, Status>>> {
        self.did();
        let ticks = stream::unfold(0_u32, |tick| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from(format!("tick {tick}"))), tick + 1))
        });
        Response::new(ticks.boxed())
    }

    /// One message, and then how it ends: in the trailers.
    fn part(&self, request: &Request<Bytes>) -> Response<BoxStream<'static, Result<Bytes, Status>>> {
        let first = Bytes::from(format!("part {}", self.did()));
        let end = status(request.metadata()).map(Err);
        Response::new(stream::iter([Ok(first)].into_iter().chain(end)).boxed())
    }

    async fn upload(self, request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
        let messages: Vec<_> = request.into_inner().try_collect().await?;
        Ok(Response::new(Bytes::from(format!("{} messages, effect {}", messages.len(), self.did()))))
    }

    /// Metadata behind the message, as tonic's own unary calls never have it.
    fn sum(&self) -> http::Response<Body> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.append("x-sum", HeaderValue::from_static("1"));
        trailers.append("x-sum", HeaderValue::from_static("2, 3"));
        trailers.insert("x-sum-bin", HeaderValue::from_static("AP8"));
        trailers.insert("grpc-retry-pushback-ms", HeaderValue::from_static("9000"));
        let message = framed(format!("effect={}", self.did()).as_bytes());
        answer(Body::new(Whole::new(message).with_trailers(Some(trailers))))
    }
}

fn answer(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    response
        .headers_mut()
        .insert(HeaderName::from_static("content-type"), HeaderValue::from_static("application/grpc"));
    response
}

/// The status that a call asks for, with all that a status may carry.
fn status(metadata: &MetadataMap) -> Option<Status> {
    let code: i32 = metadata.get("x-status")?.to_str().unwrap().parse().unwrap();
    let mut more = MetadataMap::new();
    more.insert("x-why", "because".parse().unwrap());
    more.insert_bin("x-why-bin", MetadataValue::from_bytes(&[254, 0]));
    if let Some(outcome) = metadata.get("x-outcome") {
        more.insert("idempotency-outcome", outcome.clone());
    }
    let details = Bytes::from_static(b"\x08\x05details");
    Some(Status::with_details_and_metadata(Code::from_i32(code), "100% no\nélan", details, more))
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
