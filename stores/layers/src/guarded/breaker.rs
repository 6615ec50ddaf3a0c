//! A circuit breaker without a clock of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many parts does the window have; it moves on by one of them at a time.
const SLICES: u32 = 10;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trip {
    pub(crate) percent: u32,
    pub(crate) calls: u32,
    pub(crate) window: Duration,
    pub(crate) open_for: Duration,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    trip: Trip,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Goes up at each change of state, so that what was sent before it is not counted after it.
    era: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open { until: Duration },
    Probing,
}

impl Breaker {
    pub(crate) fn new(trip: Trip) -> Self {
        Self { trip, inner: Mutex::new(Inner { era: 0, state: State::Closed(Window::default()) }) }
    }

    /// `None` while it is open, or while its one probe is under way.
    pub(crate) fn admit(&self, now: Duration) -> Option<Permit<'_>> {
        let mut inner = self.locked();
        match inner.state {
            State::Closed(_) => {}
            State::Open { until } if now >= until => inner.turn(State::Probing),
            State::Open { .. } | State::Probing => return None,
        }
        Some(Permit { breaker: self, era: inner.era, told: false })
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn turn(&mut self, state: State) {
        self.era = self.era.wrapping_add(1);
        self.state = state;
    }
}

/// The right to send one call. Dropped untold, it counts as never sent, and frees the probe's place.
#[derive(Debug)]
#[must_use = "the breaker learns from what became of the call"]
pub(crate) struct Permit<'b> {
    breaker: &'b Breaker,
    era: u64,
    told: bool,
}

impl Permit<'_> {
    /// What became of the call; what that made of the breaker, if it is news.
    pub(crate) fn tell(mut self, now: Duration, outcome: Outcome) -> Option<News> {
        self.told = true;
        let trip = self.breaker.trip;
        let mut inner = self.breaker.locked();
        if inner.era != self.era {
            return None;
        }
        let open = State::Open { until: now.saturating_add(trip.open_for) };
        match (&mut inner.state, outcome) {
            (State::Closed(window), outcome) => {
                if window.count(now, trip.window, outcome).trips(trip) {
                    inner.turn(open);
                    return Some(News::Opened);
                }
            }
            (State::Probing, Outcome::Answered) => {
                inner.turn(State::Closed(Window::default()));
                return Some(News::Closed);
            }
            // It was told when it opened first.
            (State::Probing, Outcome::Failed) => inner.turn(open),
            (State::Open { .. }, _) => {}
        }
        None
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let mut inner = self.breaker.locked();
        if inner.era == self.era && matches!(inner.state, State::Probing) {
            // The probe's caller went away: the next one probes.
            inner.turn(State::Open { until: Duration::ZERO });
        }
    }
}

/// A change that operators want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Claims are refused from here on.
    Opened,
    /// The store is back.
    Closed,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The store answered, if only to refuse.
    Answered,
    /// It was not there, or not in time.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    calls: u32,
    failures: u32,
}

impl Count {
    fn trips(self, trip: Trip) -> bool {
        let failed = u64::from(self.failures) * 100;
        self.calls >= trip.calls && failed >= u64::from(self.calls) * u64::from(trip.percent)
    }
}

/// What was counted lately, in slices of time.
#[derive(Debug, Default)]
struct Window {
    slices: [Count; SLICES as usize],
    /// The number of the newest slice since time began.
    newest: u128,
}

impl Window {
    /// Counts a call, and gives the sum of the window.
    fn count(&mut self, now: Duration, length: Duration, outcome: Outcome) -> Count {
        let slice = (length / SLICES).as_nanos().max(1);
        let number = now.as_nanos() / slice;
        let passed = number.saturating_sub(self.newest).min(u128::from(SLICES));
        for back in 0..passed {
            *self.at(number - back) = Count::default();
        }
        self.newest = self.newest.max(number);
        let newest = self.newest;
        let count = self.at(newest);
        count.calls = count.calls.saturating_add(1);
        count.failures = count.failures.saturating_add(u32::from(outcome == Outcome::Failed));
        self.slices.iter().fold(Count::default(), |sum, slice| Count {
            calls: sum.calls.saturating_add(slice.calls),
            failures: sum.failures.saturating_add(slice.failures),
        })
    }

