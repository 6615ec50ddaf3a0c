use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use semel::{Idempotency, IdempotencyLayer, Idempotent, SqliteStore};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::service::LayerExt as _;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::shop::orders_client::OrdersClient;
use super::shop::orders_server::{Orders, OrdersServer};
use super::shop::{Order, Placed};
use super::{Shop, guarding};

type Client = OrdersClient<Channel>;

/// The example's server with these orders, and a client of it.
async fn serve(orders: impl Orders, records: &std::path::Path) -> Client {
    let store = SqliteStore::open(records.join("orders.db")).unwrap();
    let idempotency = guarding(Idempotency::builder(store)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder()
        .layer(IdempotencyLayer::new(idempotency).for_any_body())
        .add_service(OrdersServer::new(orders));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Client::connect(address).await.unwrap()
}

fn order(item: &str, key: &str) -> Request<Order> {
    let mut request = Request::new(Order { item: item.into() });
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotency-replayed").is_some_and(|value| value == "true")
}

/// The code of Semel's own refusal.
fn code(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "semel");
    info.metadata["code"].clone()
}

#[tokio::test]
async fn a_call_that_is_sent_again_gets_the_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(Shop::default(), folder.path()).await;
    let first = client.place(order("a book", "order-1")).await.unwrap();
    let again = client.place(order("a book", "order-1")).await.unwrap();
    assert_eq!((first.get_ref().id, again.get_ref().id), (1, 1));
    assert_eq!((replayed(first.metadata()), replayed(again.metadata())), (false, true));
    let trailer = |response: &Response<Placed>| response.metadata().get("grpc-status").cloned();
    assert_eq!((trailer(&first), trailer(&again)), (Some("0".parse().unwrap()), Some("0".parse().unwrap())));
    let other = client.place(order("a book", "order-2")).await.unwrap();
    assert_eq!(other.get_ref().id, 2, "another key is another order");
}

#[tokio::test]
async fn a_key_of_another_order_is_refused_with_a_status_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(Shop::default(), folder.path()).await;
    client.place(order("a book", "order-1")).await.unwrap();
    let refused = client.place(order("a horse", "order-1")).await.unwrap_err();
    assert_eq!((refused.code(), code(&refused).as_str()), (Code::FailedPrecondition, "key-reused"));
    assert!(refused.message().contains("another payload"), "{}", refused.message());
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["idempotency_key"].as_str()), ("KEY_REUSED", "order-1"));
    let missing = client.place(Order { item: "a book".into() }).await.unwrap_err();
    assert_eq!((missing.code(), code(&missing).as_str()), (Code::InvalidArgument, "key-missing"));
}

/// Orders that wait until they may go on, or panic.
struct Slow {
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Orders for Slow {
    async fn place(&self, request: Request<Order>) -> Result<Response<Placed>, Status> {
        assert!(request.get_ref().item != "a bomb", "as the order asks");
        self.begun.add_permits(1);
        self.go.acquire().await.unwrap().forget();
        let run = request.extensions().get::<Idempotent>().unwrap();
        Ok(Response::new(Placed { id: u64::from(run.attempt) + 6 }))
    }

    type WatchStream = <Shop as Orders>::WatchStream;

    async fn watch(&self, order: Request<Placed>) -> Result<Response<Self::WatchStream>, Status> {
        Shop::default().watch(order).await
    }
}

#[tokio::test]
async fn a_call_beside_a_running_one_is_told_when_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut client = serve(Slow { begun: begun.clone(), go: go.clone() }, folder.path()).await;
    let mut same = client.clone();
    let first = tokio::spawn(async move { same.place(order("a book", "order-1")).await });
    begun.acquire().await.unwrap().forget();
    let busy = client.place(order("a book", "order-1")).await.unwrap_err();
    assert_eq!((busy.code(), code(&busy).as_str()), (Code::Aborted, "in-flight"));
    let after = busy.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(after >= Duration::from_secs(1));
    go.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap().get_ref().id, 7);
    let again = client.place(order("a book", "order-1")).await.unwrap();
    assert!(replayed(again.metadata()) && again.get_ref().id == 7);
}

/// What a handler did before it died nobody knows: it must not run again by itself.
#[tokio::test]
async fn a_call_whose_handler_died_is_not_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut client = serve(Slow { begun: begun.clone(), go }, folder.path()).await;
    client.place(order("a bomb", "order-1")).await.unwrap_err();
    let again = client.place(order("a bomb", "order-1")).await.unwrap_err();
    assert_eq!((again.code(), code(&again).as_str()), (Code::Unknown, "outcome-unknown"));
    assert_eq!(again.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
}

/// The other place for the layer: around one service of a server.
#[tokio::test]
async fn a_service_alone_is_guarded_as_a_whole_server_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("orders.db")).unwrap();
    let layer = IdempotencyLayer::new(guarding(Idempotency::builder(store)).unwrap()).for_any_body();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(layer.named_layer(OrdersServer::new(Shop::default())));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = Client::connect(address).await.unwrap();
    for expected in [false, true] {
        let placed = client.place(order("a book", "order-1")).await.unwrap();
        assert_eq!((placed.get_ref().id, replayed(placed.metadata())), (1, expected));
    }
}

/// A stream has no end to wait for: it flows as if there were no layer, key or not.
#[tokio::test]
async fn a_stream_that_is_not_named_flows_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(Shop::default(), folder.path()).await;
    for _ in 0..2 {
        let mut request = Request::new(Placed { id: 1 });
        request.metadata_mut().insert("idempotency-key", "order-1".parse().unwrap());
        let states = client.watch(request).await.unwrap();
        assert!(!replayed(states.metadata()));
        let states: Vec<_> = states.into_inner().try_collect().await.unwrap();
        assert_eq!(states.len(), 3);
    }
}
