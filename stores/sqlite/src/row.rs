//! A record as a row of the table.

use bytes::Bytes;
use rusqlite::{Row as SqlRow, Statement};
use semel_core::record::{ClaimId, Fingerprint, PrincipalTag, RecordId, Recovery, State, Timestamp};
use semel_store_kit::{
    Row as Record, fence_from, int, recovery_from, recovery_to, state_from, state_to, status_from,
};

use crate::error::{Fault, undecodable};

/// Every column but the blobs of completion and request.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The rowid; 0 before it is inserted.
    pub(crate) n: i64,
    pub(crate) record: Record,
    pub(crate) life: i64,
    pub(crate) released_life: i64,
}

impl Row {
    /// Writes down that its lease ended under hold, as of then.
    pub(crate) fn end_lease(&mut self) {
        let record = &mut self.record;
        record.changed = record.lease_until.unwrap_or(record.changed);
        record.written = State::Unknown;
    }

    /// When a sweep has something to do here.
    fn due(&self) -> Option<i64> {
        let Record { written, recovery, lease_until, expires, body_until, .. } = self.record;
        let lease = lease_until.map_or(0, Timestamp::as_millis);
        match (written, recovery) {
            (State::InFlight, Recovery::Hold) => Some(lease),
            (State::InFlight, Recovery::Takeover) => Some(lease.saturating_add(self.life)),
            (State::Unknown, _) => None,
            (State::Completed | State::Released, _) => {
                [expires, body_until].into_iter().flatten().min().map(Timestamp::as_millis)
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
        let status = row.get::<_, Option<i64>>(19)?;
        let status = status.map(|status| status_from(status).ok_or_else(|| undecodable("status")));
        Ok(Self {
            n: row.get(0)?,
            record: Record {
                id: RecordId::from_bytes(digest(1)?.ok_or_else(|| undecodable("name"))?),
                written: state_from(row.get(2)?).ok_or_else(|| undecodable("state"))?,
                recovery: recovery_from(row.get(3)?).ok_or_else(|| undecodable("recovery"))?,
                attempt: u32::try_from(row.get::<_, i64>(4)?).map_err(|_| undecodable("attempt"))?,
                fence: fence_from(row.get(5)?).ok_or_else(|| undecodable("fence"))?,
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
                status: status.transpose()?,
                body_bytes: u64::try_from(row.get::<_, i64>(20)?).map_err(|_| undecodable("size"))?,
                progress: row.get::<_, Option<Vec<u8>>>(21)?.map(Bytes::from),
            },
            life: row.get(17)?,
            released_life: row.get(18)?,
        })
    }

    /// Binds parameters 1 to 20, in the order of the columns.
    pub(crate) fn bind(&self, sql: &mut Statement<'_>) -> rusqlite::Result<()> {
        let record = &self.record;
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        sql.raw_bind_parameter(1, state_to(record.written))?;
        sql.raw_bind_parameter(2, recovery_to(record.recovery))?;
        sql.raw_bind_parameter(3, record.attempt)?;
        sql.raw_bind_parameter(4, int(record.fence.get()))?;
        sql.raw_bind_parameter(5, &record.claim.to_bytes()[..])?;
        sql.raw_bind_parameter(6, record.op.map(ClaimId::to_bytes).as_ref().map(|op| &op[..]))?;
        sql.raw_bind_parameter(7, record.fingerprint.as_ref().map(|print| &print.as_bytes()[..]))?;
        sql.raw_bind_parameter(8, &*record.settings)?;
        sql.raw_bind_parameter(9, record.principal.as_ref().map(|tag| &tag.as_bytes()[..]))?;
        sql.raw_bind_parameter(10, record.created.as_millis())?;
        sql.raw_bind_parameter(11, record.changed.as_millis())?;
        sql.raw_bind_parameter(12, millis(record.lease_until))?;
        sql.raw_bind_parameter(13, millis(record.expires))?;
        sql.raw_bind_parameter(14, millis(record.body_until))?;
        sql.raw_bind_parameter(15, self.due())?;
        sql.raw_bind_parameter(16, self.life)?;
        sql.raw_bind_parameter(17, self.released_life)?;
        sql.raw_bind_parameter(18, record.status.map(|status| status.as_u16()))?;
        sql.raw_bind_parameter(19, int(record.body_bytes))?;
        sql.raw_bind_parameter(20, record.progress.as_deref())
    }
}
