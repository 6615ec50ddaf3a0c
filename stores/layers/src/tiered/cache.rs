//! Completed records, for a while, within so many bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;
use semel_core::record::{Completion, Record, RecordId, State, StoredBody};
use semel_core::store::Begin;

use super::Tier;

/// Invalidations of so many groups of records are told apart.
const STRIPES: usize = 64;

#[derive(Debug)]
pub(super) struct Cache {
    records: Moka<RecordId, Arc<Cached>>,
    stripes: Box<[Mutex<Stripe>]>,
    tier: Tier,
}

/// Held while a record of the stripe is put in or taken out.
#[derive(Debug, Default)]
struct Stripe {
    /// How often one was invalidated.
    invalidations: u64,
    /// Calls under way that may change one.
    changing: usize,
}

#[derive(Debug)]
struct Cached {
    record: Record,
    asked: Duration,
    until: Duration,
    weight: u32,
}

/// Taken before the store is asked: its answer is kept only if nothing was invalidated meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Duration,
    invalidations: u64,
}

impl Cache {
    pub(super) fn new(tier: Tier) -> Self {
        let records = Moka::builder()
            .max_capacity(tier.max_bytes)
            .weigher(|_, cached: &Arc<Cached>| cached.weight)
            // What was asked for last is asked for again: retries come in bursts.
            .eviction_policy(EvictionPolicy::lru())
            // By moka's own clock, to give memory back; what may be answered is judged by `until`.
            .time_to_live(tier.max_age)
            .build();
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { records, stripes, tier }
    }

    /// The answer to a claim, where the contract's table says so for every store: completed, and made by an
    /// equal request of an equal principal.
    pub(super) fn answer(&self, ask: &Begin, now: Duration) -> Option<Record> {
        let cached = self.records.get(&ask.id)?;
        let view = &cached.record.view;
        let equal = view.fingerprint == Some(ask.fingerprint) && view.principal == ask.principal;
        if !equal || now >= cached.until {
            return None;
        }
        let mut record = cached.record.clone();
        record.view.now = view.now.plus(now.saturating_sub(cached.asked));
        Some(record)
    }

    pub(super) fn ask(&self, id: &RecordId, now: Duration) -> Asked {
        Asked { at: now, invalidations: self.stripe(id).invalidations }
    }

    /// Keeps what the store answered, from when it was asked, not from when the answer came.
    pub(super) fn keep(&self, asked: Asked, record: &Record) {
        let view = &record.view;
        let lives = view.expires.map_or(Duration::ZERO, |expires| expires.since(view.now));
        let good_for = lives.saturating_sub(self.tier.margin).min(self.tier.max_age);
        let weight = weigh(&record.completion, view.settings.len());
        let small = weight <= self.tier.max_entry;
        let Ok(weight) = u32::try_from(weight) else { return };
        if view.state != State::Completed || good_for.is_zero() || !small {
            return;
        }
        let until = asked.at.saturating_add(good_for);
        let cached = Arc::new(Cached { record: record.clone(), asked: asked.at, until, weight });
        let stripe = self.stripe(&view.id);
        if stripe.invalidations == asked.invalidations && stripe.changing == 0 {
            self.records.insert(view.id, cached);
        }
        drop(stripe);
        // Otherwise moka evicts only now and then, and meanwhile holds more than its bound.
        self.records.run_pending_tasks();
    }

    /// A call is about to be sent that may change the record. From here on it is not answered from the cache, nor kept:
    /// the change takes effect at the store before its own caller hears of it, and others may have seen it by then.
    pub(super) fn change(&self, id: RecordId) -> Change<'_> {
        let mut stripe = self.stripe(&id);
        stripe.changing += 1;
        stripe.invalidations = stripe.invalidations.wrapping_add(1);
        self.records.invalidate(&id);
        drop(stripe);
        Change(self, id)
    }

    #[cfg(test)]
    fn invalidate(&self, id: &RecordId) {
        drop(self.change(*id));
    }

    fn stripe(&self, id: &RecordId) -> MutexGuard<'_, Stripe> {
        // Ids are keyed hashes: any byte of them is evenly spread.
        let place = usize::from(id.as_bytes()[0]) % STRIPES;
        self.stripes[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.records.run_pending_tasks();
        self.records.weighted_size()
    }
}

/// A change under way. Dropped after the store's answer, and also where the caller stopped waiting for it: whoever asked
/// meanwhile may have been answered from before the change, so that is not kept either.
#[derive(Debug)]
#[must_use = "the change is under way for as long as this lives"]
pub(super) struct Change<'c>(&'c Cache, RecordId);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut stripe = self.0.stripe(&self.1);
        stripe.changing = stripe.changing.saturating_sub(1);
        stripe.invalidations = stripe.invalidations.wrapping_add(1);
    }
}

