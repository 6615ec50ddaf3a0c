//! Rules that cannot hold together are refused, with both names and what they were set to.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use semel_core::fingerprint::{BodyMode, FingerprintSettings};
use semel_core::key::{KeyFormat, KeyRules};
use semel_core::policy::{Answers, HeaderRules, Keep, Policy, PolicyBuilder};
use semel_core::record::{Recovery, Retention};
use semel_core::scope::Scope;
use semel_core::store::Quota;

const SECOND: Duration = Duration::from_secs(1);

fn excluding(body: BodyMode) -> FingerprintSettings {
    FingerprintSettings { body, exclude: vec!["/meta/ts".parse().unwrap()], ..FingerprintSettings::default() }
}

fn keeping(record: Duration, body: Duration, released: Duration) -> Retention {
    Retention { record, body, released }
}

fn cookies() -> HeaderRules {
    let mut rules = HeaderRules::default();
    rules.keep_set_cookie = true;
    rules
}

fn keys(max_len: usize) -> PolicyBuilder {
    let mut rules = Policy::builder().key_format(KeyFormat::Uuid);
    rules.key = KeyRules { max_len, ..rules.key };
    rules
}

/// One line a pair. What is right beside it is built: a rule that refuses too much would be noticed here.
#[test]
fn each_contradiction_names_both_settings_with_their_values() {
    let rules = Policy::builder;
    let day = SECOND * 86_400;
    let mut none_per_key = rules().wait(SECOND);
    none_per_key.wait.per_key = 0;
    let mut one_per_key = rules().wait(SECOND);
    one_per_key.wait.per_key = 1;
    let pairs = vec![
        (rules().max_run(SECOND * 29), ["`max_run` (29s)", "`lease` (30s)"], rules().max_run(SECOND * 30)),
        (
            rules().retention(keeping(day, day * 2, day)),
            ["`retention.record` (86400s)", "`retention.body` (172800s)"],
            rules().retention(keeping(day, day, day)),
        ),
        (
            rules().retention(keeping(SECOND * 599, SECOND, day)),
            ["`retention.record` (599s)", "`max_run` (600s)"],
            rules().retention(keeping(SECOND * 600, SECOND, day)),
        ),
        (
            rules().retention(keeping(day, day, SECOND * 29)),
            ["`retention.released` (29s)", "`lease` (30s)"],
            rules().retention(keeping(day, day, SECOND * 30)),
        ),
        (rules().wait(SECOND * 601), ["`wait` (601s)", "`max_run` (600s)"], rules().wait(SECOND * 600)),
        (
            rules().wait(SECOND * 9).prefer_wait(SECOND * 5),
            ["`prefer_wait` (5s)", "`wait` (9s)"],
            rules().wait(SECOND * 9).prefer_wait(SECOND * 9),
        ),
        (none_per_key, ["`wait.per_key` is 0", "`wait`"], one_per_key),
        (
            rules().key_format(KeyFormat::UuidV7).max_run(SECOND * 60).retention(keeping(
                SECOND * 299,
                SECOND,
                day,
            )),
            ["`key_format` is UUIDv7, which may come from 300s ahead", "`retention.record` is 299s"],
            rules().key_format(KeyFormat::UuidV7).max_run(SECOND * 60).retention(keeping(
                SECOND * 300,
                SECOND,
                day,
            )),
        ),
        (keys(35), ["`key_format`", "`key.max_len` is 35"], keys(36)),
        (
            rules()
                .key_field(HeaderName::from_static("x-tenant"))
                .scope(Scope::header(HeaderName::from_static("x-tenant"))),
            ["`key_field` is x-tenant", "`scope` (header x-tenant)"],
            rules()
                .key_field(HeaderName::from_static("x-key"))
                .scope(Scope::header(HeaderName::from_static("x-tenant"))),
        ),
        (
            rules().key_field(http::header::AUTHORIZATION),
            ["`key_field` is authorization", "`scope` (credentials)"],
            rules().key_field(http::header::AUTHORIZATION).scope(Scope::shared()),
        ),
        (
            rules().fingerprint(excluding(BodyMode::Raw)),
            ["`fingerprint.exclude` (/meta/ts)", "`fingerprint.body` is raw"],
            rules().fingerprint(excluding(BodyMode::Json)),
        ),
        (
            rules().fingerprint(excluding(BodyMode::Off)),
            ["`fingerprint.exclude` (/meta/ts)", "`fingerprint.body` is off"],
            rules()
                .fingerprint(FingerprintSettings { body: BodyMode::Off, ..FingerprintSettings::default() }),
        ),
        (
            rules().steps().recovery(Recovery::Hold),
            ["`steps`", "`recovery` is hold"],
            rules().recovery(Recovery::Hold).steps(),
        ),
        (rules().steps().fail_open(), ["`steps`", "`fail_open`"], rules().fail_open()),
        (
            rules().answers(Answers::Tombstone).header_rules(cookies()),
            ["`answers` is tombstone", "`keep_set_cookie`"],
            rules().answers(Answers::Stored).header_rules(cookies()),
        ),
        (
            rules().answers(Answers::Reference).drop_no_store_bodies(),
            ["`answers` is reference", "`drop_no_store_bodies`"],
            rules().answers(Answers::Stored).drop_no_store_bodies(),
        ),
    ];
    for (refused, named, taken) in pairs {
        let said = refused.build().map(drop).unwrap_err().to_string();
        assert!(named.iter().all(|name| said.contains(name)), "{named:?}: {said}");
        let taken = taken.build().map(drop);
        assert!(taken.is_ok(), "beside {named:?}: {taken:?}");
    }
}

#[test]
fn a_value_that_means_nothing_is_named() {
    let rules = Policy::builder;
    for (refused, named) in [
        (rules().namespace(""), "`namespace`"),
        (rules().methods([]), "`methods`"),
        (rules().methods([Method::GET]), "`methods` names GET"),
        (rules().lease(SECOND / 11), "`lease` is 90"),
        (rules().body_limit(0), "`body_limit`"),
        (rules().capture_limit(0), "`capture_limit`"),
        (rules().body_within(Duration::ZERO), "`body_within`"),
        (rules().capture_for(Duration::ZERO), "`capture_for`"),
        (rules().broken_status(StatusCode::OK), "`broken_status` is 200"),
        (rules().key_field(HeaderName::from_static("idempotency-fence")), "`key_field`"),
        (rules().quota(Quota { records: Some(0), bytes: None }), "`quota.records` is 0"),
    ] {
        let said = refused.build().map(drop).unwrap_err().to_string();
        assert!(said.contains(named), "{named}: {said}");
    }
}

/// What looks like a contradiction and is none: 500 is then told as unknown, and may run again once the lease is over, as
/// 504 does under any rule.
#[test]
fn a_careful_route_may_take_over() {
    assert!(Policy::builder().keep(Keep::careful()).recovery(Recovery::Takeover).build().is_ok());
}
