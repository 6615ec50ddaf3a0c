//! From flags to the gateway's settings and the rules of its one route.

use std::time::Duration;

use http::StatusCode;
use semel_core::fingerprint::{BodyMode, FingerprintSettings, HostMode};
use semel_core::key::KeyFormat;
use semel_core::policy::{Answers, HeaderRules, PolicyBuilder};
use semel_core::record::Retention;
use semel_core::scope::Scope;
use semel_gateway::{ForwardedPolicy, GatewayConfig, HostPolicy, UpstreamUrl};

use crate::args::{
    AdminAddress, AnswersArg, FingerprintArg, ForwardedArg, HostArg, KeyFormatArg, ProxyArgs, ScopeArg,
};
use crate::exit::Fault;
use crate::units::{show_duration, show_size};
use crate::upstream;

/// Unless a duplicate waits for longer by itself.
const PREFER_WAIT: Duration = Duration::from_secs(30);

/// The rules, checked against each other.
pub(super) fn policy(args: &ProxyArgs, url: &UpstreamUrl) -> Result<PolicyBuilder, Fault> {
    let namespace = args.namespace.clone().unwrap_or_else(|| upstream::namespace(url));
    let released = Retention::default().released.max(args.lease);
    let retention = Retention { body: args.keep_bodies, record: args.keep_records, released };
    let mut policy = PolicyBuilder::default()
        .namespace(namespace)
        .methods(args.methods.iter().cloned())
        .key_format(key_format(args.key_format))
        .scope(scope(&args.scope))
        .fingerprint(fingerprint(args))
        .keep(args.keep.clone())
        .answers(answers(args.keep_answers))
        .recovery(args.recovery)
        .lease(args.lease)
        .max_run(args.max_run)
        .body_limit(args.body_limit)
        .capture_limit(args.capture_limit)
        .retention(retention)
        .wait(args.wait)
        .prefer_wait(args.prefer_wait.unwrap_or(PREFER_WAIT.max(args.wait)))
        .broken_status(StatusCode::BAD_GATEWAY);
    let mut headers = HeaderRules::default();
    headers.keep_set_cookie = args.keep_set_cookie;
    policy = policy.header_rules(headers);
    if args.require_key {
        policy = policy.require_key();
    }
    if args.strict_keys {
        policy = policy.strict_keys();
    }
    if args.endpoint_scope {
        policy = policy.endpoint_scope();
    }
    if args.fail_open {
        policy = policy.fail_open();
    }
    if let Some(profile) = args.profile {
        policy = policy.profile(profile);
    }
    policy.clone().build().map_err(|error| Fault::config(as_flags(&error.to_string())))?;
    // The library says so too, but not before there is a store, whose file would have been made for nothing.
    if args.body_limit > args.max_bytes_in_flight {
        return Err(Fault::config(format!(
            "--body-limit ({}) is more than --max-bytes-in-flight ({}), which all requests share: one of that size would never \
             be admitted; lower --body-limit, or raise --max-bytes-in-flight",
            show_size(args.body_limit as u64),
            show_size(args.max_bytes_in_flight as u64)
        )));
    }
    Ok(policy)
}

pub(super) fn gateway(args: &ProxyArgs, url: UpstreamUrl) -> GatewayConfig {
    let mut config = GatewayConfig::new(url);
    config.listen = args.listen;
    config.admin = match args.admin {
        AdminAddress::Off => None,
        AdminAddress::At(address) => Some(address),
    };
    if let Some(workers) = args.workers {
        config.workers = workers;
    }
    config.timeouts.response = args.upstream_timeout;
    config.timeouts.connect = args.connect_timeout;
    config.timeouts.shutdown = args.drain;
    config.forwarded = match args.forwarded {
        ForwardedArg::Replace => ForwardedPolicy::Replace,
        ForwardedArg::Append => ForwardedPolicy::Append,
        ForwardedArg::Keep => ForwardedPolicy::Keep,
    };
    config.host = match args.host {
        HostArg::Preserve => HostPolicy::Preserve,
        HostArg::Upstream => HostPolicy::Upstream,
    };
    config
}

