//! The rules of a route: which requests are guarded, who asks, which answers are kept, and the limits.

mod answers;
mod check;
pub mod headers;
pub mod keep;
mod paths;
pub mod profile;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::fingerprint::FingerprintSettings;
use crate::key::KeyRules;
use crate::problem::Docs;
use crate::record::{Recovery, Retention, Settings};
use crate::scope::Scope;
use crate::store::Quota;

pub use answers::Answers;
pub use headers::HeaderRules;
pub use keep::Keep;
pub use paths::Paths;
pub use profile::Profile;

/// The rules of a route, checked.
///
/// Made from a [`PolicyBuilder`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    rules: PolicyBuilder,
    settings: Settings,
}

impl std::ops::Deref for Policy {
    type Target = PolicyBuilder;

    fn deref(&self) -> &PolicyBuilder {
        &self.0.rules
    }
}

impl Policy {
    /// Rules with every default.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// The fingerprint's settings in short text, as they travel with each record.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How often a lease is renewed: three times within its length.
    pub fn renew_every(&self) -> Duration {
        self.lease / 3
    }

    /// Whether requests of this method to this path are guarded; one without a key may pass even so. The path is as it is
    /// sent, without the query.
    pub fn guards(&self, method: &Method, path: &str) -> bool {
        self.methods_cover(method) && self.paths.cover(path)
    }

    /// Methods are case-sensitive (RFC 9110, section 9.1), but many applications take `patch`, which some clients
    /// send, for PATCH: a name that differs in nothing else is guarded as well.
    fn methods_cover(&self, method: &Method) -> bool {
        let name = method.as_str();
        self.methods.contains(method)
            || (name.bytes().any(|letter| letter.is_ascii_lowercase())
                && self.methods.iter().any(|guarded| guarded.as_str().eq_ignore_ascii_case(name)))
    }
}

/// The rules of a route, as they are being written. Every field has a default that is safe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PolicyBuilder {
    /// The service's name. It is part of every identity: two applications on one store need two names.
    /// Default `default`.
    pub namespace: Arc<str>,
    /// Methods that are guarded. Default POST and PATCH.
    pub methods: Vec<Method>,
    /// Paths that are guarded. Default all.
    pub paths: Paths,
    /// Whether a guarded request without a key is refused. Default: it passes through.
    pub requirement: Requirement,
    /// The key's field, syntax, format and length.
    pub key: KeyRules,
    /// Who asks.
    pub scope: Scope,
    /// Whether method and path join the identity, for APIs whose keys are per endpoint. Default: no.
    pub endpoint_scope: bool,
    /// What makes two requests the same.
    pub fingerprint: FingerprintSettings,
    /// Which answers are kept.
    pub keep: Keep,
    /// What is kept of them.
    pub answers: Answers,
    /// Which fields are stored and replayed.
    pub headers: HeaderRules,
    /// Whether the body of an answer with `Cache-Control: no-store` is dropped. The key is used all the same.
    pub drop_no_store_bodies: bool,
    /// What happens when a run ends without an answer.
    pub recovery: Recovery,
    /// How often a run whose transaction met others is run again in place. Default 0. Transactional routes only.
    pub reruns: u32,
    /// Whether handlers may have [`steps`](crate::steps). Default: no.
    pub steps: bool,
    /// How long a claim is held without renewal. Default 30 s.
    pub lease: Duration,
    /// How long a run is renewed. Default 10 min.
    pub max_run: Duration,
    /// The largest request body, in bytes. Default 1 MiB.
    pub body_limit: usize,
    /// How long a request body may take to arrive. Default 30 s.
    pub body_within: Duration,
    /// The largest answer body that is kept, in bytes. Default 1 MiB.
    pub capture_limit: usize,
    /// How long an answer's body may take to be captured. Default 10 s.
    pub capture_for: Duration,
    /// How long records live.
    pub retention: Retention,
    /// Whether a duplicate waits for the original.
    pub wait: Wait,
    /// What happens while the store cannot take a claim.
    pub on_store_failure: OnStoreFailure,
    /// The status for a client whose run broke off: 500, or 502 before an upstream. Default 500.
    pub broken_status: StatusCode,
    /// How much one principal may keep.
    pub quota: Option<Quota>,
    /// Where the problem types are documented.
    pub docs: Docs,
    /// The known API whose way to tell errors is followed. Default none: RFC 9457. Set by [`Profile::over`] with all
    /// that belongs to it.
    pub profile: Option<Profile>,
}

/// Whether a guarded request needs a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a request either needs a key or it does not")]
pub enum Requirement {
    /// A request without a key passes through unguarded.
    #[default]
    Optional,
    /// A request without a key is refused with `key-missing`.
    Required,
}

/// What a duplicate does while the original runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long every duplicate waits. Zero: it is told `in-flight` at once. Default zero.
    pub default: Duration,
    /// How long a client may ask to wait with `Prefer: wait=N` (RFC 7240, section 4.3). Default zero.
    pub prefer_up_to: Duration,
    /// How many may wait for one record. Default 64.
    pub per_key: usize,
}

