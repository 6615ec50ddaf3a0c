//! The request's head: whether it is guarded, its key, who asks, and its body up to the limit.

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::asker::{Asker, Rejection};
use super::claim::Claiming;
use crate::fingerprint::{BodyHasher, RequestHead};
use crate::identity::Secret;
use crate::key::{Key, KeyFormat};
use crate::policy::headers::{IDEMPOTENCY_ATTEMPT, IDEMPOTENCY_FENCE};
use crate::policy::{HeaderRules, Policy, Requirement};
use crate::problem::{Code, Problem};
use crate::record::{ClaimId, Timestamp};
use crate::scope::{Principal, ScopeError};
use crate::store::Begin;

/// How far ahead of our clock a key may have been minted (UUIDv7).
pub(crate) const AHEAD: std::time::Duration = std::time::Duration::from_mins(5);

/// A request extension that opts this one request out: it passes through unguarded, key or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass;

/// What becomes of a request by its head.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a host has to do each of them")]
pub enum Admission {
    /// Not guarded: pass it through untouched.
    Bypass,
    /// Refused, without waiting for its body.
    Reject(Rejection),
    /// Guarded: read its body.
    Buffer(Buffering),
}

/// Judges a request by its head. Removes the fields that only Semel may set, whether it is guarded or not.
///
/// A [`Policy`] in the request's extensions stands for the route's; [`Bypass`] there opts it out.
pub fn admit(route: &Policy, parts: &mut Parts) -> Admission {
    let behind_another = HeaderRules::clean_request(&mut parts.headers);
    let policy = parts.extensions.get::<Policy>().unwrap_or(route);
    if !policy.guards(&parts.method, parts.uri.path()) || parts.extensions.get::<Bypass>().is_some() {
        return Admission::Bypass;
    }
    match head(policy, parts, behind_another) {
        Ok(Some(buffering)) => Admission::Buffer(buffering),
        Ok(None) => Admission::Bypass,
        Err(rejection) => Admission::Reject(rejection),
    }
}

/// The first of `fields` that a `Connection` field names: a hop on the way would remove it.
fn nominated<'a>(
    headers: &HeaderMap,
    fields: impl IntoIterator<Item = &'a HeaderName>,
) -> Option<&'a HeaderName> {
    if !headers.contains_key(CONNECTION) {
        return None;
    }
    fields.into_iter().find(|field| HeaderRules::names_in_connection(headers, field))
}

fn head(policy: &Policy, parts: &Parts, behind_another: bool) -> Result<Option<Buffering>, Rejection> {
    let headers = &parts.headers;
    let named =
        |field: &HeaderName| format!("The Connection header names {field}, so a proxy would remove it.");
    if let Some(field) = nominated(headers, [&policy.key.field]) {
        let problem = Problem::new(Code::KeyInvalid).with_detail(named(field));
        return Err(Asker::new(policy, headers).reject(problem));
    }
    let key = match policy.key.parse(headers) {
        Ok(Some(key)) => key,
        Ok(None) if policy.requirement == Requirement::Optional => return Ok(None),
        Ok(None) => {
            let problem = Problem::new(Code::KeyMissing)
                .with_detail(format!("This operation requires the {} header.", policy.key.field));
            return Err(Asker::new(policy, headers).reject(problem));
        }
        Err(error) => {
            let problem = Problem::new(Code::KeyInvalid).with_detail(error.to_string());
            return Err(Asker::new(policy, headers).reject(problem));
        }
    };
    let mut asker = Asker::new(policy, headers);
    asker.key = Some(key.clone());
    asker.behind_another = behind_another;
    // The application must see what was judged here, and the fence that tells an older run from a newer one.
    if let Some(field) = nominated(headers, &[IDEMPOTENCY_ATTEMPT, IDEMPOTENCY_FENCE]) {
        return Err(asker.reject(Problem::new(Code::KeyInvalid).with_detail(named(field))));
    }
    if let Some(field) = nominated(headers, policy.scope.fields()) {
        return Err(asker.reject(Problem::new(Code::PrincipalMissing).with_detail(named(field))));
    }
    let principal = policy.scope.principal(parts, &key).map_err(|error| {
        let code = match error {
            ScopeError::Missing { .. } => Code::PrincipalMissing,
            ScopeError::WeakKey => Code::KeyInvalid,
        };
        asker.reject(Problem::new(code).with_detail(error.to_string()))
    })?;
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let hasher = BodyHasher::new(&policy.fingerprint, headers);
    let buffering = Buffering { asker, key, principal, hasher, declared, read: 0 };
    match declared {
        Some(length) if !buffering.fits(length) => Err(buffering.too_large()),
        _ => Ok(Some(buffering)),
    }
}

