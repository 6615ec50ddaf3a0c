//! A record as the string that Redis keeps.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 8 | state `I` `U` `C` `R`; recovery `h` `t`; bound `b` or forgotten `f`; then, each or `-`: operation `o`, principal `p`, counted against a quota `q`, answer inline `i` or in its own key `k`, request `r` |
//! | 9 | 4 | attempt |
//! | 13 | 8 | fence |
//! | 21 | 16 | claim |
//! | 37 | 16 | last resolution |
//! | 53 | 6 × 8 | created, changed, lease until, expires, body until (0: none); the record's life |
//! | 101 | 8 | life of a release |
//! | 109 | 2 | status, 0: none |
//! | 111 | 8 | bytes of the kept body |
//! | 119 | 8 | seal: the first bytes of the answer's blob, its checksum among them |
//! | 127 | 32 | fingerprint |
//! | 159 | 32 | principal |
//! | 191 | 4 | bytes of settings |
//! | 195 | 4 | bytes of progress plus one, 0: none |
//! | 199 | | settings, progress, the blob of an inline answer |
//!
//! Numbers are big-endian; instants and lives are in milliseconds. A record that was removed leaves its last fence:
//! version, `T`, fence. `lua/record.lua` reads and writes the same.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::StatusCode;
use semel_core::record::{ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, Recovery, State, Timestamp};
use semel_core::store::{Begin, StoreError};
use semel_store_kit::Row as Record;

use crate::error::undecodable;

const VERSION: u8 = 1;
const HEAD: usize = 199;
/// A tombstone's length.
const TOMB: usize = 10;

/// The first bytes of an answer's blob: tell one answer from another.
pub(crate) type Seal = [u8; 8];

/// A record, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) record: Record,
    life: i64,
    pub(crate) seal: Seal,
    pub(crate) answer: Option<Place>,
}

/// Where an answer is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Inline(Bytes),
    Beside,
}

/// What a sweep may have to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    NotYet,
}

impl Row {
    /// Reads a record. `None`: only the fence of one that was removed.
    pub(crate) fn read(id: RecordId, raw: Vec<u8>) -> Result<Option<Self>, StoreError> {
        let raw = Bytes::from(raw);
        match raw.first() {
            Some(&VERSION) => {}
            Some(_) => return Err(undecodable("version")),
            None => return Err(undecodable("length")),
        }
        if raw.len() == TOMB && raw[1] == b'T' {
            return Ok(None);
        }
        if raw.len() < HEAD {
            return Err(undecodable("length"));
        }
        let mut rest = raw.slice(HEAD..);
        let mut head = &raw[1..HEAD];
        let mut flags = [0; 8];
        head.copy_to_slice(&mut flags);
        let [state, recovery, bound, has_op, has_principal, _counted, answer, _request] = flags;
        let attempt = head.get_u32();
        let fence = Fence::new(head.get_u64()).ok_or_else(|| undecodable("fence"))?;
        let claim = ClaimId::from_u128(head.get_u128());
        let op = head.get_u128();
        let mut time = || i64::try_from(head.get_u64()).map_err(|_| undecodable("time"));
        let [created, changed, lease, expires, body_until, life, _released] =
            [time()?, time()?, time()?, time()?, time()?, time()?, time()?];
        let status = match head.get_u16() {
            0 => None,
            status => Some(StatusCode::from_u16(status).map_err(|_| undecodable("status"))?),
        };
        let body_bytes = head.get_u64();
        let mut seal = Seal::default();
        head.copy_to_slice(&mut seal);
        let mut digest = [0; 32];
        head.copy_to_slice(&mut digest);
        let fingerprint = (bound == b'b').then(|| Fingerprint::from_bytes(digest));
        head.copy_to_slice(&mut digest);
        let principal = (has_principal == b'p').then(|| PrincipalTag::from_bytes(digest));
        let length = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        let (settings, progress) = (length(head.get_u32()), length(head.get_u32()));
        if rest.len() < settings.saturating_add(progress.saturating_sub(1)) {
            return Err(undecodable("length"));
        }
        let settings = rest.split_to(settings);
        let settings = std::str::from_utf8(&settings).map_err(|_| undecodable("settings"))?.into();
        let progress = (progress > 0).then(|| rest.split_to(progress - 1));
        let some_time = |millis| (millis > 0).then(|| Timestamp::from_millis(millis));
        Ok(Some(Self {
            record: Record {
                id,
                written: state_of(state)?,
                recovery: recovery_of(recovery)?,
                attempt,
                fence,
                claim,
                op: (has_op == b'o').then(|| ClaimId::from_u128(op)),
                fingerprint,
                settings,
                principal,
                created: Timestamp::from_millis(created),
                changed: Timestamp::from_millis(changed),
                lease_until: some_time(lease),
                expires: some_time(expires),
                body_until: some_time(body_until),
                status,
                body_bytes,
                progress,
            },
            life,
            seal,
            answer: match answer {
                b'i' => Some(Place::Inline(rest)),
                b'k' => Some(Place::Beside),
                b'-' => None,
                _ => return Err(undecodable("answer")),
            },
        }))
    }

