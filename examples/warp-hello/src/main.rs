//! A warp application whose orders are made once, however often they are sent.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use semel::{Body, Idempotency, IdempotencyLayer, Idempotent, SqliteStore};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};
use warp::Filter as _;
use warp::filters::BoxedFilter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    Ok(serve(TcpListener::bind("127.0.0.1:3000").await?, idempotency, routes()).await?)
}

fn routes() -> BoxedFilter<(String,)> {
    let order = |run: Idempotent| format!("made by attempt {}\n", run.attempt);
    warp::path!("orders").and(warp::post()).and(warp::ext::get()).map(order).boxed()
}

// `warp::serve` takes filters alone, so a service made of them is served by hyper.
async fn serve(
    listener: TcpListener,
    idempotency: Idempotency,
    routes: BoxedFilter<(String,)>,
) -> std::io::Result<()> {
    let guarded = IdempotencyLayer::new(idempotency).layer(warp::service(routes));
    loop {
        let (stream, peer) = listener.accept().await?;
        let guarded = guarded.clone();
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            // For `warp::ext::get::<SocketAddr>()`: `warp::addr::remote()` knows what warp's own server told it.
            request.extensions_mut().insert(peer);
            guarded.clone().oneshot(request.map(Body::passed))
        });
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that hangs up is an error here.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

#[cfg(test)]
mod tests;
