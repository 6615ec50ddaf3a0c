//! The claim: what the store's answer means for the request.

use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;

use super::admit::request_head;
use super::asker::{Asker, Rejection, Replay};
use super::rederive::{Rederiving, Shown};
use super::run::Running;
use crate::fingerprint::FingerprintSettings;
use crate::identity::Secret;
use crate::key::Key;
use crate::policy::OnStoreFailure;
use crate::problem::{Code, Problem};
use crate::record::Recovery;
use crate::store::{Acquired, Begin, Begun, Differs, StoreError, StoreErrorKind};

/// A deploy changes the fingerprint's settings once; a record that goes on changing under us is contended.
const ROUNDS: u8 = 4;

/// A claim to be sent to the store.
#[derive(Clone, Debug)]
#[must_use]
pub struct Claiming {
    asker: Asker,
    key: Key,
    begin: Box<Begin>,
    rounds: u8,
    /// The store has answered before, so there is a record.
    known: bool,
    /// Set when the record was first found in flight.
    budget: Option<Duration>,
}

/// What the store's answer means.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Decision {
    /// It is ours: run the handler.
    Run(Running),
    /// It was done before: send this.
    Replay(Box<Replay>),
    /// It was done before, and the application can make its answer again.
    Rederive(Box<Rederiving>),
    /// Refused.
    Reject(Rejection),
    /// Somebody else runs it: wait for a change, then ask again.
    Wait(Box<Waiting>),
    /// Ask again at once, with the fingerprint as the record's own settings make it.
    AskAgain(Box<Claiming>),
}

/// What becomes of a request whose claim the store could not take.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Unclaimed {
    /// Refused; nothing was run.
    Reject(Rejection),
    /// The route chose to run unguarded: a duplicate may run twice.
    RunUnguarded,
}

impl Claiming {
    pub(super) fn new(asker: Asker, key: Key, begin: Box<Begin>) -> Self {
        Self { asker, key, begin, rounds: 0, known: false, budget: None }
    }

    /// What to ask the store. Sending it again is safe: it carries its own claim id.
    pub fn ask(&self) -> &Begin {
        &self.begin
    }

    /// Judges the store's answer.
    ///
    /// `parts` and `body` are the request's, as they were when the fingerprint was made; `typical` is what runs
    /// of this route usually take, for `Retry-After`.
    pub fn answer(
        mut self,
        begun: Begun,
        secret: &Secret,
        parts: &Parts,
        body: &[u8],
        typical: Option<Duration>,
    ) -> Decision {
        self.rounds = self.rounds.saturating_add(1);
        self.known = true;
        match begun {
            Begun::Acquired(acquired) => Decision::Run(self.acquired(acquired)),
            Begun::Settled(record) => match self.asker.replay(&record) {
                Shown::Replay(replay) => Decision::Replay(Box::new(replay)),
                Shown::Rederive(rederiving) => Decision::Rederive(Box::new(rederiving)),
                Shown::Reject(rejection) => Decision::Reject(rejection),
            },
            Begun::Differs(differs) => self.differs(&differs, secret, parts, body),
            Begun::Held { remaining } => self.held(remaining, &parts.headers, typical),
            Begun::Unknown(view) => {
                Decision::Reject(self.asker.reject(Problem::outcome_unknown(view.recovery)))
            }
            Begun::Stale => Decision::Reject(self.in_flight(Duration::ZERO, typical)),
            Begun::Expired => Decision::Reject(self.asker.reject_code(Code::KeyExpired)),
            Begun::OverQuota => Decision::Reject(
                self.asker.reject_code(Code::QuotaExceeded).retry_after(self.begin.retention.released),
            ),
        }
    }

    /// The claim was granted.
    pub fn acquired(self, acquired: Acquired) -> Running {
        Running::new(self.asker, self.key, &self.begin, acquired)
    }

    /// The store could not answer, and asking again did not help.
    pub fn failed(self, error: &StoreError) -> Unclaimed {
        // A record that is there but cannot be read is no reason to run: it may say "done". Neither is one that
        // was seen before the store failed: the original runs, or ran.
        let nothing_known =
            !self.known && !matches!(error.kind(), StoreErrorKind::Undecodable | StoreErrorKind::NewerSchema);
        match self.asker.policy.on_store_failure {
            OnStoreFailure::FailOpen if nothing_known => Unclaimed::RunUnguarded,
            _ => Unclaimed::Reject(self.unavailable()),
        }
    }