impl Default for Wait {
    fn default() -> Self {
        Self { default: Duration::ZERO, prefer_up_to: Duration::ZERO, per_key: 64 }
    }
}

/// What happens to a request while the store cannot take its claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a request is refused or run")]
pub enum OnStoreFailure {
    /// It is refused with `store-unavailable`. Nothing runs.
    #[default]
    FailClosed,
    /// It runs unguarded: a duplicate may run twice. Counted and logged.
    FailOpen,
}

/// Two settings that cannot both hold, or one that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    message: String,
}

impl Default for PolicyBuilder {
    fn default() -> Self {
        Self {
            namespace: Arc::from("default"),
            methods: vec![Method::POST, Method::PATCH],
            paths: Paths::default(),
            requirement: Requirement::default(),
            key: KeyRules::default(),
            scope: Scope::default(),
            endpoint_scope: false,
            fingerprint: FingerprintSettings::default(),
            keep: Keep::default(),
            answers: Answers::default(),
            headers: HeaderRules::default(),
            drop_no_store_bodies: false,
            recovery: Recovery::default(),
            reruns: 0,
            steps: false,
            lease: Duration::from_secs(30),
            max_run: Duration::from_mins(10),
            body_limit: 1024 * 1024,
            body_within: Duration::from_secs(30),
            capture_limit: 1024 * 1024,
            capture_for: Duration::from_secs(10),
            retention: Retention::default(),
            wait: Wait::default(),
            on_store_failure: OnStoreFailure::default(),
            broken_status: StatusCode::INTERNAL_SERVER_ERROR,
            quota: None,
            docs: Docs::default(),
            profile: None,
        }
    }
}

