//! Hooks that see what happens and change nothing.
//!
//! Logs, metrics and traces are made from [`Event`]s. An event carries record ids, codes and counts; never a
//! key, a credential or a body, so every field of it may be logged. A record id has too many values for a metric
//! label; [`Event::name`] and codes do not.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use uuid::Uuid;

use crate::problem::Code;
use crate::record::{Fence, NotKept, RecordId, State};
use crate::store::{ReleaseAs, StoreErrorKind, Swept};

/// Sees events. Any `Fn(&Event<'_>)` is one.
///
/// It is called on the request's own path: it must be quick and must not block. It may panic, which changes
/// nothing (unless the program is built to abort on panic).
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on(&self, event: &Event<'_>) {
        self(event);
    }
}

/// Something that happened to a request or a record.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request was passed through unguarded.
    Bypassed,
    /// A request was refused with a problem.
    Rejected {
        /// Which problem.
        code: Code,
        /// The status it was sent with.
        status: StatusCode,
        /// Its record, if it came so far that it had a name.
        id: Option<&'a RecordId>,
        /// The `instance` of the problem, as its client was told.
        instance: Option<Uuid>,
    },
    /// A run starts.
    Claimed {
        /// Its record.
        id: &'a RecordId,
        /// 1 for the first run, one more for each takeover or rerun.
        attempt: u32,
        /// The claim's number.
        fence: Fence,
    },
    /// A kept answer was sent.
    Replayed {
        /// Its record.
        id: &'a RecordId,
        /// The status of the answer.
        status: StatusCode,
        /// Time since the answer was kept.
        age: Duration,
    },
    /// A duplicate waits for the original to end.
    Waiting {
        /// Their record.
        id: &'a RecordId,
        /// How many wait in this process, this one included.
        waiting: usize,
    },
    /// A run ended and its answer is recorded.
    Completed {
        /// Its record.
        id: &'a RecordId,
        /// Which run it was.
        attempt: u32,
        /// Its claim's number.
        fence: Fence,
        /// The status of the answer.
        status: StatusCode,
        /// Bytes of the kept body; 0 if it is not kept.
        body_bytes: u64,
        /// Why the body is not kept, if it is not.
        not_kept: Option<NotKept>,
    },
    /// A run ended as not done: the key is free for the next equal request.
    Released {
        /// Its record.
        id: &'a RecordId,
        /// Its claim's number; `None` if the answer to the claim never came.
        fence: Option<Fence>,
        /// What the record still binds.
        how: ReleaseAs,
    },
    /// A run ended, and nobody knows whether it took effect.
    Abandoned {
        /// Its record.
        id: &'a RecordId,
        /// Which run it was.
        attempt: u32,
        /// Its claim's number.
        fence: Fence,
    },
    /// A run came to settle a record that somebody else holds or has settled. Its answer was dropped.
    Superseded {
        /// Their record.
        id: &'a RecordId,
        /// The late run's number.
        fence: Fence,
        /// The number that the record has now.
        by: Fence,
        /// The state that the record has now.
        state: State,
    },
    /// A run settled its record after its lease was over: nobody had taken it, so the late truth won.
    LateCompletion {
        /// Its record.
        id: &'a RecordId,
        /// Its claim's number.
        fence: Fence,
    },
    /// A run reached its longest time; its lease is no longer renewed.
    RunTooLong {
        /// Its record.
        id: &'a RecordId,
        /// Its claim's number.
        fence: Fence,
    },
    /// A run's transaction met others: it was rolled back, and its handler runs again under the same claim.
    Rerun {
        /// Its record.
        id: &'a RecordId,
        /// Its claim's number.
        fence: Fence,
    },
    /// A client went away, and its run goes on without it.
    DetachedRun {
        /// Its record.
        id: &'a RecordId,
        /// How many such runs there are in this process, this one included.
        running: usize,
    },
    /// A request ran unguarded because the store could not be asked and its route says fail-open.
    FailedOpen,
    /// A call to the store failed.
    StoreFailed {
        /// The step, by the name of the store's method: `begin`, `complete`.
        step: &'static str,
        /// What kind of failure.
        kind: StoreErrorKind,
        /// Whether it is tried again.
        will_retry: bool,
    },
    /// A sweep ended.
    Swept {
        /// What it did.
        swept: Swept,
    },
}