    /// Whether a sweep has something to do here. A guess from outside: the step itself decides.
    pub(crate) fn due(&self, now: Timestamp) -> Due {
        let record = &self.record;
        let due = match (record.written, record.recovery) {
            (State::InFlight, Recovery::Hold) => record.lease_over(now),
            (State::InFlight, Recovery::Takeover) => {
                let life = Duration::from_millis(u64::try_from(self.life).unwrap_or(0));
                record.lease_until.is_none_or(|until| until.plus(life) <= now)
            }
            (State::Unknown, _) => false,
            (State::Completed | State::Released, _) => record.is_over(now) || record.body_over(now),
        };
        if due { Due::Now } else { Due::NotYet }
    }
}

fn state_of(byte: u8) -> Result<State, StoreError> {
    match byte {
        b'I' => Ok(State::InFlight),
        b'U' => Ok(State::Unknown),
        b'C' => Ok(State::Completed),
        b'R' => Ok(State::Released),
        _ => Err(undecodable("state")),
    }
}

fn recovery_of(byte: u8) -> Result<Recovery, StoreError> {
    match byte {
        b'h' => Ok(Recovery::Hold),
        b't' => Ok(Recovery::Takeover),
        _ => Err(undecodable("recovery rule")),
    }
}

/// The record that a claim asks for; the step fills in the fence and the times.
pub(crate) fn claimed(ask: &Begin) -> Vec<u8> {
    let mut raw = Vec::with_capacity(HEAD + ask.settings.len());
    raw.put_u8(VERSION);
    raw.put_u8(b'I');
    raw.put_u8(match ask.recovery {
        Recovery::Hold => b'h',
        Recovery::Takeover => b't',
    });
    raw.put_u8(b'b');
    let flag = |set: bool, byte: u8| if set { byte } else { b'-' };
    raw.put_u8(b'-');
    raw.put_u8(flag(ask.principal.is_some(), b'p'));
    raw.put_u8(flag(ask.quota.is_some(), b'q'));
    raw.put_u8(b'-');
    raw.put_u8(flag(ask.request.is_some(), b'r'));
    raw.put_u32(1);
    raw.put_u64(0);
    raw.put_u128(ask.claim.as_u128());
    raw.put_bytes(0, 16 + 5 * 8);
    raw.put_u64(millis(ask.retention.record));
    raw.put_u64(millis(ask.retention.released));
    raw.put_bytes(0, 2 + 8 + 8);
    raw.put_slice(ask.fingerprint.as_bytes());
    raw.put_slice(&ask.principal.map_or([0; 32], |tag| *tag.as_bytes()));
    raw.put_u32(u32::try_from(ask.settings.len()).unwrap_or(u32::MAX));
    raw.put_u32(0);
    raw.put_slice(ask.settings.as_bytes());
    raw
}

/// A length of time that no sum of the scripts takes beyond 2^53: at most some thirty thousand years.
pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX).min(1_000_000_000_000_000)
}
