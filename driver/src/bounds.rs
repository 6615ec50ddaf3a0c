//! Whether a route's rules hold together with what all routes share, and with the store.

use semel_core::policy::{OnStoreFailure, Policy};
use semel_core::store::Capabilities;

use crate::budget::Limits;
use crate::idempotency::BuildError;

/// Two settings that cannot both hold, or one that means nothing. The text names them with their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Contradiction(String);

impl Contradiction {
    pub(crate) fn nothing(setting: &str) -> Self {
        Self(format!("`{setting}` is 0, so nothing could ever be done: raise it"))
    }
}

/// What all routes share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    pub(crate) waiters: usize,
}

impl Bounds {
    pub(crate) fn make_sense(&self) -> Result<(), Contradiction> {
        let Limits { runs, detached, per_peer, .. } = self.limits;
        for (setting, most) in
            [("max_runs", Some(runs)), ("max_detached", Some(detached)), ("max_per_peer", per_peer)]
        {
            if most == Some(0) {
                return Err(Contradiction::nothing(setting));
            }
        }
        Ok(())
    }

    /// A stored body larger than the store takes is refused as a setting, and a request that would never be admitted.
    pub(crate) fn fit(
        &self,
        store: &Capabilities,
        policy: &Policy,
        transactional: bool,
    ) -> Result<(), BuildError> {
        let limit = policy.capture_limit;
        if let Some(most) = store.max_body
            && limit as u64 > most
        {
            return Err(BuildError::StoreTakesLess { store: store.name, limit, most });
        }
        self.contradiction(policy, transactional).map_or(Ok(()), |text| Err(Contradiction(text).into()))
    }

    fn contradiction(&self, policy: &Policy, transactional: bool) -> Option<String> {
        let bytes = self.limits.bytes;
        if policy.body_limit > bytes {
            return Some(format!(
                "`body_limit` ({} bytes) is more than `max_bytes_in_flight` ({bytes} bytes), which all requests share: one of \
                 that size would never be admitted; lower `body_limit`, or raise `max_bytes_in_flight`",
                policy.body_limit
            ));
        }
        if !policy.wait.default.is_zero() && self.waiters == 0 {
            return Some(format!(
                "`wait` is {:?}, but `max_waiters` is 0, so nobody could: raise `max_waiters`, or set no `wait`",
                policy.wait.default
            ));
        }
        if policy.reruns > 0 && !transactional {
            return Some(format!(
                "`reruns` ({}) is for runs whose transaction met others, but the route is not `transactional`: make it so, or \
                 drop `reruns`",
                policy.reruns
            ));
        }
        if transactional && policy.on_store_failure == OnStoreFailure::FailOpen {
            return Some(
                "`fail_open` runs requests without a claim, but the handler of a `transactional` route gets its transaction \
                 with one: drop one of them"
                    .to_owned(),
            );
        }
        None
    }
}
