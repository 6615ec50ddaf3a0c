//! A record as the string that Redis keeps.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | state `I` `U` `C` `R` |
//! | 2 | 1 | bound `b` or forgotten `f` |
//! | 3 | 3 | each or `-`: counted against a quota `q`, request `r`, progress `n` |
//! | 6 | 8 | the record's life |
//! | 14 | 8 | fence: microseconds; no time of its claim is before its millisecond |
//! | 22 | 1 | recovery `h` `t` |
//! | 23 | 2 | each or `-`: operation `o`, principal `p` |
//! | 25 | 4 | attempt |
//! | 29 | 16 | claim |
//! | 45 | 8 | created, 0: the fence's millisecond |
//! | 53 | 8 | life of a release |
//! | 61 | 32 | fingerprint |
//! | 93 | 4 | bytes of settings |
//! | 97 | | settings; the last resolution (16) and the principal (32), where there is one |
//!
//! Then, by the state:
//!
//! | | |
//! |---|---|
//! | `I` | lease (8), counted from the fence's millisecond, which is when it changed; progress |
//! | `U` | changed (8), lease (8), likewise; progress |
//! | `R` | changed (8), life from then on (8); progress |
//! | `C` | changed (8), life from then on (8), the body's life plus one (8, 0: none), status (2, 0: none), bytes of the kept body (8), answer inline `i` or beside `k`, its blob or the first 8 bytes of that |
//!
//! Numbers are big-endian; instants and lives are in milliseconds. A record that was removed leaves its last fence:
//! version, `T`, fence. `lua/record.lua` reads and writes the same.
//!
//! A claim knows all of its record but the fence, and a completion all but what the claim wrote and the moment: so the
//! script of a claim inserts one number, and that of a completion replaces an end of fixed length. Lua hashes each byte
//! of each string that it makes, which is why there are no empty fields.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::StatusCode;
use semel_core::record::{
    ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, Recovery, Retention, State, Timestamp,
};
use semel_core::store::{Begin, StoreError};
use semel_store_kit::Row as Record;

use crate::error::undecodable;

const VERSION: u8 = 1;
/// What each record has.
const HEAD: usize = 97;
/// What a completed record has between its principal and its answer.
const DONE: usize = 35;
/// A tombstone's length.
const TOMB: usize = 10;
/// How many microseconds of a fence are one of an instant.
const MICROS: u64 = 1000;

/// The first bytes of an answer's blob: tell one answer from another.
pub(crate) type Seal = [u8; 8];

/// A record, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) record: Record,
    life: i64,
    pub(crate) answer: Option<Answer>,
}

/// Where an answer is.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `None`: beside the record.
    pub(crate) inline: Option<Bytes>,
    pub(crate) seal: Seal,
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
        let mut raw = raw.slice(1..);
        let mut flags = [0; 5];
        raw.copy_to_slice(&mut flags);
        let [state, bound, _counted, _request, progress] = flags;
        let life = instant(raw.get_u64())?;
        let fence = raw.get_u64();
        let claimed = instant(fence / MICROS)?;
        let fence = Fence::new(fence).ok_or_else(|| undecodable("fence"))?;
        let (recovery, has_op, has_principal) = (raw.get_u8(), raw.get_u8(), raw.get_u8());
        let attempt = raw.get_u32();
        let claim = ClaimId::from_u128(raw.get_u128());
        let created = match raw.get_u64() {
            0 => claimed,
            created => instant(created)?,
        };
        let _released_life = raw.get_u64();
        let mut digest = [0; 32];
        raw.copy_to_slice(&mut digest);
        let fingerprint = (bound == b'b').then(|| Fingerprint::from_bytes(digest));
        let settings = raw.get_u32();
        let settings = take(&mut raw, usize::try_from(settings).unwrap_or(usize::MAX))?;
        let settings = std::str::from_utf8(&settings).map_err(|_| undecodable("settings"))?.into();
        let op = match has_op {
            b'o' => Some(ClaimId::from_u128(take(&mut raw, 16)?.get_u128())),
            _ => None,
        };
        let principal = match has_principal {
            b'p' => {
                take(&mut raw, 32)?.copy_to_slice(&mut digest);
                Some(PrincipalTag::from_bytes(digest))
            }
            _ => None,
        };
        let mut record = Record {
            id,
            written: state_of(state)?,
            recovery: recovery_of(recovery)?,
            attempt,
            fence,
            claim,
            op,
            fingerprint,
            settings,
            principal,
            created,
            changed: claimed,
            lease_until: None,
            expires: None,
            body_until: None,
            status: None,
            body_bytes: 0,
            progress: None,
        };
        let answer = match record.written {
            State::InFlight => {
                record.lease_until = Some(after(claimed, take(&mut raw, 8)?.get_u64())?);
                None
            }
            State::Unknown => {
                let mut end = take(&mut raw, 16)?;
                record.changed = instant(end.get_u64())?;
                record.lease_until = Some(after(claimed, end.get_u64())?);
                None
            }
            State::Released => {
                let mut end = take(&mut raw, 16)?;
                record.changed = instant(end.get_u64())?;
                record.expires = Some(after(record.changed, end.get_u64())?);
                None
            }
            State::Completed => Some(completed(&mut record, &mut raw)?),
        };
        record.progress = (progress == b'n').then_some(raw);
        Ok(Some(Self { record, life: life.as_millis(), answer }))
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

