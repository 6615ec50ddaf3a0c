use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::advice::{self, Advice};
use crate::judge::{self, Judged, Next, Repeatable};
use crate::{End, Limit, OperationKey, Retries, Verdict, Why};

/// One operation between two tries.
///
/// A machine without a clock, a socket or a task: it is told what happened and when, and says what to do.
///
/// ```
/// use std::time::{Duration, Instant, SystemTime};
/// use http::{HeaderMap, Method};
/// use semel_client::{Asked, Call, Entropy, Failure, Retries, Step, Verdict};
///
/// let (start, wall) = (Instant::now(), SystemTime::now());
/// let none = HeaderMap::new();
/// let asked = Asked::new(&Method::POST, &none);
/// let call = Call::begin(&Retries::default(), &asked, Entropy { key: [7; 10], jitter: 7 }, start, wall)?;
/// let (name, value) = call.minted().expect("a POST without a key gets one");
/// assert_eq!(name, "idempotency-key");
///
/// // Send it with that field. Say that the connection broke:
/// let Ok(trying) = call.send(start) else { panic!("in time") };
/// let Step::Again { call, after, .. } = trying.failed(Failure::MayHaveRun, start) else { panic!("it has a key") };
/// // Wait for that long, and send the same bytes again.
/// let Ok(trying) = call.send(start + after) else { panic!("in time") };
/// let answer = semel_client::Answer { status: http::StatusCode::CREATED, headers: &none, body: None };
/// let Step::End(end) = trying.answered(&answer, start + after, wall) else { panic!("done") };
/// assert_eq!((end.verdict, end.tries), (Verdict::Done, 2));
/// # Ok::<(), semel_client::NotReplayable>(())
/// ```
#[derive(Debug)]
#[must_use = "a call that is dropped was given up on"]
pub struct Call {
    retries: Retries,
    repeatable: Repeatable,
    key: Option<OperationKey>,
    minted: bool,
    /// The only try that a body allows which cannot be sent again.
    once: bool,
    ends: Option<Instant>,
    tries: u32,
    may_have_run: bool,
    last: Why,
    jitter: u64,
}

/// What a request is like, before its first try.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields; a key among them is the caller's own, and stays as it is.
    pub headers: &'a HeaderMap,
    /// Whether its body can be sent a second time. Default true.
    pub replayable: bool,
    /// Whether one try is all that is wanted. Default false.
    pub once: bool,
    /// Whether no key may be minted for it. Default false.
    pub unkeyed: bool,
}

impl<'a> Asked<'a> {
    /// A request whose body can be sent again, as most can.
    pub fn new(method: &'a Method, headers: &'a HeaderMap) -> Self {
        Self { method, headers, replayable: true, once: false, unkeyed: false }
    }

    /// Whether its body can be sent a second time.
    #[must_use]
    pub fn replayable(mut self, replayable: bool) -> Self {
        self.replayable = replayable;
        self
    }

    /// Whether one try is all that is wanted.
    #[must_use]
    pub fn once(mut self, once: bool) -> Self {
        self.once = once;
        self
    }

    /// Whether no key may be minted for it.
    #[must_use]
    pub fn unkeyed(mut self, unkeyed: bool) -> Self {
        self.unkeyed = unkeyed;
        self
    }
}

/// Random octets for one call, from the system's source: a key has to be unguessable.
#[derive(Clone, Copy)]
pub struct Entropy {
    /// For the key.
    pub key: [u8; 10],
    /// For the waits.
    pub jitter: u64,
}

/// The body of this request can be sent once only, so a try that fails could not be repeated.
///
/// Refused before the first try, when nothing has happened yet. Give the body as bytes, or ask for a single try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body cannot be sent a second time: give it as bytes, or ask for a single try")]
pub struct NotReplayable;

/// A try that brought no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a shell has to say one of these")]
pub enum Failure {
    /// Proven: no byte of it reached the server, since there was no connection.
    NeverSent,
    /// All else: a connection that broke, an answer that was cut short.
    MayHaveRun,
    /// The try's time was over.
    TimedOut,
    /// The request itself is wrong (no such scheme, a bad address): no try of it can succeed.
    Invalid,
}

/// What the server said to one try.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "an answer has these")]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Its body, if it was read whole.
    pub body: Option<&'a [u8]>,
}

/// One operation during a try.
#[derive(Debug)]
#[must_use = "say how the try ended"]
pub struct Trying {
    call: Call,
    within: Duration,
}

/// What is to be done after a try.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a shell does one of the two")]
pub enum Step {
    /// Wait, then send the same request again.
    Again {
        /// The call, to be sent.
        call: Call,
        /// How long to wait first.
        after: Duration,
        /// Why it is sent again.
        why: Why,
    },
    /// The call has ended.
    End(End),
}

impl Call {
    /// Begins a call: mints its key if it needs one.
    ///
    /// # Errors
    ///
    /// Its body cannot be sent again, and more than one try is allowed.
    pub fn begin(
        retries: &Retries,
        asked: &Asked<'_>,
        entropy: Entropy,
        at: Instant,
        wall: SystemTime,
    ) -> Result<Self, NotReplayable> {
        let once = asked.once || retries.tries == 1;
        if !asked.replayable && !once {
            return Err(NotReplayable);
        }
        let own = asked.headers.get(&retries.key_field);
        let minted = own.is_none() && !asked.unkeyed && retries.keyed_methods.contains(asked.method);
        let key = match own {
            Some(own) => Some(OperationKey::new(own.clone())),
            None if minted => Some(OperationKey::mint(wall, entropy.key, retries.bare_keys)),
            None => None,
        };
        Ok(Self {
            repeatable: Repeatable::of(asked.method, key.is_some()),
            key,
            minted,
            once,
            ends: at.checked_add(retries.deadline),
            tries: 0,
            may_have_run: false,
            last: Why::NeverSent,
            jitter: entropy.jitter,
            retries: retries.clone(),
        })
    }

