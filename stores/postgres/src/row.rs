//! A record as a row of the table.

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, RecordView, Recovery, Settings, State, Timestamp,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::{Fault, undecodable};

/// The columns of `columns.sql`.
const WIDTH: usize = 18;

/// Every column but the blobs of completion and request.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: RecordId,
    /// As it is written; [`Row::state_at`] is what it means.
    pub(crate) written: State,
    pub(crate) recovery: Recovery,
    pub(crate) attempt: u32,
    pub(crate) fence: Fence,
    pub(crate) claim: ClaimId,
    pub(crate) op: Option<ClaimId>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) settings: Settings,
    pub(crate) principal: Option<PrincipalTag>,
    created: Timestamp,
    changed: Timestamp,
    lease_until: Option<Timestamp>,
    expires: Option<Timestamp>,
    body_until: Option<Timestamp>,
    status: Option<StatusCode>,
    body_bytes: u64,
    pub(crate) progress: Option<Bytes>,
}

impl Row {
    /// Whether its life is over, so that it is as if it were not there.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    pub(crate) fn lease_over(&self, now: Timestamp) -> bool {
        self.lease_until.is_none_or(|until| until <= now)
    }

    /// A lease that is over under hold is unknown, whether or not that was written.
    pub(crate) fn state_at(&self, now: Timestamp) -> State {
        match (self.written, self.recovery) {
            (State::InFlight, Recovery::Hold) if self.lease_over(now) => State::Unknown,
            (state, _) => state,
        }
    }

    /// Whether the body was dropped by time, swept or not.
    pub(crate) fn body_over(&self, now: Timestamp) -> bool {
        self.body_until.is_some_and(|until| until <= now)
    }

    pub(crate) fn view(&self, now: Timestamp) -> RecordView {
        let state = self.state_at(now);
        let changed = match (self.written, state, self.lease_until) {
            (State::InFlight, State::Unknown, Some(ended)) => ended,
            _ => self.changed,
        };
        RecordView {
            id: self.id,
            state,
            fingerprint: self.fingerprint,
            settings: self.settings.clone(),
            principal: self.principal,
            recovery: self.recovery,
            attempt: self.attempt,
            fence: self.fence,
            claim: self.claim,
            lease_until: self.lease_until,
            created: self.created,
            changed,
            expires: self.expires,
            status: self.status,
            body_bytes: if self.body_over(now) { 0 } else { self.body_bytes },
            progress: self.progress.clone(),
            now,
        }
    }

    /// The record that begins at a column; `None` where a join found none.
    pub(crate) fn read(row: &PgRow, at: usize) -> Result<Option<Self>, Fault> {
        let Some(id) = bytes(row, at)? else { return Ok(None) };
        let time = |n: usize| Ok::<_, Fault>(long(row, at + n)?.map(Timestamp::from_millis));
        let some_time = |n: usize| time(n)?.ok_or_else(|| undecodable("time"));
        let claim = |n: usize| match bytes(row, at + n)? {
            None => Ok(None),
            Some(claim) => ClaimId::from_slice(&claim).map(Some).ok_or_else(|| undecodable("claim")),
        };
        let digest = |n: usize| match bytes(row, at + n)? {
            None => Ok(None),
            Some(digest) => <[u8; 32]>::try_from(digest).map(Some).map_err(|_| undecodable("name")),
        };
        let number = |n: usize| long(row, at + n)?.ok_or_else(|| undecodable("number"));
        let status = match row.try_get::<Option<i32>, _>(at + 15)? {
            None => None,
            Some(status) => {
                let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
                Some(status.ok_or_else(|| undecodable("status"))?)
            }
        };
        Ok(Some(Self {
            id: RecordId::from_slice(&id).ok_or_else(|| undecodable("name"))?,
            written: state_from(row.try_get(at + 1)?)?,
            recovery: recovery_from(row.try_get(at + 2)?)?,
            attempt: u32::try_from(number(3)?).map_err(|_| undecodable("attempt"))?,
            fence: fence_from(number(4)?)?,
            claim: claim(5)?.ok_or_else(|| undecodable("claim"))?,
            op: claim(6)?,
            fingerprint: digest(7)?.map(Fingerprint::from_bytes),
            settings: row.try_get::<&str, _>(at + 8)?.into(),
            principal: digest(9)?.map(PrincipalTag::from_bytes),
            created: some_time(10)?,
            changed: some_time(11)?,
            lease_until: time(12)?,
            expires: time(13)?,
            body_until: time(14)?,
            status,
            body_bytes: u64::try_from(number(16)?).map_err(|_| undecodable("size"))?,
            progress: bytes(row, at + 17)?.map(Bytes::from),
        }))
    }

    /// The column after the record that begins at `at`.
    pub(crate) const fn after(at: usize) -> usize {
        at + WIDTH
    }
}

pub(crate) fn bytes(row: &PgRow, at: usize) -> Result<Option<Vec<u8>>, Fault> {
    // Not borrowed: the simple protocol sends bytes as hexadecimal digits.
    Ok(row.try_get::<Option<Vec<u8>>, _>(at)?)
}

pub(crate) fn long(row: &PgRow, at: usize) -> Result<Option<i64>, Fault> {
    Ok(row.try_get::<Option<i64>, _>(at)?)
}

/// The server's clock, which every answer carries in its first column.
pub(crate) fn now(row: &PgRow) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(row.try_get::<i64, _>(0)?))
}

pub(crate) fn fence_from(number: i64) -> Result<Fence, Fault> {
    u64::try_from(number).ok().and_then(Fence::new).ok_or_else(|| undecodable("fence"))
}

/// PostgreSQL's integers are signed; no counter of ours gets near the difference.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) const fn state_to(state: State) -> i16 {
    match state {
        State::InFlight => 0,
        State::Completed => 1,
        State::Released => 2,
        State::Unknown => 3,
    }
}

fn state_from(number: i16) -> Result<State, Fault> {
    State::ALL.into_iter().find(|state| state_to(*state) == number).ok_or_else(|| undecodable("state"))
}

pub(crate) const fn recovery_to(recovery: Recovery) -> i16 {
    match recovery {
        Recovery::Hold => 0,
        Recovery::Takeover => 1,
    }
}

fn recovery_from(number: i16) -> Result<Recovery, Fault> {
    match number {
        0 => Ok(Recovery::Hold),
        1 => Ok(Recovery::Takeover),
        _ => Err(undecodable("recovery")),
    }
}