/// Reads the end of a completed record.
fn completed(record: &mut Record, raw: &mut Bytes) -> Result<Answer, StoreError> {
    let mut end = take(raw, DONE)?;
    record.changed = instant(end.get_u64())?;
    record.expires = Some(after(record.changed, end.get_u64())?);
    record.body_until = match end.get_u64() {
        0 => None,
        life => Some(after(record.changed, life - 1)?),
    };
    record.status = match end.get_u16() {
        0 => None,
        status => Some(StatusCode::from_u16(status).map_err(|_| undecodable("status"))?),
    };
    record.body_bytes = end.get_u64();
    let blob = std::mem::take(raw);
    let mut seal = Seal::default();
    blob.get(..seal.len()).ok_or_else(|| undecodable("answer"))?.copy_to_slice(&mut seal);
    match end.get_u8() {
        b'i' => Ok(Answer { inline: Some(blob), seal }),
        b'k' => Ok(Answer { inline: None, seal }),
        _ => Err(undecodable("answer")),
    }
}

fn take(raw: &mut Bytes, bytes: usize) -> Result<Bytes, StoreError> {
    if raw.len() < bytes {
        return Err(undecodable("length"));
    }
    Ok(raw.split_to(bytes))
}

fn instant(millis: u64) -> Result<Timestamp, StoreError> {
    i64::try_from(millis).map(Timestamp::from_millis).map_err(|_| undecodable("time"))
}

fn after(start: Timestamp, millis: u64) -> Result<Timestamp, StoreError> {
    let sum = i64::try_from(millis).ok().and_then(|millis| start.as_millis().checked_add(millis));
    sum.map(Timestamp::from_millis).ok_or_else(|| undecodable("time"))
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

/// The record that a claim asks for, up to its fence, which the step fills in, and from there on.
pub(crate) fn claimed(ask: &Begin) -> (Vec<u8>, Vec<u8>) {
    let flag = |set: bool, byte: u8| if set { byte } else { b'-' };
    let mut head = Vec::with_capacity(14);
    head.put_slice(&[
        VERSION,
        b'I',
        b'b',
        flag(ask.quota.is_some(), b'q'),
        flag(ask.request.is_some(), b'r'),
        b'-',
    ]);
    head.put_u64(millis(ask.retention.record));
    let mut rest = Vec::with_capacity(HEAD + ask.settings.len() + 32);
    rest.put_u8(match ask.recovery {
        Recovery::Hold => b'h',
        Recovery::Takeover => b't',
    });
    rest.put_u8(b'-');
    rest.put_u8(flag(ask.principal.is_some(), b'p'));
    rest.put_u32(1);
    rest.put_u128(ask.claim.as_u128());
    rest.put_u64(0);
    rest.put_u64(millis(ask.retention.released));
    rest.put_slice(ask.fingerprint.as_bytes());
    rest.put_u32(u32::try_from(ask.settings.len()).unwrap_or(u32::MAX));
    rest.put_slice(ask.settings.as_bytes());
    if let Some(principal) = &ask.principal {
        rest.put_slice(principal.as_bytes());
    }
    rest.put_u64(millis(ask.lease_for));
    (head, rest)
}

/// How a record begins that is claimed, as it is as a rule: bound, without quota, request or progress; and that has the
/// life which its completion gives it.
pub(crate) fn in_flight(fence: Fence, keep: &Retention) -> Vec<u8> {
    let mut head = Vec::with_capacity(22);
    head.put_slice(&[VERSION, b'I', b'b', b'-', b'-', b'-']);
    head.put_u64(millis(keep.record));
    head.put_u64(fence.get());
    head
}

/// A length of time that no sum of the scripts takes beyond 2^53: at most some thirty thousand years.
pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX).min(1_000_000_000_000_000)
}