impl<'a> Event<'a> {
    /// The event's name for logs and metrics: one of a fixed few.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bypassed => "bypassed",
            Self::Rejected { .. } => "rejected",
            Self::Claimed { .. } => "claimed",
            Self::Replayed { .. } => "replayed",
            Self::Waiting { .. } => "waiting",
            Self::Completed { .. } => "completed",
            Self::Released { .. } => "released",
            Self::Abandoned { .. } => "abandoned",
            Self::Superseded { .. } => "superseded",
            Self::LateCompletion { .. } => "late-completion",
            Self::RunTooLong { .. } => "run-too-long",
            Self::Rerun { .. } => "rerun",
            Self::DetachedRun { .. } => "detached-run",
            Self::FailedOpen => "failed-open",
            Self::StoreFailed { .. } => "store-failed",
            Self::Swept { .. } => "swept",
        }
    }

    /// The record it is about, if it is about one.
    pub const fn id(&self) -> Option<&'a RecordId> {
        match *self {
            Self::Rejected { id, .. } => id,
            Self::Claimed { id, .. }
            | Self::Replayed { id, .. }
            | Self::Waiting { id, .. }
            | Self::Completed { id, .. }
            | Self::Released { id, .. }
            | Self::Abandoned { id, .. }
            | Self::Superseded { id, .. }
            | Self::LateCompletion { id, .. }
            | Self::RunTooLong { id, .. }
            | Self::Rerun { id, .. }
            | Self::DetachedRun { id, .. } => Some(id),
            Self::Bypassed | Self::FailedOpen | Self::StoreFailed { .. } | Self::Swept { .. } => None,
        }
    }
}

/// The observers of one service, called in the order they were added. Cheap to clone; costs one comparison an
/// event when empty.
///
/// ```
/// use semel_core::observe::{Event, Observers};
///
/// let observers = Observers::default().with(|event: &Event<'_>| println!("{}", event.name()));
/// observers.notify(&Event::Bypassed);
/// ```
#[derive(Clone, Default)]
pub struct Observers(Option<Arc<[Arc<dyn Observer>]>>);

impl Observers {
    /// The same observers and one more.
    #[must_use]
    pub fn with(self, observer: impl Observer) -> Self {
        self.with_shared(Arc::new(observer))
    }

    /// The same observers and one more that is shared.
    #[must_use]
    pub fn with_shared(self, observer: Arc<dyn Observer>) -> Self {
        self.0.iter().flat_map(|list| list.iter().cloned()).chain([observer]).collect()
    }

    /// Whether nobody observes: then an event need not even be made.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Tells all. A panic of one reaches neither the caller nor the others.
    #[inline]
    pub fn notify(&self, event: &Event<'_>) {
        if let Some(observers) = &self.0 {
            for observer in observers.iter() {
                contain(|| observer.on(event));
            }
        }
    }
}

impl FromIterator<Arc<dyn Observer>> for Observers {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Observer>>>(observers: I) -> Self {
        let list: Arc<[_]> = observers.into_iter().collect();
        Self((!list.is_empty()).then_some(list))
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.0.as_ref().map_or(0, |list| list.len()))
    }
}

/// Runs somebody else's code and lets no panic out.
fn contain(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        // What was thrown may panic when it is dropped, and so may what that throws: leak it.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            std::panic::panic_any("while dropping what was thrown");
        }
    }

    /// A metrics hook that panicked once took the answer of a finished payment with it.
    #[test]
    fn a_panicking_observer_reaches_neither_the_caller_nor_the_others() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            move |_: &Event<'_>| {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        let observers = Observers::default()
            .with(count(&calls))
            .with(|_: &Event<'_>| panic!("an observer's own fault"))
            .with(|_: &Event<'_>| std::panic::panic_any(PanicsOnDrop))
            .with(count(&calls));
        observers.notify(&Event::Bypassed);
        observers.notify(&Event::FailedOpen);
        assert_eq!(calls.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn observers_are_called_in_order_and_see_the_event() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |tag: &'static str| {
            let seen = Arc::clone(&seen);
            move |event: &Event<'_>| seen.lock().unwrap().push((tag, event.name(), event.id().copied()))
        };
        let observers = Observers::default().with(note("a")).with_shared(Arc::new(note("b")));
        let id = RecordId::from_bytes([1; 32]);
        observers.notify(&Event::Waiting { id: &id, waiting: 1 });
        assert_eq!(*seen.lock().unwrap(), [("a", "waiting", Some(id)), ("b", "waiting", Some(id))]);
        assert_eq!(format!("{observers:?}"), "Observers(2)");
    }

    #[test]
    fn nobody_is_told_when_nobody_observes() {
        assert!(Observers::default().is_empty());
        assert!(std::iter::empty().collect::<Observers>().is_empty());
        assert!(!Observers::default().with(|_: &Event<'_>| {}).is_empty());
        Observers::default().notify(&Event::Bypassed);
    }
}
