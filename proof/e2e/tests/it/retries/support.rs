use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest_middleware::ClientWithMiddleware;
use semel_client::tower::{RequestBody, RetryLayer, RetryService};
use semel_client::{Budget, End, Outcome, Retries};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_gateway::{Gateway, GatewayConfig};
use semel_testkit::upstream::{Act, Upstream, answer};
use semel_tower::Idempotency;
use tower::{Layer as _, ServiceExt as _};

/// A client, by either shell.
#[derive(Clone)]
pub(super) enum Shell {
    Reqwest(ClientWithMiddleware),
    Tower(Box<RetryService<Client<HttpConnector, RequestBody>>>),
}

/// What a call came to.
pub(super) enum Came {
    /// The answer's status and body, and the tries it took.
    Known {
        status: u16,
        text: String,
        end: Box<End>,
    },
    /// The key to ask with.
    Unknown(Option<semel_client::OperationKey>),
    NotSent,
}

/// Patient with the operation, impatient with each try: most of what breaks here says nothing.
pub(super) fn retries() -> Retries {
    Retries::builder()
        .deadline(Duration::from_secs(50))
        .try_within(Duration::from_millis(900))
        .tries(40)
        .backoff(Duration::from_millis(5), Duration::from_millis(200))
        .budget(Budget::new(1_000_000, 0))
        .build()
        .unwrap()
}

impl Shell {
    pub(super) fn reqwest() -> Self {
        let builder = reqwest::Client::builder().no_proxy();
        Self::Reqwest(semel_client::reqwest::client(builder, retries()).unwrap())
    }

    pub(super) fn tower() -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<RequestBody>();
        Self::Tower(Box::new(RetryLayer::new(retries()).layer(client)))
    }

    /// Sends an order, with a key that is minted for it, or with this one.
    pub(super) async fn order(
        &self,
        to: SocketAddr,
        body: String,
        key: Option<semel_client::OperationKey>,
    ) -> Came {
        let url = format!("http://{to}/orders");
        let request = http::Request::post(url).header("content-type", "application/json");
        let request = key
            .into_iter()
            .fold(request, |request, key| request.header("idempotency-key", key.header_value().clone()));
        let request = request.body(Bytes::from(body)).unwrap();
        match self {
            Self::Reqwest(client) => {
                let sent = client.execute(request.try_into().unwrap()).await;
                match semel_client::reqwest::outcome(sent) {
                    Outcome::Done(answer) | Outcome::Replayed(answer) | Outcome::Rejected(answer) => {
                        let end = Box::new(answer.extensions().get::<End>().unwrap().clone());
                        Came::Known {
                            status: answer.status().as_u16(),
                            text: answer.text().await.unwrap(),
                            end,
                        }
                    }
                    Outcome::Unknown(unknown) => Came::Unknown(unknown.key),
                    Outcome::NotSent(_) => Came::NotSent,
                }
            }
            Self::Tower(client) => {
                let sent = client.as_ref().clone().oneshot(request.map(Full::new)).await;
                match semel_client::outcome(sent) {
                    Outcome::Done(answer) | Outcome::Replayed(answer) | Outcome::Rejected(answer) => {
                        let end = Box::new(answer.extensions().get::<End>().unwrap().clone());
                        let status = answer.status().as_u16();
                        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
                        Came::Known { status, text: String::from_utf8(bytes.into()).unwrap(), end }
                    }
                    Outcome::Unknown(unknown) => Came::Unknown(unknown.key),
                    Outcome::NotSent(_) => Came::NotSent,
                }
            }
        }
    }
}

/// An application that makes an order of each request it gets, and counts them by their bodies.
pub(super) struct Shop {
    pub(super) upstream: Upstream,
    made: Arc<Mutex<HashMap<String, usize>>>,
}

impl Shop {
    /// `broken` says of which orders the connection breaks once they are made.
    pub(super) async fn start(broken: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let made: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let counted = Arc::clone(&made);
        let script = move |seen: &semel_testkit::upstream::Received| {
            let order = seen.message.text();
            *counted.lock().unwrap().entry(order.clone()).or_default() += 1;
            if broken(&order) { Act::HangUp } else { Act::Answer(answer(201, format!("made {order}"))) }
        };
        Self { upstream: Upstream::start(script).await.unwrap(), made }
    }

    /// How often each order was made.
    pub(super) fn made(&self) -> HashMap<String, usize> {
        self.made.lock().unwrap().clone()
    }

    /// The gateway as a library before it, on this store.
    pub(super) fn behind(&self, store: AnyStore, rules: fn(PolicyBuilder) -> PolicyBuilder) -> SocketAddr {
        let idempotency = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
        let mut config = GatewayConfig::new(self.upstream.url().parse().unwrap());
        config.listen = ([127, 0, 0, 1], 0).into();
        config.workers = NonZeroUsize::MIN;
        let gateway = Gateway::bind(config).unwrap();
        let address = gateway.local_addr();
        tokio::spawn(gateway.run_guarded(idempotency, std::future::pending()));
        address
    }
}

/// Printed; `SEMEL_SEED` repeats it.
pub(super) fn seeded() -> fastrand::Rng {
    let seed = std::env::var("SEMEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEMEL_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