/// Writes the setters of a policy once, for every builder that carries one: `$path` leads to it.
#[doc(hidden)]
#[macro_export]
macro_rules! policy_setters {
    ($self:ident => $path:expr) => {
        /// Names the service. Part of every identity; changing it makes every key new.
        #[must_use]
        pub fn namespace(mut $self, name: impl Into<::std::sync::Arc<str>>) -> Self {
            $path.namespace = name.into();
            $self
        }

        /// Guards these methods instead of POST and PATCH.
        #[must_use]
        pub fn methods(mut $self, methods: impl IntoIterator<Item = ::http::Method>) -> Self {
            $path.methods = methods.into_iter().collect();
            $self
        }

        /// Guards these [paths]($crate::policy::Paths) instead of all: a name that ends in `/` stands for all that is
        /// below it.
        #[must_use]
        pub fn only_paths<N: Into<String>>(mut $self, names: impl IntoIterator<Item = N>) -> Self {
            $path.paths = $crate::policy::Paths::Only(names.into_iter().map(Into::into).collect());
            $self
        }

        /// Guards all [paths]($crate::policy::Paths) but these: a name that ends in `/` stands for all that is below it.
        #[must_use]
        pub fn except_paths<N: Into<String>>(mut $self, names: impl IntoIterator<Item = N>) -> Self {
            $path.paths = $crate::policy::Paths::Except(names.into_iter().map(Into::into).collect());
            $self
        }

        /// Refuses a guarded request that carries no key (draft section 2.7: 400).
        #[must_use]
        pub fn require_key(mut $self) -> Self {
            $path.requirement = $crate::policy::Requirement::Required;
            $self
        }

        /// Refuses bare keys: the field has to be a Structured Field String (draft section 2.1).
        #[must_use]
        pub fn strict_keys(mut $self) -> Self {
            $path.key.syntax = $crate::key::KeySyntax::Strict;
            $self
        }

        /// Refuses keys of another format.
        #[must_use]
        pub fn key_format(mut $self, format: $crate::key::KeyFormat) -> Self {
            $path.key.format = format;
            $self
        }

        /// Reads the key from another field.
        #[must_use]
        pub fn key_field(mut $self, field: ::http::HeaderName) -> Self {
            $path.key.field = field;
            $self
        }

        /// Says who asks.
        #[must_use]
        pub fn scope(mut $self, scope: $crate::scope::Scope) -> Self {
            $path.scope = scope;
            $self
        }

        /// Makes method and path part of the identity: the same key on another endpoint is another key.
        #[must_use]
        pub fn endpoint_scope(mut $self) -> Self {
            $path.endpoint_scope = true;
            $self
        }

        /// Says what makes two requests the same.
        #[must_use]
        pub fn fingerprint(mut $self, settings: $crate::fingerprint::FingerprintSettings) -> Self {
            $path.fingerprint = settings;
            $self
        }

        /// Chooses which answers are kept.
        #[must_use]
        pub fn keep(mut $self, keep: $crate::policy::Keep) -> Self {
            $path.keep = keep;
            $self
        }

        /// Chooses what is kept of an answer: the answer itself, a reference to make it again from, or the fact.
        #[must_use]
        pub fn answers(mut $self, answers: $crate::policy::Answers) -> Self {
            $path.answers = answers;
            $self
        }

        /// Chooses which fields are stored and replayed.
        #[must_use]
        pub fn header_rules(mut $self, rules: $crate::policy::HeaderRules) -> Self {
            $path.headers = rules;
            $self
        }

        /// Drops the stored body of answers that say `Cache-Control: no-store`; a retry of one is told
        /// `replay-unavailable`.
        #[must_use]
        pub fn drop_no_store_bodies(mut $self) -> Self {
            $path.drop_no_store_bodies = true;
            $self
        }

        /// Chooses what happens when a run ends without an answer.
        #[must_use]
        pub fn recovery(mut $self, recovery: $crate::record::Recovery) -> Self {
            $path.recovery = recovery;
            $self
        }

        /// Runs the handler of a transactional route again, at most so often, when its transaction met others: a
        /// serialization failure, a deadlock, or an answer that says [`Override::conflict`](
        /// $crate::engine::Override::conflict). Only where the handler has no effect outside its transaction. Default
        /// 0: the client is told to try again.
        #[must_use]
        pub fn reruns(mut $self, most: u32) -> Self {
            $path.reruns = most;
            $self
        }

        /// Gives handlers [`steps`]($crate::steps): effects outside the database, each recorded before the next begins.
        /// Sets `recovery` to takeover, for only another attempt can go on where one broke off.
        #[must_use]
        pub fn steps(mut $self) -> Self {
            $path.steps = true;
            $path.recovery = $crate::record::Recovery::Takeover;
            $self
        }

        /// How long a claim is held without renewal. Default 30 s.
        #[must_use]
        pub fn lease(mut $self, lease: ::std::time::Duration) -> Self {
            $path.lease = lease;
            $self
        }

        /// How long a run is renewed, and its client kept waiting. Default 10 min.
        #[must_use]
        pub fn max_run(mut $self, max_run: ::std::time::Duration) -> Self {
            $path.max_run = max_run;
            $self
        }

        /// The largest request body, in bytes. Default 1 MiB; larger ones are refused with 413.
        #[must_use]
        pub fn body_limit(mut $self, bytes: usize) -> Self {
            $path.body_limit = bytes;
            $self
        }

        /// How long a request body may take to arrive. Default 30 s; slower ones are refused with 408.
        #[must_use]
        pub fn body_within(mut $self, within: ::std::time::Duration) -> Self {
            $path.body_within = within;
            $self
        }

        /// The largest answer body that is kept, in bytes. Default 1 MiB.
        #[must_use]
        pub fn capture_limit(mut $self, bytes: usize) -> Self {
            $path.capture_limit = bytes;
            $self
        }

        /// How long an answer's body may take to be captured. Default 10 s.
        #[must_use]
        pub fn capture_for(mut $self, within: ::std::time::Duration) -> Self {
            $path.capture_for = within;
            $self
        }

        /// How long records live. Default: bodies 24 h, records 7 days, released ones 10 min.
        #[must_use]
        pub fn retention(mut $self, retention: $crate::record::Retention) -> Self {
            $path.retention = retention;
            $self
        }

        /// Holds every duplicate up to this long until the original ends. Default: none is held.
        #[must_use]
        pub fn wait(mut $self, wait: ::std::time::Duration) -> Self {
            $path.wait.default = wait;
            $self
        }

        /// Holds a duplicate that asks with `Prefer: wait=N` (RFC 7240) up to this long. Default: none is held.
        #[must_use]
        pub fn prefer_wait(mut $self, up_to: ::std::time::Duration) -> Self {
            $path.wait.prefer_up_to = up_to;
            $self
        }

        /// Runs requests unguarded while the store cannot take claims. A duplicate may then run twice.
        #[must_use]
        pub fn fail_open(mut $self) -> Self {
            $path.on_store_failure = $crate::policy::OnStoreFailure::FailOpen;
            $self
        }

        /// The status for a client whose run broke off. Default 500; a gateway says 502.
        #[must_use]
        pub fn broken_status(mut $self, status: ::http::StatusCode) -> Self {
            $path.broken_status = status;
            $self
        }

        /// Limits what one principal may keep.
        #[must_use]
        pub fn quota(mut $self, quota: $crate::store::Quota) -> Self {
            $path.quota = Some(quota);
            $self
        }

        /// Follows a known API: sets what its profile says, over what was set before.
        #[must_use]
        pub fn profile(mut $self, profile: $crate::policy::Profile) -> Self {
            $path = profile.over($path);
            $self
        }

        /// Where the problem types are documented.
        #[must_use]
        pub fn docs(mut $self, docs: $crate::problem::Docs) -> Self {
            $path.docs = docs;
            $self
        }
    };
}

impl PolicyBuilder {
    policy_setters!(self => self);

    /// Checks the rules against each other.
    ///
    /// # Errors
    ///
    /// Names the settings that contradict each other and what to change.
    pub fn build(self) -> Result<Policy, PolicyError> {
        check::rules(&self).map_err(|message| PolicyError { message })?;
        let settings = self.fingerprint.to_settings();
        Ok(Policy(Arc::new(Checked { rules: self, settings })))
    }
}
