//! A record as a row of the table.

use bytes::Bytes;
use http::StatusCode;
use rusqlite::{Row as SqlRow, Statement};
use semel_core::record::{
    ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, RecordView, Recovery, Settings, State, Timestamp,
};

use crate::error::{Fault, undecodable};

/// Every column but the blobs of completion and request.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The rowid; 0 before it is inserted.
    pub(crate) n: i64,
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
    pub(crate) created: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) body_until: Option<Timestamp>,
    pub(crate) life: i64,
    pub(crate) released_life: i64,
    pub(crate) status: Option<StatusCode>,
    pub(crate) body_bytes: u64,
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

    /// Writes down that its lease ended under hold, as of then.
    pub(crate) fn end_lease(&mut self) {
        self.changed = self.lease_until.unwrap_or(self.changed);
        self.written = State::Unknown;
    }

    /// When a sweep has something to do here.
    fn due(&self) -> Option<i64> {
        let lease = self.lease_until.map_or(0, Timestamp::as_millis);
        match (self.written, self.recovery) {
            (State::InFlight, Recovery::Hold) => Some(lease),
            (State::InFlight, Recovery::Takeover) => Some(lease.saturating_add(self.life)),
            (State::Unknown, _) => None,
            (State::Completed | State::Released, _) => {
                [self.expires, self.body_until].into_iter().flatten().min().map(Timestamp::as_millis)
            }
        }
    }

    pub(crate) fn read(row: &SqlRow<'_>) -> Result<Self, Fault> {
        let time = |at: usize| row.get::<_, i64>(at).map(Timestamp::from_millis);
        let maybe_time = |at: usize| row.get::<_, Option<i64>>(at).map(|ms| ms.map(Timestamp::from_millis));
        let claim = |at: usize| match row.get_ref(at)?.as_blob_or_null() {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => ClaimId::from_slice(bytes).map(Some).ok_or_else(|| undecodable("claim")),
            Err(_) => Err(undecodable("claim")),
        };
        let digest = |at: usize| match row.get_ref(at)?.as_blob_or_null() {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => <[u8; 32]>::try_from(bytes).map(Some).map_err(|_| undecodable("name")),
            Err(_) => Err(undecodable("name")),
        };
        let fence = u64::try_from(row.get::<_, i64>(5)?).ok().and_then(Fence::new);
        let status = match row.get::<_, Option<i64>>(19)? {
            None => None,
            Some(status) => {
                let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
                Some(status.ok_or_else(|| undecodable("status"))?)
            }
        };
        Ok(Self {
            n: row.get(0)?,
            id: RecordId::from_bytes(digest(1)?.ok_or_else(|| undecodable("name"))?),
            written: state_from(row.get(2)?)?,
            recovery: recovery_from(row.get(3)?)?,
            attempt: u32::try_from(row.get::<_, i64>(4)?).map_err(|_| undecodable("attempt"))?,
            fence: fence.ok_or_else(|| undecodable("fence"))?,
            claim: claim(6)?.ok_or_else(|| undecodable("claim"))?,
            op: claim(7)?,
            fingerprint: digest(8)?.map(Fingerprint::from_bytes),
            settings: row.get_ref(9)?.as_str().map_err(|_| undecodable("setting"))?.into(),
            principal: digest(10)?.map(PrincipalTag::from_bytes),
            created: time(11)?,
            changed: time(12)?,
            lease_until: maybe_time(13)?,
            expires: maybe_time(14)?,
            body_until: maybe_time(15)?,
            life: row.get(17)?,
            released_life: row.get(18)?,
            status,
            body_bytes: u64::try_from(row.get::<_, i64>(20)?).map_err(|_| undecodable("size"))?,
            progress: row.get::<_, Option<Vec<u8>>>(21)?.map(Bytes::from),
        })
    }

    /// Binds parameters 1 to 20, in the order of the columns.
    pub(crate) fn bind(&self, sql: &mut Statement<'_>) -> rusqlite::Result<()> {
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        sql.raw_bind_parameter(1, state_to(self.written))?;
        sql.raw_bind_parameter(2, recovery_to(self.recovery))?;
        sql.raw_bind_parameter(3, self.attempt)?;
        sql.raw_bind_parameter(4, int(self.fence.get()))?;
        sql.raw_bind_parameter(5, &self.claim.to_bytes()[..])?;
        sql.raw_bind_parameter(6, self.op.map(ClaimId::to_bytes).as_ref().map(|op| &op[..]))?;
        sql.raw_bind_parameter(7, self.fingerprint.as_ref().map(|print| &print.as_bytes()[..]))?;
        sql.raw_bind_parameter(8, &*self.settings)?;
        sql.raw_bind_parameter(9, self.principal.as_ref().map(|tag| &tag.as_bytes()[..]))?;
        sql.raw_bind_parameter(10, self.created.as_millis())?;
        sql.raw_bind_parameter(11, self.changed.as_millis())?;
        sql.raw_bind_parameter(12, millis(self.lease_until))?;
        sql.raw_bind_parameter(13, millis(self.expires))?;
        sql.raw_bind_parameter(14, millis(self.body_until))?;
        sql.raw_bind_parameter(15, self.due())?;
        sql.raw_bind_parameter(16, self.life)?;
        sql.raw_bind_parameter(17, self.released_life)?;
        sql.raw_bind_parameter(18, self.status.map(|status| status.as_u16()))?;
        sql.raw_bind_parameter(19, int(self.body_bytes))?;
        sql.raw_bind_parameter(20, self.progress.as_deref())
    }
}

/// SQLite's integers are signed; no counter of ours gets near the difference.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const fn state_to(state: State) -> i64 {
    match state {
        State::InFlight => 0,
        State::Completed => 1,
        State::Released => 2,
        State::Unknown => 3,
    }
}

fn state_from(number: i64) -> Result<State, Fault> {
    State::ALL.into_iter().find(|state| state_to(*state) == number).ok_or_else(|| undecodable("state"))
}

const fn recovery_to(recovery: Recovery) -> i64 {
    match recovery {
        Recovery::Hold => 0,
        Recovery::Takeover => 1,
    }
}

fn recovery_from(number: i64) -> Result<Recovery, Fault> {
    match number {
        0 => Ok(Recovery::Hold),
        1 => Ok(Recovery::Takeover),
        _ => Err(undecodable("recovery")),
    }
}
