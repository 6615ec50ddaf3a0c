//! Completed records, for a while, within so many bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use http::HeaderMap;
use semel_core::record::{Completion, Record, RecordId, State, StoredBody};
use semel_core::store::Begin;

use super::Tier;

/// Records are kept, and their invalidations told apart, in so many groups, each with a lock of its own.
const STRIPES: usize = 64;

#[derive(Debug)]
pub(super) struct Cache {
    stripes: Box<[Mutex<Stripe>]>,
    /// What all records weigh, and those that are about to be put in.
    bytes: AtomicU64,
    tier: Tier,
}

#[derive(Debug)]
struct Stripe {
    /// What was asked for last is asked for again: retries come in bursts. So the others leave first.
    records: LruCache<RecordId, Cached>,
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
    weight: u64,
}

/// Taken before the store is asked: its answer is kept only if nothing was invalidated meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Duration,
    invalidations: u64,
}

impl Cache {
    pub(super) fn new(tier: Tier) -> Self {
        let stripe = || Stripe { records: LruCache::new_unbounded(), invalidations: 0, changing: 0 };
        let stripes = (0..STRIPES).map(|_| Mutex::new(stripe())).collect();
        Self { stripes, bytes: AtomicU64::new(0), tier }
    }

    /// The answer to a claim, where the contract's table says so for every store: completed, and made by an
    /// equal request of an equal principal.
    pub(super) fn answer(&self, ask: &Begin, now: Duration) -> Option<Record> {
        let mut stripe = self.stripe(&ask.id);
        let cached = stripe.records.get(&ask.id)?;
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
        let small = weight <= self.tier.max_entry.min(self.tier.max_bytes);
        if view.state != State::Completed || good_for.is_zero() || !small {
            return;
        }
        // What will not be kept drives nothing out.
        let unchanged = self.stripe(&view.id).is_unchanged_since(asked);
        if !unchanged || !self.makes_room(weight, &view.id, asked.at) {
            return;
        }
        let until = asked.at.saturating_add(good_for);
        let cached = Cached { record: record.clone(), asked: asked.at, until, weight };
        let mut stripe = self.stripe(&view.id);
        let out = if stripe.is_unchanged_since(asked) {
            stripe.records.insert(view.id, cached)
        } else {
            Some(cached)
        };
        drop(stripe);
        self.give_back(out);
    }

