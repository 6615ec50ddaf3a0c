//! `semel proxy`: the gateway, from flags to a graceful end.

mod banner;
mod opening;
mod settings;

use std::num::NonZeroUsize;
use std::time::Duration;

use semel_core::policy::PolicyBuilder;
use semel_core::store::{AnyStore, StoreError};
use semel_driver::{BuildError, Idempotency};
use semel_gateway::{Gateway, GatewayError, NotOpen, Stopped};

use crate::args::ProxyArgs;
use crate::exit::{Exit, Fault};
use crate::store::Place;
use crate::{logs, out, signals, upstream};
use banner::State;
use opening::{Attempt, First};

pub(crate) fn run(args: &ProxyArgs) -> Result<Exit, Fault> {
    // Everything that can be wrong is found before anything is written: first the words, then the addresses,
    // then the store.
    let url = upstream::parse(&args.upstream)?;
    let policy = settings::policy(args, &url)?;
    let config = settings::gateway(args, url);
    let place = Place::of(&args.store, args.schema.as_deref())?;
    #[cfg(feature = "layers")]
    let layers = crate::layers::Layering::of(&args.layers, &place, args.lease)?;
    logs::start(args.log_format)?;
    let gateway = Gateway::bind(config).map_err(|error| gateway_fault(&error))?;
    let guard = Guard {
        policy,
        per_peer: args.per_peer,
        max_bytes_in_flight: args.max_bytes_in_flight,
        #[cfg(feature = "layers")]
        layers,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::system("cannot start", &error))?;
    let ended = runtime.block_on(async {
        match opening::first(&place, args.capture_limit).await? {
            First::Open(store) => serve(args, gateway, guard, store, &place).await,
            First::Later(error, under_way) => {
                wait_and_serve(args, gateway, guard, &error, under_way, &place).await
            }
        }
    });
    // A store that is being opened at this moment is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(
    args: &ProxyArgs,
    gateway: Gateway,
    guard: Guard,
    store: AnyStore,
    place: &Place,
) -> Result<Exit, Fault> {
    let state = State::Open { durable: store.capabilities().durable };
    let layers = guard.layer_names();
    let idempotency = guard.over(store)?;
    let shutdown = shutdown(args)?;
    banner(args, &gateway, place, state, &layers, &idempotency)?;
    let stopped = gateway.run_guarded(idempotency, shutdown).await.map_err(|error| gateway_fault(&error))?;
    Ok(end(stopped))
}

/// The store is not there yet: unguarded requests pass, guarded ones get 503 until it is.
async fn wait_and_serve(
    args: &ProxyArgs,
    gateway: Gateway,
    guard: Guard,
    error: &StoreError,
    under_way: Option<Attempt>,
    place: &Place,
) -> Result<Exit, Fault> {
    let not_open = NotOpen::new(error).map_err(|error| Fault::system("cannot start", &error))?;
    let layers = guard.layer_names();
    let meanwhile = guard.before_it_is_open(&not_open)?;
    let shutdown = shutdown(args)?;
    banner(args, &gateway, place, State::NotOpen, &layers, &meanwhile)?;
    tracing::warn!(store = %place.url(), %error, "the store is not open: waiting for it");
    let opening = async {
        let store = opening::open(place, args.capture_limit, &not_open, under_way).await?;
        let durable = store.capabilities().durable;
        tracing::info!(store = %place.url(), durable, "the store is open: ready");
        guard.over(store)
    };
    let ended = gateway.run_opening(meanwhile, opening, shutdown).await;
    Ok(end(ended.map_err(|error| gateway_fault(&error))??))
}

fn end(stopped: Stopped) -> Exit {
    if stopped.aborted > 0 {
        tracing::warn!(connections = stopped.aborted, "cut at the end of --drain");
    }
    tracing::info!("stopped");
    Exit::Ok
}

fn banner(
    args: &ProxyArgs,
    gateway: &Gateway,
    place: &Place,
    state: State,
    layers: &[&str],
    idempotency: &Idempotency,
) -> Result<(), Fault> {
    out::print(banner::text(&banner::Facts {
        listen: gateway.local_addr(),
        admin: gateway.admin_addr(),
        upstream: &args.upstream,
        store: place.url(),
        state,
        layers,
        policy: idempotency.policy(),
    }))
}

/// What is put between requests and the store.
struct Guard {
    policy: PolicyBuilder,
    per_peer: Option<NonZeroUsize>,
    max_bytes_in_flight: usize,
    #[cfg(feature = "layers")]
    layers: crate::layers::Layering,
}

impl Guard {
    fn over(self, store: AnyStore) -> Result<Idempotency, Fault> {
        #[cfg(feature = "layers")]
        let (within, store) = (self.layers.call_within(), self.layers.over(store)?);
        let builder =
            builder(store, self.policy, self.per_peer).max_bytes_in_flight(self.max_bytes_in_flight);
        #[cfg(feature = "layers")]
        let builder = builder.store_within(within);
        builder.build().map_err(|error| build_fault(&error))
    }

    fn before_it_is_open(&self, not_open: &NotOpen) -> Result<Idempotency, Fault> {
        let builder = builder(not_open.store(), self.policy.clone(), self.per_peer)
            .max_bytes_in_flight(self.max_bytes_in_flight);
        // There is nothing to sweep.
        builder.sweep_every(Duration::ZERO).build().map_err(|error| build_fault(&error))
    }

    #[cfg(feature = "layers")]
    fn layer_names(&self) -> Vec<&'static str> {
        self.layers.names()
    }

    #[cfg(not(feature = "layers"))]
    #[expect(clippy::unused_self, reason = "with the feature there are some")]
    fn layer_names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

fn builder(store: AnyStore, policy: PolicyBuilder, per_peer: Option<NonZeroUsize>) -> semel_driver::Builder {
    let builder = Idempotency::builder_any(store).policy(policy).observer(logs::event);
    match per_peer {
        Some(most) => builder.max_per_peer(most.get()),
        None => builder,
    }
}

/// What asks for a graceful end.
fn shutdown(args: &ProxyArgs) -> Result<impl Future<Output = ()> + Send + use<>, Fault> {
    let signal = signals::graceful()?;
    let stdin = if args.end_with_stdin { Some(signals::stdin_ended()?) } else { None };
    Ok(async move {
        let mut signal = Box::pin(signal);
        let Some(stdin) = stdin else { return signal.await };
        tokio::select! {
            () = &mut signal => {}
            // Signals are still heard: two of them end it at once.
            () = stdin => drop(tokio::spawn(signal)),
        }
    })
}

fn build_fault(error: &BuildError) -> Fault {
    match error {
        BuildError::System(_) => Fault::system("cannot start", error),
        _ => Fault::config(settings::as_flags(&error.to_string())),
    }
}

fn gateway_fault(error: &GatewayError) -> Fault {
    match error {
        GatewayError::AddressInUse { .. } => Fault::new(Exit::AddressInUse, format!("--{error}")),
        GatewayError::Bind { source, .. } => Fault::config(format!("--{error} ({source})")),
        GatewayError::Config(_) => Fault::config(settings::gateway_flags(&error.to_string())),
        _ => Fault::system("the gateway ended", error),
    }
}
