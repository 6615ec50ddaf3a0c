//! The block at the start: what runs where, and what a duplicate gets.

use std::net::SocketAddr;

use semel_core::policy::{OnStoreFailure, Policy, Requirement};
use semel_core::record::Recovery;

use crate::store::StoreUrl;
use crate::units::show_duration;

/// What is said.
pub(super) struct Facts<'a> {
    pub(super) listen: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    pub(super) upstream: &'a str,
    pub(super) store: &'a StoreUrl,
    pub(super) state: State,
    pub(super) layers: &'a [&'a str],
    pub(super) policy: &'a Policy,
}

/// How it stands with the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Open { durable: bool },
    NotOpen,
}

/// One fact a line. Programs read the address behind `listening on`, and that behind `admin`.
pub(super) fn text(facts: &Facts<'_>) -> String {
    let policy = facts.policy;
    let mut lines = vec![format!("semel {} listening on http://{}", env!("CARGO_PKG_VERSION"), facts.listen)];
    let mut say = |name: &str, what: String| lines.push(format!("  {name:<10} {what}"));
    match facts.admin {
        Some(address) => say("admin", format!("http://{address} (/healthz, /readyz)")),
        None => say("admin", "off".to_owned()),
    }
    say("upstream", facts.upstream.to_owned());
    let state = match facts.state {
        State::Open { durable: true } => "durable: what was answered survives a crash",
        State::Open { durable: false } => {
            "NOT durable: a restart forgets every key, and a retry may then run a second time"
        }
        State::NotOpen => "NOT OPEN yet: guarded requests get 503 until it is; /readyz and the log say why",
    };
    say("store", format!("{} ({state})", facts.store));
    if !facts.layers.is_empty() {
        say("layers", facts.layers.join(", "));
    }
    say("namespace", policy.namespace.to_string());
    let methods: Vec<&str> = policy.methods.iter().map(http::Method::as_str).collect();
    say("guards", methods.join(", "));
    let key = match policy.requirement {
        Requirement::Optional => "optional: a request without one passes through unguarded",
        Requirement::Required => "required: a guarded request without one gets 400",
    };
    say("key", format!("{}, {key}", policy.key.field));
    say("belongs to", scope(policy));
    say("duplicate", duplicate(policy));
    say("crash", crash(policy).to_owned());
    if policy.on_store_failure == OnStoreFailure::FailOpen {
        say("fail open", "requests run UNGUARDED while the store fails".to_owned());
    }
    lines.join("\n") + "\n"
}

fn scope(policy: &Policy) -> String {
    let scope = policy.scope.describe();
    let endpoint = if policy.endpoint_scope { ", and to its method and path" } else { "" };
    format!("{scope}{endpoint}")
}

fn duplicate(policy: &Policy) -> String {
    let meanwhile = if policy.wait.default.is_zero() {
        "409 while the first runs".to_owned()
    } else {
        format!("waits up to {} for the first, then 409", show_duration(policy.wait.default))
    };
    format!(
        "gets the first answer for {}; {meanwhile}; 422 if it differs",
        show_duration(policy.retention.body)
    )
}

fn crash(policy: &Policy) -> &'static str {
    match policy.recovery {
        Recovery::Hold => "hold: a run without an answer is not repeated until `semel keys resolve`",
        Recovery::Takeover => "takeover: a run without an answer may be repeated once its lease is over",
    }
}
