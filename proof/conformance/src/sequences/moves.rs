//! What may come next in a sequence, as something that can be made smaller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use semel_core::record::{ClaimId, Completion, RecordId, Recovery, Retention, State, Timestamp};
use semel_core::store::{Begin, Begun, Delete, LeaseRef, Quota, ReleaseAs, ReleaseBy, Resolution, Verdict};

use crate::kit::{answer, id, principal, print};
use crate::model::{Answer, Call, Clock};

/// How far time moves at once. Leases and lives end a quarter of it and more away from any such move, so that a clock
/// which also runs by itself makes no difference.
pub(crate) const TICK: Duration = Duration::from_hours(1);

/// A step of a sequence. Numbers choose among what there is when its turn comes, so that it makes sense whatever was
/// left out before it.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Begin(Ask),
    Renew {
        key: u8,
        lease: u8,
        ticks: u8,
    },
    Complete {
        key: u8,
        lease: u8,
        bytes: u8,
    },
    Release {
        key: u8,
        lease: u8,
        forget: bool,
    },
    ReleaseClaim {
        key: u8,
        claim: u8,
    },
    Abandon {
        key: u8,
        lease: u8,
    },
    Note {
        key: u8,
        lease: u8,
    },
    Inspect(u8),
    Read(u8),
    Resolve {
        key: u8,
        expect: Option<u8>,
        done: bool,
    },
    Delete {
        key: u8,
        any: bool,
    },
    List {
        state: Option<State>,
        limit: u8,
    },
    Sweep {
        limit: u8,
    },
    Advance {
        ticks: u8,
    },
    /// A call that was sent before arrives once more.
    Again(u8),
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    key: u8,
    print: u8,
    principal: u8,
    takeover: bool,
    ticks: u8,
    quota: Option<(Option<u8>, Option<u8>)>,
    minted_long_ago: Option<bool>,
}

const KEYS: u8 = 3;

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let key = || 0..KEYS;
    // The latest lease mostly, and an older one often enough.
    let lease = || prop_oneof![3 => Just(0_u8), 2 => 0..4_u8];
    let state = prop_oneof![
        Just(None),
        Just(Some(State::InFlight)),
        Just(Some(State::Completed)),
        Just(Some(State::Released)),
        Just(Some(State::Unknown)),
    ];
    let expect = prop_oneof![3 => Just(None), 1 => (0..4_u8).prop_map(Some)];
    let step = prop_oneof![
        10 => ask().prop_map(Move::Begin),
        2 => (key(), lease(), 0..4_u8).prop_map(|(key, lease, ticks)| Move::Renew { key, lease, ticks }),
        4 => (key(), lease(), 0..20_u8).prop_map(|(key, lease, bytes)| Move::Complete { key, lease, bytes }),
        3 => (key(), lease(), any::<bool>()).prop_map(|(key, lease, forget)| Move::Release { key, lease, forget }),
        1 => (key(), 0..4_u8).prop_map(|(key, claim)| Move::ReleaseClaim { key, claim }),
        2 => (key(), lease()).prop_map(|(key, lease)| Move::Abandon { key, lease }),
        2 => (key(), lease()).prop_map(|(key, lease)| Move::Note { key, lease }),
        1 => key().prop_map(Move::Inspect),
        1 => key().prop_map(Move::Read),
        2 => (key(), expect, any::<bool>()).prop_map(|(key, expect, done)| Move::Resolve { key, expect, done }),
        1 => (key(), any::<bool>()).prop_map(|(key, any)| Move::Delete { key, any }),
        1 => (state, 1..4_u8).prop_map(|(state, limit)| Move::List { state, limit }),
        2 => (1..4_u8).prop_map(|limit| Move::Sweep { limit }),
        5 => (1..5_u8).prop_map(|ticks| Move::Advance { ticks }),
        6 => (0..12_u8).prop_map(Move::Again),
    ];
    vec(step, 1..40)
}

