//! `semel proxy`: the gateway, from flags to a graceful end.

mod banner;
mod settings;

use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_driver::{BuildError, Idempotency};
use semel_gateway::{Gateway, GatewayError};

use crate::args::ProxyArgs;
use crate::exit::{Exit, Fault};
use crate::store::StoreUrl;
use crate::{logs, out, signals, upstream};

pub(crate) fn run(args: &ProxyArgs) -> Result<Exit, Fault> {
    // Everything that can be wrong is found before anything is written: first the words, then the addresses,
    // then the store.
    let url = upstream::parse(&args.upstream)?;
    let policy = settings::policy(args, &url)?;
    let config = settings::gateway(args, url);
    let store_url: StoreUrl = args.store.parse()?;
    logs::start(args.log_format)?;
    let gateway = Gateway::bind(config).map_err(|error| gateway_fault(&error))?;
    let store = store_url.open(args.capture_limit)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::system("cannot start", &error))?;
    runtime.block_on(serve(args, gateway, policy, store, &store_url))
}

async fn serve(
    args: &ProxyArgs,
    gateway: Gateway,
    policy: PolicyBuilder,
    store: AnyStore,
    store_url: &StoreUrl,
) -> Result<Exit, Fault> {
    let capabilities = store.capabilities();
    let mut builder = Idempotency::builder_any(store).policy(policy).observer(logs::event);
    if let Some(most) = args.per_peer {
        builder = builder.max_per_peer(most.get());
    }
    let idempotency = builder.build().map_err(|error| build_fault(&error))?;
    let shutdown = shutdown(args)?;
    let facts = banner::Facts {
        listen: gateway.local_addr(),
        admin: gateway.admin_addr(),
        upstream: &args.upstream,
        store: store_url,
        durable: capabilities.durable,
        policy: idempotency.policy(),
    };
    out::print(banner::text(&facts))?;
    let stopped = gateway.run_guarded(idempotency, shutdown).await.map_err(|error| gateway_fault(&error))?;
    if stopped.aborted > 0 {
        tracing::warn!(connections = stopped.aborted, "cut at the end of --drain");
    }
    tracing::info!("stopped");
    Ok(Exit::Ok)
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