    /// A store that claims, runs and settles in one transaction could not answer, and asking again did not help.
    pub fn uncommitted(self, error: &StoreError) -> Rejection {
        match error.kind() {
            // All of it was committed or nothing was, and the same key finds out.
            StoreErrorKind::Unavailable | StoreErrorKind::Timeout => {
                self.asker.outcome_unknown(self.asker.policy.broken_status, Recovery::Takeover)
            }
            _ => self.unavailable(),
        }
    }

    fn unavailable(&self) -> Rejection {
        self.asker.reject_code(Code::StoreUnavailable).retry_after(Duration::from_secs(1))
    }

    /// A deploy may have changed what the fingerprint covers since the record was made. The record is judged
    /// by the settings it was made with, in the same atomic comparison as before.
    fn differs(mut self, differs: &Differs, secret: &Secret, parts: &Parts, body: &[u8]) -> Decision {
        if differs.same_principal
            && differs.settings != self.begin.settings
            && let Some(stored) = differs.fingerprint
            && let Ok(settings) = FingerprintSettings::from_settings(&differs.settings)
            && settings.of_whole(secret, &request_head(parts), body) == stored
        {
            if self.rounds >= ROUNDS {
                return Decision::Reject(self.in_flight(Duration::ZERO, None));
            }
            self.begin.settings = differs.settings.clone();
            self.begin.fingerprint = stored;
            return Decision::AskAgain(Box::new(self));
        }
        Decision::Reject(self.asker.reject_code(Code::KeyReused))
    }

    fn held(mut self, remaining: Duration, headers: &HeaderMap, typical: Option<Duration>) -> Decision {
        let budget = match self.budget {
            Some(budget) => budget,
            None => self.wait_budget(headers),
        };
        self.budget = Some(budget);
        if budget.is_zero() {
            Decision::Reject(self.in_flight(remaining, typical))
        } else {
            Decision::Wait(Box::new(Waiting { claiming: self, budget, remaining, typical }))
        }
    }

    fn wait_budget(&mut self, headers: &HeaderMap) -> Duration {
        let wait = self.asker.policy.wait;
        if wait.prefer_up_to.is_zero() {
            return wait.default;
        }
        match preferred_wait(headers) {
            Some(asked) => {
                let granted = asked.min(wait.prefer_up_to.as_secs());
                self.asker.waits = Some(granted);
                Duration::from_secs(granted)
            }
            None => wait.default,
        }
    }

    /// `Retry-After`: when a run of this route is usually over, but not later than its lease.
    fn in_flight(&self, remaining: Duration, typical: Option<Duration>) -> Rejection {
        let second = Duration::from_secs(1);
        let after = typical.unwrap_or(second).min(remaining).max(second);
        self.asker.reject_code(Code::InFlight).retry_after(after)
    }
}

/// A duplicate that waits for its original. It holds no connection of the store.
#[derive(Debug)]
#[must_use]
pub struct Waiting {
    claiming: Claiming,
    budget: Duration,
    remaining: Duration,
    typical: Option<Duration>,
}

impl Waiting {
    /// How long it may wait in all, counted from its first wait.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// When the original's lease is over, unless it is renewed.
    pub fn lease_remaining(&self) -> Duration {
        self.remaining
    }

    /// How many may wait for one record.
    pub fn per_key(&self) -> usize {
        self.claiming.asker.policy.wait.per_key
    }

    /// The record it waits for.
    pub fn ask(&self) -> &Begin {
        &self.claiming.begin
    }

    /// Something may have changed: ask again.
    pub fn again(mut self) -> Claiming {
        self.claiming.rounds = 0;
        self.claiming
    }

    /// Its time is over, or too many wait already.
    pub fn give_up(self) -> Rejection {
        self.claiming.in_flight(self.remaining, self.typical)
    }
}

/// The seconds of `Prefer: wait=N` (RFC 7240, section 4.3). A field that does not parse is no preference.
fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).find_map(|line| {
        line.split(',').find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            value.trim().trim_matches('"').parse().ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefer_is_read_as_rfc_7240_writes_it() {
        let wait = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("prefer", http::HeaderValue::from_static(line));
            }
            preferred_wait(&headers)
        };
        assert_eq!(wait(&["wait=5"]), Some(5));
        assert_eq!(wait(&["respond-async, WAIT=10"]), Some(10));
        assert_eq!(wait(&["return=minimal", "wait = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["wait"]), None);
        assert_eq!(wait(&["wait=-1"]), None);
        assert_eq!(wait(&["waiting=3"]), None);
        assert_eq!(wait(&[]), None);
    }
}