fn ask() -> impl Strategy<Value = Ask> {
    let print = prop_oneof![5 => Just(0_u8), 1 => Just(1_u8)];
    let principal = prop_oneof![4 => Just(0_u8), 1 => Just(1_u8), 1 => Just(2_u8)];
    let limit = || prop_oneof![Just(None), (0..4_u8).prop_map(Some)];
    let quota = prop_oneof![3 => Just(None), 1 => (limit(), limit()).prop_map(Some)];
    let minted = prop_oneof![5 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (0..KEYS, print, principal, any::<bool>(), 0..4_u8, quota, minted).prop_map(
        |(key, print, principal, takeover, ticks, quota, minted_long_ago)| Ask {
            key,
            print,
            principal,
            takeover,
            ticks,
            quota,
            minted_long_ago,
        },
    )
}

/// What a sequence has seen so far, from which a move becomes a call.
pub(crate) struct Seen {
    /// Tells this sequence's keys and principals from those of all others on the same store.
    number: u64,
    fresh: u128,
    leases: Vec<LeaseRef>,
    claims: Vec<(RecordId, ClaimId)>,
    calls: Vec<Call>,
}

impl Seen {
    pub(crate) const fn new(number: u64) -> Self {
        Self { number, fresh: 0, leases: Vec::new(), claims: Vec::new(), calls: Vec::new() }
    }

    pub(crate) fn id(&self, key: u8) -> RecordId {
        id(self.number * u64::from(KEYS) + u64::from(key))
    }

    /// Learns from a call and its answer what later moves may choose.
    pub(crate) fn learn(&mut self, call: &Call, answer: &Answer) {
        if let Call::Begin(ask) = call {
            self.claims.push((ask.id, ask.claim));
        }
        if let Answer::Begun(Begun::Acquired(acquired)) = answer {
            self.leases.push(acquired.lease.as_ref());
        }
        self.calls.push(call.clone());
    }

    /// The call that a move stands for; `None` if there is nothing yet that it could be about.
    pub(crate) fn call(&mut self, step: &Move, clock: Clock) -> Option<Call> {
        Some(match step {
            Move::Begin(ask) => Call::Begin(Box::new(self.begin(ask, clock))),
            Move::Renew { key, lease, ticks } => Call::Renew(self.lease(*key, *lease)?, lease_for(*ticks)),
            Move::Complete { key, lease, bytes } => {
                Call::Complete(self.lease(*key, *lease)?, self.completion(*bytes), lives())
            }
            Move::Release { key, lease, forget } => {
                let how = if *forget { ReleaseAs::Forgotten } else { ReleaseAs::Retry };
                Call::Release(ReleaseBy::Lease(self.lease(*key, *lease)?), how, lives())
            }
            Move::ReleaseClaim { key, claim } => {
                let id = self.id(*key);
                let of_key = self.claims.iter().rev().filter(|(of, _)| *of == id);
                let (id, claim) = *of_key.cycle().nth(usize::from(*claim))?;
                Call::Release(ReleaseBy::Claim(id, claim), ReleaseAs::Retry, lives())
            }
            Move::Abandon { key, lease } => Call::Abandon(self.lease(*key, *lease)?),
            Move::Note { key, lease } => {
                let lease = self.lease(*key, *lease)?;
                Call::Note(lease, Bytes::from(format!("step {}", self.fresh())))
            }
            Move::Inspect(key) => Call::Inspect(self.id(*key)),
            Move::Read(key) => Call::Read(self.id(*key)),
            Move::Resolve { key, expect, done } => self.resolve(*key, *expect, *done),
            Move::Delete { key, any } => {
                Call::Delete(self.id(*key), if *any { Delete::Any } else { Delete::Settled })
            }
            Move::Again(back) => {
                let count = self.calls.len().checked_sub(1)?;
                self.calls[count - usize::from(*back).min(count)].clone()
            }
            Move::List { .. } | Move::Sweep { .. } | Move::Advance { .. } => return None,
        })
    }

    fn begin(&mut self, ask: &Ask, clock: Clock) -> Begin {
        let retention = lives();
        let minted = ask.minted_long_ago.map(|long| {
            // A quarter of an hour to either side of the end.
            let ago =
                retention.record.saturating_sub(TICK / 4) + if long { TICK / 2 } else { Duration::ZERO };
            Timestamp::from_millis(clock.millis() - i64::try_from(ago.as_millis()).unwrap_or(0))
        });
        let quota = ask.quota.map(|(records, bytes)| Quota {
            records: records.map(u64::from),
            bytes: bytes.map(|bytes| u64::from(bytes) * 8),
        });
        Begin {
            id: self.id(ask.key),
            fingerprint: print(ask.print),
            principal: match ask.principal {
                0 => Some(principal(1)),
                1 => Some(principal(2)),
                _ => None,
            },
            claim: ClaimId::from_u128(self.fresh()),
            lease_for: lease_for(ask.ticks),
            recovery: if ask.takeover { Recovery::Takeover } else { Recovery::Hold },
            retention,
            minted,
            quota,
            ..crate::kit::ask(0)
        }
    }

    fn resolve(&mut self, key: u8, expect: Option<u8>, done: bool) -> Call {
        let verdict = if done { Verdict::Applied(self.completion(7)) } else { Verdict::NotApplied };
        let expect = expect.and_then(|lease| self.lease(key, lease)).map(|lease| lease.fence);
        let op = ClaimId::from_u128(self.fresh());
        Call::Resolve(self.id(key), Resolution { op, expect, verdict, retention: lives() })
    }

    /// The `back`th latest lease of a key.
    fn lease(&self, key: u8, back: u8) -> Option<LeaseRef> {
        let id = self.id(key);
        self.leases.iter().rev().filter(|lease| lease.id == id).cycle().nth(usize::from(back)).copied()
    }

    /// Never the same answer twice, so that a replay of another one is seen.
    fn completion(&mut self, bytes: u8) -> Arc<Completion> {
        let mut body = format!("{:04}", self.fresh());
        body.extend(std::iter::repeat_n('.', usize::from(bytes)));
        answer(body)
    }

    fn fresh(&mut self) -> u128 {
        self.fresh += 1;
        u128::from(self.number) << 32 | self.fresh
    }
}

fn lease_for(ticks: u8) -> Duration {
    TICK * u32::from(ticks) + TICK / 4
}

fn lives() -> Retention {
    Retention { body: TICK + TICK / 3, record: TICK * 4 + TICK / 3, released: TICK * 2 + TICK / 3 }
}
