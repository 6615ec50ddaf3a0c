//! Whether rules hold together. Each refusal names the settings that contradict each other, with their values, and what
//! to change.

use std::time::Duration;

use http::HeaderName;

use super::{Answers, OnStoreFailure, PolicyBuilder, headers};
use crate::engine::AHEAD;
use crate::fingerprint::BodyMode;
use crate::key::KeyFormat;
use crate::record::Recovery;

pub(super) fn rules(rules: &PolicyBuilder) -> Result<(), String> {
    requests(rules)?;
    keys(rules)?;
    times(rules)?;
    sizes(rules)?;
    answers(rules)?;
    runs(rules)
}

fn requests(rules: &PolicyBuilder) -> Result<(), String> {
    if rules.namespace.is_empty() {
        return Err("`namespace` is empty: name the service".into());
    }
    if rules.methods.is_empty() {
        return Err("`methods` is empty, so nothing is guarded: name at least one method".into());
    }
    if let Some(method) = rules.methods.iter().find(|method| method.is_safe()) {
        return Err(format!(
            "`methods` names {method}, which is safe (RFC 9110, 9.2.1): a repeat of it needs no guard"
        ));
    }
    rules.paths.check()?;
    let by = match rules.fingerprint.body {
        BodyMode::Json => None,
        BodyMode::Raw => Some("raw, byte by byte"),
        BodyMode::Off => Some("off, not at all"),
    };
    if let (Some(by), Some(first)) = (by, rules.fingerprint.exclude.first()) {
        return Err(format!(
            "`fingerprint.exclude` ({first}) leaves members of JSON out, but `fingerprint.body` is {by}: set \
             `fingerprint.body` to json, or drop `fingerprint.exclude`"
        ));
    }
    Ok(())
}

fn keys(rules: &PolicyBuilder) -> Result<(), String> {
    if rules.key.max_len == 0 {
        return Err("`key.max_len` is 0: no key could ever be accepted".into());
    }
    if rules.key.format != KeyFormat::Any && rules.key.max_len < 36 {
        return Err(format!(
            "`key_format` asks for a UUID of 36 characters, but `key.max_len` is {}",
            rules.key.max_len
        ));
    }
    // Such a key may come from so far ahead, and would be as new once its record's life is over.
    if rules.key.format == KeyFormat::UuidV7 && rules.retention.record < AHEAD {
        return Err(format!(
            "`key_format` is UUIDv7, which may come from {AHEAD:?} ahead, but `retention.record` is {:?}: a key would outlive \
             its record and run again; raise `retention.record`, or ask for another `key_format`",
            rules.retention.record
        ));
    }
    let own: [HeaderName; 3] =
        [headers::IDEMPOTENCY_ATTEMPT, headers::IDEMPOTENCY_FENCE, headers::IDEMPOTENCY_OUTCOME];
    if own.contains(&rules.key.field) {
        return Err(format!(
            "`key_field` is {}, which Semel removes from every request: choose another field",
            rules.key.field
        ));
    }
    if rules.scope.fields().contains(&rules.key.field) {
        return Err(format!(
            "`key_field` is {}, and `scope` ({}) reads who is asking from the same field: choose another one of the two",
            rules.key.field,
            rules.scope.describe()
        ));
    }
    Ok(())
}

fn times(rules: &PolicyBuilder) -> Result<(), String> {
    let PolicyBuilder { lease, max_run, retention, wait, .. } = rules;
    if *lease < Duration::from_millis(100) {
        return Err(format!(
            "`lease` is {lease:?}: it has to be at least 100ms, or no renewal comes in time"
        ));
    }
    if max_run < lease {
        return Err(format!(
            "`max_run` ({max_run:?}) is shorter than `lease` ({lease:?}): raise `max_run` or shorten `lease`"
        ));
    }
    if retention.record < retention.body {
        return Err(format!(
            "`retention.record` ({:?}) is shorter than `retention.body` ({:?}): a body cannot outlive its record",
            retention.record, retention.body
        ));
    }
    if retention.record < *max_run {
        return Err(format!(
            "`retention.record` ({:?}) is shorter than `max_run` ({max_run:?}): a record has to outlive the runs it guards",
            retention.record
        ));
    }
    if retention.released < *lease {
        return Err(format!(
            "`retention.released` ({:?}) is shorter than `lease` ({lease:?}): a released record has to outlive delayed packets of its claim",
            retention.released
        ));
    }
    if wait.default > *max_run {
        return Err(format!(
            "`wait` ({:?}) is longer than `max_run` ({max_run:?}): no original is waited for longer than it may run; raise \
             `max_run` or shorten `wait`",
            wait.default
        ));
    }
    if !wait.prefer_up_to.is_zero() && wait.prefer_up_to < wait.default {
        return Err(format!(
            "`prefer_wait` ({:?}) is shorter than `wait` ({:?}): a client that asks to wait would wait for less than one that \
             does not; raise `prefer_wait` or shorten `wait`",
            wait.prefer_up_to, wait.default
        ));
    }
    let waits = !(wait.default.is_zero() && wait.prefer_up_to.is_zero());
    if waits && wait.per_key == 0 {
        return Err("`wait.per_key` is 0, but duplicates are to wait: raise it, or set no `wait`".into());
    }
    if rules.body_within.is_zero() || rules.capture_for.is_zero() {
        return Err("`body_within` and `capture_for` have to be longer than nothing".into());
    }
    Ok(())
}

fn sizes(rules: &PolicyBuilder) -> Result<(), String> {
    if rules.body_limit == 0 || rules.capture_limit == 0 {
        return Err("`body_limit` and `capture_limit` have to be at least one byte".into());
    }
    match rules.quota {
        Some(quota) if quota.records == Some(0) => {
            Err("`quota.records` is 0: no key could ever be claimed".into())
        }
        _ => Ok(()),
    }
}

fn answers(rules: &PolicyBuilder) -> Result<(), String> {
    if rules.answers != Answers::Stored {
        let answers = rules.answers.as_str();
        if rules.headers.keep_set_cookie {
            return Err(format!(
                "`answers` is {answers}, so no fields are stored, but `keep_set_cookie` asks to store cookies: drop one of them"
            ));
        }
        if rules.drop_no_store_bodies {
            return Err(format!(
                "`answers` is {answers}, so no bodies are stored, and `drop_no_store_bodies` means nothing: drop one of them"
            ));
        }
    }
    if !rules.broken_status.is_server_error() {
        return Err(format!(
            "`broken_status` is {}: a run whose outcome nobody knows is answered with a 5xx",
            rules.broken_status.as_u16()
        ));
    }
    Ok(())
}

fn runs(rules: &PolicyBuilder) -> Result<(), String> {
    if rules.steps && rules.recovery == Recovery::Hold {
        return Err(
            "`steps` lets another attempt go on where one broke off, but `recovery` is hold, under which there is none: set `recovery` to takeover, or drop `steps`"
                .into(),
        );
    }
    if rules.steps && rules.on_store_failure == OnStoreFailure::FailOpen {
        return Err(
            "`steps` are recorded in the store, but `fail_open` runs requests while there is none: drop one of them"
                .into(),
        );
    }
    Ok(())
}