fn answers(answers: AnswersArg) -> Answers {
    match answers {
        AnswersArg::Stored => Answers::Stored,
        AnswersArg::Tombstone => Answers::Tombstone,
    }
}

fn key_format(format: KeyFormatArg) -> KeyFormat {
    match format {
        KeyFormatArg::Any => KeyFormat::Any,
        KeyFormatArg::Uuid => KeyFormat::Uuid,
        KeyFormatArg::Uuidv7 => KeyFormat::UuidV7,
    }
}

fn scope(scope: &ScopeArg) -> Scope {
    match scope {
        ScopeArg::Credentials => Scope::credentials(),
        ScopeArg::Shared => Scope::shared(),
        ScopeArg::Header(name) => Scope::header(name.clone()),
        ScopeArg::Cookie(name) => Scope::cookie(name.as_str()),
    }
}

fn fingerprint(args: &ProxyArgs) -> FingerprintSettings {
    let body = match args.fingerprint {
        FingerprintArg::Json => BodyMode::Json,
        FingerprintArg::Raw => BodyMode::Raw,
        FingerprintArg::Off => BodyMode::Off,
    };
    let host = if args.any_host { HostMode::Any } else { HostMode::Exact };
    let exclude = args.exclude.iter().flat_map(|exclusions| exclusions.0.iter().cloned()).collect();
    FingerprintSettings { body, exclude, host, ..FingerprintSettings::default() }
}

/// The same for the gateway's settings.
pub(super) fn gateway_flags(text: &str) -> String {
    text.replace("timeouts.response", "--upstream-timeout")
        .replace("timeouts.connect", "--connect-timeout")
        .replace("listen and admin are", "--listen and --admin are")
        .replace("give admin another port, or none", "give --admin another port, or off")
}

/// Names the flags where the library names its settings, and writes durations as flags take them: `max_run` (86400s)
/// is `--max-run` (1d).
pub(super) fn as_flags(text: &str) -> String {
    let renamed = |setting: &str| match setting {
        "retention.body" => "--keep-bodies".to_owned(),
        "retention.record" => "--keep-records".to_owned(),
        "answers" => "--keep-answers".to_owned(),
        // There is no flag for it.
        "key_field" => "the field of keys".to_owned(),
        "fingerprint.exclude" => "--exclude".to_owned(),
        "fingerprint.body" => "--fingerprint".to_owned(),
        other => format!("--{}", other.replace('_', "-")),
    };
    let mut parts = text.split('`');
    let mut said = parts.next().unwrap_or_default().to_owned();
    while let Some(setting) = parts.next() {
        said.push_str(&renamed(setting));
        said.push_str(parts.next().unwrap_or_default());
    }
    let words: Vec<String> = said.split(' ').map(readable).collect();
    words.join(" ")
}

/// A duration within its parentheses or before its colon; every other word as it is, and a duration that takes more
/// than two units, too.
fn readable(word: &str) -> String {
    let bare = word.trim_matches(|mark| "():,".contains(mark));
    let duration = humantime::parse_duration(bare).ok();
    let shown = duration.map(|duration| (duration, show_duration(duration)));
    match shown {
        Some((exact, shown)) if humantime::parse_duration(&shown) == Ok(exact) => word.replace(bare, &shown),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_flags() {
        assert_eq!(
            as_flags("`max_run` (1s) is shorter than `lease` (30s): raise `max_run`"),
            "--max-run (1s) is shorter than --lease (30s): raise --max-run"
        );
        assert_eq!(as_flags("`retention.record` is short"), "--keep-records is short");
        assert_eq!(as_flags("nothing to name"), "nothing to name");
    }

    // "0ns" and "86400s" are what the library's debug output says of durations.
    #[test]
    fn durations_are_written_as_flags_take_them() {
        for (library, said) in [
            (
                "`lease` is 0ns: it has to be at least 100ms, or",
                "--lease is 0s: it has to be at least 100ms, or",
            ),
            ("`a` (3600s) is shorter than `b` (86400s): raise", "--a (1h) is shorter than --b (1d): raise"),
            ("`a` (90061s) of 36 characters", "--a (90061s) of 36 characters"),
        ] {
            assert_eq!(as_flags(library), said);
        }
    }
}