/// A guarded request whose body is being read. Nothing is claimed yet.
#[derive(Debug)]
#[must_use]
pub struct Buffering {
    pub(super) asker: Asker,
    key: Key,
    principal: Principal,
    hasher: BodyHasher,
    declared: Option<u64>,
    read: usize,
}

impl Buffering {
    /// The rules it is judged by.
    pub fn policy(&self) -> &Policy {
        &self.asker.policy
    }

    /// The bytes its head declared.
    pub fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Hashes a chunk as it arrives. `false`: the body is larger than the limit, stop and call
    /// [`too_large`](Self::too_large).
    #[must_use]
    pub fn chunk(&mut self, chunk: &[u8]) -> bool {
        self.read = self.read.saturating_add(chunk.len());
        if self.read > self.asker.policy.body_limit {
            return false;
        }
        self.hasher.update(chunk);
        true
    }

    fn fits(&self, length: u64) -> bool {
        usize::try_from(length).is_ok_and(|length| length <= self.asker.policy.body_limit)
    }

    /// Larger than the limit.
    pub fn too_large(self) -> Rejection {
        let problem = Problem::new(Code::ContentTooLarge).with_detail(format!(
            "The body of a guarded request may have {} bytes here.",
            self.asker.policy.body_limit
        ));
        self.asker.reject(problem)
    }

    /// The body ended before it was whole.
    pub fn incomplete(self) -> Rejection {
        self.asker.reject_code(Code::BodyIncomplete)
    }

    /// The body did not arrive in time.
    pub fn too_slow(self) -> Rejection {
        self.asker.reject_code(Code::BodyTooSlow)
    }

    /// There is no room for it now: too many bytes or runs under way.
    pub fn overloaded(self) -> Rejection {
        self.asker.reject_code(Code::Overloaded).retry_after(std::time::Duration::from_secs(1))
    }

    /// Its peer has as many claims under way as it may.
    pub fn over_quota(self) -> Rejection {
        self.asker.reject_code(Code::QuotaExceeded).retry_after(std::time::Duration::from_secs(1))
    }

    /// The body is whole: what to claim.
    ///
    /// `claim` has to be new and random; `now` is the caller's wall clock, against which only keys minted in
    /// the future are judged.
    ///
    /// # Errors
    ///
    /// A key that says it was minted more than five minutes from now is refused.
    pub fn finish(
        self,
        secret: &Secret,
        parts: &Parts,
        body: &[u8],
        claim: ClaimId,
        now: Timestamp,
    ) -> Result<Claiming, Rejection> {
        let Self { asker, key, principal, hasher, .. } = self;
        let policy = asker.policy.clone();
        let minted = match policy.key.format {
            KeyFormat::UuidV7 => key.minted(),
            _ => None,
        };
        if minted.is_some_and(|minted| minted > now.plus(AHEAD)) {
            let problem = Problem::new(Code::KeyInvalid).with_detail(
                "The key says that it was minted more than five minutes from now: check the clock.",
            );
            return Err(asker.reject(problem));
        }
        let digest = hasher.finish(body);
        let head = request_head(parts);
        let endpoint = policy.endpoint_scope.then_some((&parts.method, head.path));
        let begin = Box::new(Begin {
            id: secret.record_id(&policy.namespace, principal.stable(), endpoint, key.as_str()),
            fingerprint: policy.fingerprint.fingerprint(secret, &head, &digest),
            settings: policy.settings().clone(),
            principal: principal.tag(secret),
            claim,
            lease_for: policy.lease,
            recovery: policy.recovery,
            retention: policy.retention,
            minted,
            quota: policy.quota,
            request: None,
        });
        Ok(Claiming::new(asker, key, begin))
    }
}

/// The parts of a request that its fingerprint covers.
pub(super) fn request_head(parts: &Parts) -> RequestHead<'_> {
    let authority = parts
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()));
    RequestHead {
        method: &parts.method,
        authority,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    }
}