    /// The field to add to each try; nothing where the caller's own key stands, or none is needed.
    pub fn minted(&self) -> Option<(&HeaderName, &HeaderValue)> {
        let key = self.key.as_ref().filter(|_| self.minted)?;
        Some((&self.retries.key_field, key.header_value()))
    }

    /// The operation's key: minted, or the caller's own.
    pub fn key(&self) -> Option<&OperationKey> {
        self.key.as_ref()
    }

    /// Begins a try, now.
    ///
    /// # Errors
    ///
    /// The deadline has passed meanwhile: the call has ended, and nothing is sent.
    pub fn send(mut self, at: Instant) -> Result<Trying, End> {
        let left = self.left(at);
        if left.is_zero() {
            return Err(self.out_of(Limit::Deadline, false));
        }
        self.tries += 1;
        Ok(Trying { within: left.min(self.retries.try_within), call: self })
    }

    fn left(&self, at: Instant) -> Duration {
        self.ends.map_or(Duration::MAX, |ends| ends.saturating_duration_since(at))
    }

    fn go_on(mut self, judged: Judged, answer: Option<Advice>, at: Instant) -> Step {
        self.last = judged.why;
        let answered = answer.is_some();
        let next = judged.next;
        // A final answer to a key is the operation's own, whatever became of the tries before.
        let settled = matches!(next, Next::End(Verdict::Done | Verdict::Replayed | Verdict::Rejected));
        self.may_have_run = !settled && (self.may_have_run || judged.may_have_run);
        match next {
            Next::End(verdict) => {
                if settled {
                    self.retries.budget.earn();
                }
                Step::End(self.end(verdict, None))
            }
            Next::Refused => {
                let verdict = self.given_up(answered);
                Step::End(self.end(verdict, None))
            }
            Next::Again => self.again(judged.why, answer.and_then(|advice| advice.after), answered, at),
        }
    }

    /// Another try, if nothing forbids it. The budget comes last: a token is taken for tries that are made.
    fn again(mut self, why: Why, told: Option<Duration>, answered: bool, at: Instant) -> Step {
        if self.once || self.tries >= self.retries.tries {
            return Step::End(self.out_of(Limit::Tries, answered));
        }
        let after = told.unwrap_or_default().saturating_add(self.backoff());
        if after >= self.left(at) {
            return Step::End(self.out_of(Limit::Deadline, answered));
        }
        if !self.retries.budget.take() {
            return Step::End(self.out_of(Limit::Budget, answered));
        }
        Step::Again { call: self, after, why }
    }

    /// Full jitter: evenly from nothing to the bound, so that those who failed together come back apart.
    fn backoff(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.retries.backoff.saturating_mul(doubled).min(self.retries.longest_backoff);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.random()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(nanos))
    }

    /// SplitMix64: even, and enough for waits. Keys come from the system.
    fn random(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn out_of(self, limit: Limit, answered: bool) -> End {
        let verdict = self.given_up(answered);
        self.end(verdict, Some(limit))
    }

    fn given_up(&self, answered: bool) -> Verdict {
        match () {
            () if self.may_have_run => Verdict::Unknown,
            () if answered => Verdict::Rejected,
            () => Verdict::NotSent,
        }
    }

    fn end(self, verdict: Verdict, limit: Option<Limit>) -> End {
        End { verdict, why: self.last, limit, tries: self.tries, key: self.key }
    }
}

impl Trying {
    /// How long this try may take, what is read of its answer included.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// Which try this is, from 1.
    pub fn number(&self) -> u32 {
        self.call.tries
    }

    /// How many octets of this answer's body to read before it is judged; 0 for none. A longer body is judged without
    /// being read, and flows on.
    ///
    /// Of a call with a key all that fits is read: an answer that is cut short is then asked for again. Of others the
    /// problem documents are read.
    pub fn reads(&self, status: StatusCode, headers: &HeaderMap) -> usize {
        /// More than any problem document has.
        const PROBLEM: usize = 64 * 1024;
        let problem = if status.as_u16() >= 400 && advice::is_json(headers) { PROBLEM } else { 0 };
        match self.call.repeatable {
            Repeatable::Keyed if !advice::is_endless(headers) => problem.max(self.call.retries.answer_limit),
            _ => problem,
        }
    }

    /// The try brought no whole answer.
    pub fn failed(self, failure: Failure, at: Instant) -> Step {
        let judged = judge::failure(self.call.repeatable, failure);
        self.call.go_on(judged, None, at)
    }

    /// The try was answered.
    pub fn answered(self, answer: &Answer<'_>, at: Instant, wall: SystemTime) -> Step {
        let advice = Advice::read(answer.headers, answer.body, wall);
        let judged = judge::answer(self.call.repeatable, answer.status, &advice);
        self.call.go_on(judged, Some(advice), at)
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}