/// What a record and its place in the cache take, in bytes.
fn weigh(completion: &Completion, settings: usize) -> u64 {
    const RECORD: usize = 768;
    const FIELD: usize = 64;
    let fields = |map: &HeaderMap| -> usize {
        map.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum()
    };
    let mut bytes = RECORD + settings + completion.reference.as_ref().map_or(0, bytes::Bytes::len);
    if let Some(response) = &completion.response {
        bytes += fields(&response.headers) + response.trailers.as_ref().map_or(0, fields);
        bytes += response.origin.as_ref().map_or(0, http::HeaderValue::len);
        if let StoredBody::Kept(body) = &response.body {
            bytes += body.len();
        }
    }
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use semel_core::record::{
        ClaimId, Fence, Fingerprint, RecordView, Recovery, Retention, StoredResponse, Timestamp,
    };

    use super::*;

    fn record(n: u8, body: usize) -> Record {
        let response = StoredResponse {
            status: http::StatusCode::OK,
            headers: HeaderMap::new(),
            body: StoredBody::Kept(vec![n; body].into()),
            trailers: None,
            origin: None,
        };
        let view = RecordView {
            id: RecordId::from_bytes([n; 32]),
            state: State::Completed,
            fingerprint: Some(Fingerprint::from_bytes([1; 32])),
            settings: "v1".into(),
            principal: None,
            recovery: Recovery::Hold,
            attempt: 1,
            fence: Fence::new(1).unwrap(),
            claim: ClaimId::from_u128(1),
            lease_until: None,
            created: Timestamp::from_millis(0),
            changed: Timestamp::from_millis(0),
            expires: Some(Timestamp::from_millis(3_600_000)),
            status: Some(http::StatusCode::OK),
            body_bytes: body as u64,
            progress: None,
            now: Timestamp::from_millis(0),
        };
        Record { view, completion: Arc::new(Completion { response: Some(response), reference: None }) }
    }

    fn ask(n: u8) -> Begin {
        Begin {
            id: RecordId::from_bytes([n; 32]),
            fingerprint: Fingerprint::from_bytes([1; 32]),
            settings: "v1".into(),
            principal: None,
            claim: ClaimId::from_u128(2),
            lease_for: Duration::from_secs(30),
            recovery: Recovery::Hold,
            retention: Retention::default(),
            minted: None,
            quota: None,
            request: None,
        }
    }

    fn put(cache: &Cache, record: &Record, now: Duration) {
        cache.keep(cache.ask(&record.view.id, now), record);
    }

    // A cache that is bounded in entries is not bounded: one answer may weigh as much as ten thousand.
    #[test]
    fn it_never_holds_more_bytes_than_its_bound() {
        let cache = Cache::new(Tier::new().max_bytes(100_000));
        for n in 0..=255 {
            put(&cache, &record(n, 10_000), Duration::ZERO);
            assert!(cache.bytes() <= 100_000);
        }
        assert!(cache.bytes() > 50_000, "it holds hardly anything");
        assert!(cache.answer(&ask(255), Duration::ZERO).is_some(), "the newest is not there");
        assert!(cache.answer(&ask(0), Duration::ZERO).is_none());
    }

    // One answer that fills the cache drives all others out.
    #[test]
    fn an_answer_over_its_own_bound_is_not_kept() {
        let cache = Cache::new(Tier::new().max_entry(10_000));
        put(&cache, &record(1, 10_000), Duration::ZERO);
        put(&cache, &record(2, 5000), Duration::ZERO);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none());
        assert!(cache.answer(&ask(2), Duration::ZERO).is_some());
    }

    // The answer to an old question arrives after the record was deleted here: it must not come back.
    #[test]
    fn an_answer_from_before_an_invalidation_is_not_kept() {
        let cache = Cache::new(Tier::new());
        let record = record(1, 10);
        let asked = cache.ask(&record.view.id, Duration::ZERO);
        cache.invalidate(&record.view.id);
        cache.keep(asked, &record);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none());
        put(&cache, &record, Duration::ZERO);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_some());
    }

    // A deletion takes effect before its caller hears of it. Somebody who has seen that it did must not be shown the
    // record afterwards: neither one that was here before, nor one that was read before and arrives now.
    #[test]
    fn while_a_change_is_under_way_nothing_is_answered_or_kept() {
        let cache = Cache::new(Tier::new());
        let record = record(1, 10);
        put(&cache, &record, Duration::ZERO);
        let change = cache.change(record.view.id);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none(), "from before");
        let asked = cache.ask(&record.view.id, Duration::ZERO);
        cache.keep(asked, &record);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none(), "from meanwhile");
        drop(change);
        cache.keep(asked, &record);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none(), "asked meanwhile, answered afterwards");
        put(&cache, &record, Duration::ZERO);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_some());
    }

    // The store may be slow: an answer is as old as the question.
    #[test]
    fn it_ages_from_when_it_was_asked() {
        let cache = Cache::new(Tier::new());
        let record = record(1, 10);
        let asked = cache.ask(&record.view.id, Duration::from_secs(10));
        cache.keep(asked, &record);
        let replayed = cache.answer(&ask(1), Duration::from_secs(14)).unwrap();
        assert_eq!(replayed.view.now.since(record.view.now), Duration::from_secs(4));
        assert!(cache.answer(&ask(1), Duration::from_secs(15)).is_none());
    }

    // After its life a key is free, and an answer from before would be the answer to another run.
    #[test]
    fn it_forgets_before_the_store_does() {
        let cache = Cache::new(Tier::new().max_age(Duration::from_hours(100)));
        let mut record = record(1, 10);
        put(&cache, &record, Duration::ZERO);
        let margin = Duration::from_millis(250);
        let until = Duration::from_hours(1).saturating_sub(margin);
        assert!(cache.answer(&ask(1), until.saturating_sub(Duration::from_millis(1))).is_some());
        assert!(cache.answer(&ask(1), until).is_none());
        cache.invalidate(&record.view.id);
        record.view.expires = Some(record.view.now.plus(margin));
        put(&cache, &record, Duration::ZERO);
        assert!(cache.answer(&ask(1), Duration::ZERO).is_none(), "it is about to end");
    }
}
