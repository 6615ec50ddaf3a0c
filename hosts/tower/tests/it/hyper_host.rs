//! Bare hyper: `Incoming` cannot be made again, so it is wrapped before the layer.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use semel_tower::{Body, IdempotencyLayer};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, service_fn};

use crate::support::{Effects, Seen, bounded, memory, order};

#[tokio::test]
async fn a_hyper_server_runs_a_key_once_over_a_socket() {
    let effects = Effects::default();
    let ran = effects.clone();
    let handler = service_fn(move |request: Request<Body<Incoming>>| {
        let n = ran.take();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(format!("{n}: {} bytes", body.len()))))
        }
    });
    let service = IdempotencyLayer::new(memory()).for_any_body().layer(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .await
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (key, replayed, text) in
        [("k1", false, "1: 2 bytes"), ("k1", true, "1: 2 bytes"), ("k2", false, "2: 2 bytes")]
    {
        client.ready().await.unwrap();
        let seen = Seen::of(bounded(client.send_request(order(key))).await.unwrap()).await;
        assert_eq!((seen.text(), seen.replayed()), (text, replayed));
        assert_eq!(seen.headers["content-length"], "10");
    }
    client.ready().await.unwrap();
    let get = Request::get("/").header("host", "shop.test").body(Full::from("abc")).unwrap();
    assert_eq!(Seen::of(client.send_request(get).await.unwrap()).await.text(), "3: 3 bytes");
}

/// The same with nothing but a function, for servers without tower.
#[tokio::test]
async fn a_service_function_of_hyper_can_call_the_layer_itself() {
    use tower::ServiceExt as _;
    let handler = service_fn(|_: Request<Body<Incoming>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done")))
    });
    let guarded = IdempotencyLayer::new(memory()).layer(handler);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        guarded.clone().oneshot(request.map(Body::passed))
    });
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service).await
    });
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
    tokio::spawn(connection);
    for replayed in [false, true] {
        client.ready().await.unwrap();
        let seen = Seen::of(bounded(client.send_request(order("k"))).await.unwrap()).await;
        assert_eq!((seen.text(), seen.replayed()), ("done", replayed));
    }
}