    /// A call is about to be sent that may change the record. From here on it is not answered from the cache, nor kept:
    /// the change takes effect at the store before its own caller hears of it, and others may have seen it by then.
    pub(super) fn change(&self, id: RecordId) -> Change<'_> {
        let mut stripe = self.stripe(&id);
        stripe.changing += 1;
        stripe.invalidations = stripe.invalidations.wrapping_add(1);
        let out = stripe.records.remove(&id);
        drop(stripe);
        self.give_back(out);
        Change(self, id)
    }

    /// Whether so many bytes fit, which count from then on: takes out what is over in the record's stripe, and then what
    /// was longest not asked for, in that stripe and in the next ones. Holds one lock at a time.
    fn makes_room(&self, weight: u64, id: &RecordId, now: Duration) -> bool {
        let first = place(id);
        // What is over and was asked for later than something that is not leaves with a later call.
        while self.take_oldest(first, |oldest| oldest.until <= now) {}
        let sum = |bytes: u64| bytes.checked_add(weight).filter(|sum| *sum <= self.tier.max_bytes);
        let fits = || self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        let mut stripes = (0..STRIPES).cycle().skip(first).take(STRIPES);
        // A stripe that is empty sends on to the next one. All are, where others are about to put theirs in.
        fits()
            || stripes.any(|at| {
                while self.take_oldest(at, |_| true) {
                    if fits() {
                        return true;
                    }
                }
                false
            })
    }

    /// Takes out the record of a stripe that was longest not asked for, if it is such a one.
    fn take_oldest(&self, at: usize, such: impl FnOnce(&Cached) -> bool) -> bool {
        let mut stripe = self.lock(at);
        let out = match stripe.records.iter().next() {
            Some((_, oldest)) if such(oldest) => stripe.records.remove_lru(),
            _ => None,
        };
        drop(stripe);
        let taken = out.is_some();
        self.give_back(out.map(|(_, cached)| cached));
        taken
    }

    fn give_back(&self, out: Option<Cached>) {
        if let Some(cached) = out {
            self.bytes.fetch_sub(cached.weight, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    fn invalidate(&self, id: &RecordId) {
        drop(self.change(*id));
    }

    fn stripe(&self, id: &RecordId) -> MutexGuard<'_, Stripe> {
        self.lock(place(id))
    }

    fn lock(&self, place: usize) -> MutexGuard<'_, Stripe> {
        self.stripes[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        let held = |at| self.lock(at).records.iter().map(|(_, cached)| cached.weight).sum::<u64>();
        let held = (0..STRIPES).map(held).sum();
        assert_eq!(self.bytes.load(Ordering::Relaxed), held, "what is counted is not what is held");
        held
    }
}

impl Stripe {
    const fn is_unchanged_since(&self, asked: Asked) -> bool {
        self.invalidations == asked.invalidations && self.changing == 0
    }
}

/// Ids are keyed hashes: any byte of them is evenly spread.
fn place(id: &RecordId) -> usize {
    usize::from(id.as_bytes()[0]) % STRIPES
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
    use std::sync::Arc;

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

    // Retries come in bursts: what is asked for now must not leave for what nobody asks for.
    #[test]
    fn what_was_longest_not_asked_for_leaves_first() {
        let cache = Cache::new(Tier::new().max_bytes(25_000));
        // In one stripe, where the order is exact.
        let [one, two, three] = [1, 65, 129];
        put(&cache, &record(one, 10_000), Duration::ZERO);
        put(&cache, &record(two, 10_000), Duration::ZERO);
        assert!(cache.answer(&ask(one), Duration::ZERO).is_some());
        put(&cache, &record(three, 10_000), Duration::ZERO);
        let there = |n| cache.answer(&ask(n), Duration::ZERO).is_some();
        assert_eq!([there(one), there(two), there(three)], [true, false, true]);
    }

    // Bytes that were counted and are not there any more would make the cache smaller with each.
    #[test]
    fn what_leaves_gives_its_bytes_back() {
        let cache = Cache::new(Tier::new());
        put(&cache, &record(1, 10_000), Duration::ZERO);
        let one = cache.bytes();
        put(&cache, &record(1, 10_000), Duration::ZERO);
        assert_eq!(cache.bytes(), one, "the same again");
        let asked = cache.ask(&record(2, 10).view.id, Duration::ZERO);
        cache.invalidate(&record(2, 10).view.id);
        cache.keep(asked, &record(2, 10_000));
        assert_eq!(cache.bytes(), one, "one that was not kept");
        // Its stripe's next one, after it is over.
        put(&cache, &record(65, 10), Duration::from_secs(5));
        assert!(cache.bytes() < one, "one that is over");
        cache.invalidate(&record(65, 10).view.id);
        assert_eq!(cache.bytes(), 0);
    }

    // Threads that put in and take out at the same time must neither exceed the bound nor lose count.
    #[test]
    fn threads_keep_count_together() {
        let cache = Cache::new(Tier::new().max_bytes(60_000));
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..=255_u8 {
                        put(cache, &record(n.wrapping_mul(thread + 1), 5000), Duration::ZERO);
                        assert!(cache.bytes.load(Ordering::Relaxed) <= 60_000);
                        if n % 3 == 0 {
                            cache.invalidate(&RecordId::from_bytes([n; 32]));
                        }
                    }
                });
            }
        });
        assert!(cache.bytes() > 0);
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