    fn at(&mut self, number: u128) -> &mut Count {
        let place = usize::try_from(number % u128::from(SLICES)).unwrap_or(0);
        &mut self.slices[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Trip =
        Trip { percent: 50, calls: 10, window: Duration::from_secs(10), open_for: Duration::from_secs(30) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(breaker: &Breaker, now: Duration, outcome: Outcome) -> bool {
        let permit = breaker.admit(now);
        let admitted = permit.is_some();
        if let Some(permit) = permit {
            let _news = permit.tell(now, outcome);
        }
        admitted
    }

    fn opened() -> Breaker {
        let breaker = Breaker::new(TRIP);
        for _ in 0..10 {
            assert!(call(&breaker, at(1), Outcome::Failed));
        }
        assert!(breaker.admit(at(1)).is_none());
        breaker
    }

    // Nine failures out of nine are bad luck as far as it knows; four of ten are not half.
    #[test]
    fn it_opens_at_half_of_ten_and_not_before() {
        let breaker = Breaker::new(TRIP);
        for _ in 0..9 {
            assert!(call(&breaker, at(1), Outcome::Failed));
        }
        assert!(call(&breaker, at(1), Outcome::Answered), "nine calls are too few");
        assert!(!call(&breaker, at(1), Outcome::Answered));
        let breaker = Breaker::new(TRIP);
        for n in 0..100 {
            let outcome = if n % 5 >= 3 { Outcome::Failed } else { Outcome::Answered };
            assert!(call(&breaker, at(1), outcome), "40 % are not half");
        }
    }

    // Failures of an hour ago say nothing about now.
    #[test]
    fn what_lies_before_the_window_is_forgotten() {
        let breaker = Breaker::new(TRIP);
        for seconds in 0..200 {
            assert!(call(&breaker, at(seconds * 2), Outcome::Failed), "five in ten seconds are too few");
        }
    }

    // A herd of probes is the load that keeps a store from coming back.
    #[test]
    fn one_probe_at_a_time_decides() {
        let breaker = opened();
        assert!(breaker.admit(at(30)).is_none());
        let probe = breaker.admit(at(31)).unwrap();
        assert!(breaker.admit(at(31)).is_none(), "a second probe");
        assert_eq!(probe.tell(at(32), Outcome::Failed), None, "open as before: no news");
        assert!(breaker.admit(at(61)).is_none(), "open again, from the probe's failure");
        let answered = breaker.admit(at(62)).unwrap().tell(at(62), Outcome::Answered);
        assert_eq!(answered, Some(News::Closed));
        for _ in 0..9 {
            assert!(call(&breaker, at(62), Outcome::Failed), "it starts anew when it closes");
        }
    }

    // A client that hangs up during the probe would leave a breaker half-open for ever.
    #[test]
    fn a_probe_that_is_dropped_frees_its_place() {
        let breaker = opened();
        drop(breaker.admit(at(31)).unwrap());
        assert!(breaker.admit(at(31)).is_some());
    }

    // Answers to calls from before: a slow failure must not open it again, nor a slow success close it.
    #[test]
    fn calls_of_an_earlier_era_do_not_count() {
        let breaker = Breaker::new(TRIP);
        let slow = breaker.admit(at(1)).unwrap();
        let slower = breaker.admit(at(1)).unwrap();
        for _ in 0..10 {
            assert!(call(&breaker, at(1), Outcome::Failed));
        }
        assert_eq!(slow.tell(at(2), Outcome::Answered), None);
        assert!(breaker.admit(at(2)).is_none());
        let probe = breaker.admit(at(31)).unwrap();
        drop(slower);
        assert!(breaker.admit(at(31)).is_none(), "another's drop freed the probe's place");
        assert_eq!(probe.tell(at(31), Outcome::Answered), Some(News::Closed));
        assert!(breaker.admit(at(31)).is_some());
    }
}
