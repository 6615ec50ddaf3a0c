//! Profiles: the rules, the statuses and the errors of a known API, so that its clients feel at home.
//!
//! What a provider documents is data here: `core/tests/data/profiles.json` is where it was taken from, and a test holds
//! the two together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::headers::Marker;
use super::keep::{Class, Keep};
use super::{Policy, PolicyBuilder};
use crate::problem::{Code, Problem, grpc};

mod stripe;

/// A known API's way with keys. One of [`Profile::ALL`].
#[derive(Clone, Copy)]
pub struct Profile(&'static Facts);

/// What a provider documents. A field is one of `profiles.json`.
struct Facts {
    name: &'static str,
    /// `carrier.header`, in lower case.
    field: &'static str,
    /// `key.max`, in characters.
    max_len: usize,
    /// `methods`.
    methods: &'static [Method],
    /// `ttl_seconds`: how long a key is remembered, and its answer with it.
    life: Duration,
    /// `mismatch`.
    mismatch: Refusal,
    /// `in_flight`.
    in_flight: Refusal,
    /// `replay_marker`.
    marker: Option<(&'static str, &'static str)>,
    /// `store` and `not_stored`.
    store: Store,
    /// `envelope`.
    envelope: Envelope,
}

/// How a refusal is told: its status, and its error's `type` and `code` where they are documented.
struct Refusal {
    status: StatusCode,
    kind: Option<&'static str>,
    code: Option<&'static str>,
}

/// Which answers are kept.
enum Store {
    /// `all-after-begin-incl-5xx`, but for these statuses.
    AllBut(&'static [StatusCode]),
}

/// How errors are rendered.
enum Envelope {
    /// `stripe`.
    Stripe,
}

static STRIPE_V1: Facts = Facts {
    name: "stripe-v1",
    field: "idempotency-key",
    max_len: 255,
    methods: &[Method::POST],
    life: Duration::from_hours(24),
    mismatch: Refusal { status: StatusCode::BAD_REQUEST, kind: Some("idempotency_error"), code: None },
    in_flight: Refusal { status: StatusCode::CONFLICT, kind: None, code: Some("idempotency_key_in_use") },
    marker: Some(("idempotent-replayed", "true")),
    store: Store::AllBut(&[StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED]),
    envelope: Envelope::Stripe,
};

impl Profile {
    /// Those there are.
    pub const ALL: [Self; 1] = [Self(&STRIPE_V1)];

    /// Its name, as settings write it.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// The provider's rules over these: the key's field and length, the methods, which answers are kept and for how
    /// long, the mark of a replay, and how errors are told.
    ///
    /// Whatever a provider does not document stays as it is: scope, fingerprint, recovery, limits.
    #[must_use]
    pub fn over(self, mut rules: PolicyBuilder) -> PolicyBuilder {
        let facts = self.0;
        rules.key.field = HeaderName::from_static(facts.field);
        rules.key.max_len = facts.max_len;
        rules.methods = facts.methods.to_vec();
        (rules.retention.body, rules.retention.record) = (facts.life, facts.life);
        rules.keep = facts.keep();
        if let Some((name, value)) = facts.marker {
            rules.headers.marker =
                Marker { name: HeaderName::from_static(name), value: HeaderValue::from_static(value) };
        }
        rules.profile = Some(self);
        rules
    }

    fn render(self, problem: &Problem, policy: &Policy) -> Response<Bytes> {
        let facts = self.0;
        let mut problem = problem.clone();
        let refusal = match problem.code {
            Code::KeyReused => Some(&facts.mismatch),
            Code::InFlight => Some(&facts.in_flight),
            _ => None,
        };
        if let Some(refusal) = refusal {
            problem.status = refusal.status;
        }
        match facts.envelope {
            Envelope::Stripe => stripe::render(&problem, refusal, &policy.docs),
        }
    }
}

impl Policy {
    /// A problem as this route tells it: as its profile does, or else as the request asks ([`Problem::render`]). A call
    /// of gRPC gets a status, whatever the profile.
    pub fn render(&self, problem: &Problem, request_headers: &HeaderMap) -> Response<Bytes> {
        match self.profile {
            Some(profile) if !grpc::is_asked(request_headers) => profile.render(problem, self),
            _ => problem.render(request_headers, &self.docs),
        }
    }
}

impl Facts {
    fn keep(&self) -> Keep {
        match self.store {
            // What a proxy or a redirect says is about the exchange, whatever the provider keeps.
            Store::AllBut(not) => Keep::from_fn(self.name, move |status, _| match status.as_u16() {
                307 | 308 => Class::Forget,
                407 | 426 => Class::Release,
                _ if not.contains(&status) => Class::Release,
                _ => Class::Store,
            }),
        }
    }
}

/// No profile has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such profile; there is: stripe-v1")]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.name() == text).ok_or(UnknownProfile)
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Profile {}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// A profile that left the page it was taken from serves an API that is nobody's.
    #[test]
    fn every_profile_is_as_its_provider_documents_it() {
        let pages: Value = serde_json::from_str(include_str!("../../../tests/data/profiles.json")).unwrap();
        for Profile(facts) in Profile::ALL {
            let page = pages["profiles"].as_array().unwrap().iter().find(|page| page["name"] == facts.name);
            let page = page.unwrap();
            let text = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
            assert_eq!(text(&page["carrier"]["header"]).as_deref(), Some(facts.field));
            assert_eq!(page["key"]["max"].as_u64(), Some(facts.max_len as u64));
            let methods: Vec<_> = facts.methods.iter().map(Method::as_str).collect();
            assert_eq!(page["methods"], Value::from(methods));
            assert_eq!(page["ttl_seconds"].as_u64(), Some(facts.life.as_secs()));
            for (page, refusal) in
                [(&page["mismatch"], &facts.mismatch), (&page["in_flight"], &facts.in_flight)]
            {
                assert_eq!(page["status"].as_u64(), Some(refusal.status.as_u16().into()));
                assert_eq!(page["type"].as_str(), refusal.kind);
                assert_eq!(page["code"].as_str(), refusal.code);
            }
            let (name, value) = facts.marker.unzip();
            assert_eq!(text(&page["replay_marker"]["name"]).as_deref(), name);
            assert_eq!(page["replay_marker"]["value"].as_str(), value);
            let Store::AllBut(not) = &facts.store;
            assert_eq!(page["store"], "all-after-begin-incl-5xx");
            let numbers = page["not_stored"].as_array().unwrap().iter().filter_map(Value::as_u64);
            assert!(numbers.eq(not.iter().map(|status| u64::from(status.as_u16()))));
            let Envelope::Stripe = facts.envelope;
            assert_eq!(page["envelope"], "stripe");
        }
    }

    #[test]
    fn a_profile_is_found_by_its_name_and_makes_rules_that_hold() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
            let policy = profile.over(PolicyBuilder::default()).build().unwrap();
            assert_eq!(policy.profile, Some(profile));
        }
        let error = "stripe".parse::<Profile>().unwrap_err().to_string();
        assert!(Profile::ALL.iter().all(|profile| error.contains(profile.name())), "{error}");
    }

    #[test]
    fn stripe_keeps_errors_but_not_what_is_about_credentials_or_load() {
        let keep = STRIPE_V1.keep();
        for (status, class) in [
            (200, Class::Store),
            (400, Class::Store),
            (402, Class::Store),
            (409, Class::Store),
            (500, Class::Store),
            (503, Class::Store),
            (401, Class::Release),
            (429, Class::Release),
            (308, Class::Forget),
            (504, Class::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(keep.classify(status, &HeaderMap::new(), None), class, "{status}");
        }
    }
}
