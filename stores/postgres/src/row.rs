//! A record as the server sends it: one value of many fields, which takes it less than as many columns.

use bytes::Bytes;
use semel_core::record::{ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, Timestamp};
use semel_store_kit::{Row, recovery_from, state_from, status_from};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::{Fault, undecodable};

/// The record in a column; `None` where a join found none.
pub(crate) fn record(row: &PgRow, at: usize) -> Result<Option<Row>, Fault> {
    let Some(sent) = bytes(row, at)? else { return Ok(None) };
    let mut fields = Fields::new(&sent)?;
    let Some(id) = fields.any("name")? else { return Ok(None) };
    let claim = |bytes| ClaimId::from_slice(bytes).ok_or_else(|| undecodable("claim"));
    let status =
        |number: [u8; 4]| status_from(i32::from_be_bytes(number).into()).ok_or_else(|| undecodable("status"));
    // In the order of `record.sql`.
    Ok(Some(Row {
        id: RecordId::from_slice(id).ok_or_else(|| undecodable("name"))?,
        written: state_from(fields.short("state")?).ok_or_else(|| undecodable("state"))?,
        recovery: recovery_from(fields.short("recovery")?).ok_or_else(|| undecodable("recovery"))?,
        attempt: u32::try_from(fields.long("attempt")?).map_err(|_| undecodable("attempt"))?,
        fence: fence(fields.long("fence")?)?,
        claim: claim(fields.some("claim")?)?,
        op: fields.any("resolution")?.map(claim).transpose()?,
        fingerprint: fields.sized("fingerprint")?.map(Fingerprint::from_bytes),
        settings: str::from_utf8(fields.some("settings")?).map_err(|_| undecodable("settings"))?.into(),
        principal: fields.sized("principal")?.map(PrincipalTag::from_bytes),
        created: fields.some_time()?,
        changed: fields.some_time()?,
        lease_until: fields.time()?,
        expires: fields.time()?,
        body_until: fields.time()?,
        status: fields.sized("status")?.map(status).transpose()?,
        body_bytes: u64::try_from(fields.long("size")?).map_err(|_| undecodable("size"))?,
        progress: fields.any("progress")?.map(Bytes::copy_from_slice),
    }))
}

/// A composite value as PostgreSQL writes it in binary: the number of its fields, and each with its type and its length,
/// which is negative for NULL.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(sent: &'a [u8]) -> Result<Self, Fault> {
        let (_, fields) = sent.split_first_chunk::<4>().ok_or_else(|| undecodable("form"))?;
        Ok(Self(fields))
    }

    fn any(&mut self, what: &str) -> Result<Option<&'a [u8]>, Fault> {
        let broken = || undecodable(what);
        let (_, rest) = self.0.split_first_chunk::<4>().ok_or_else(broken)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(broken)?;
        let length = usize::try_from(i32::from_be_bytes(*length));
        let (field, rest) = rest.split_at_checked(length.unwrap_or(0)).ok_or_else(broken)?;
        self.0 = rest;
        Ok(length.is_ok().then_some(field))
    }

    fn some(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        self.any(what)?.ok_or_else(|| undecodable(what))
    }

    fn sized<const N: usize>(&mut self, what: &str) -> Result<Option<[u8; N]>, Fault> {
        self.any(what)?.map(|field| <[u8; N]>::try_from(field).map_err(|_| undecodable(what))).transpose()
    }

    fn short(&mut self, what: &str) -> Result<i64, Fault> {
        let number = self.sized(what)?.ok_or_else(|| undecodable(what))?;
        Ok(i16::from_be_bytes(number).into())
    }

    fn long(&mut self, what: &str) -> Result<i64, Fault> {
        Ok(i64::from_be_bytes(self.sized(what)?.ok_or_else(|| undecodable(what))?))
    }

    fn time(&mut self) -> Result<Option<Timestamp>, Fault> {
        Ok(self.sized("time")?.map(time))
    }

    fn some_time(&mut self) -> Result<Timestamp, Fault> {
        self.time()?.ok_or_else(|| undecodable("time"))
    }
}

/// From microseconds since the year 2000.
fn time(sent: [u8; 8]) -> Timestamp {
    const EPOCH: i64 = 946_684_800_000;
    Timestamp::from_millis(i64::from_be_bytes(sent).div_euclid(1000).saturating_add(EPOCH))
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
    let sent = bytes(row, 0)?.and_then(|sent| sent.try_into().ok());
    sent.map(time).ok_or_else(|| undecodable("time"))
}

pub(crate) fn fence(number: i64) -> Result<Fence, Fault> {
    semel_store_kit::fence_from(number).ok_or_else(|| undecodable("fence"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut sent = u32::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            sent.extend(20_u32.to_be_bytes());
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            sent.extend(length.to_be_bytes());
            sent.extend(field.unwrap_or_default());
        }
        sent
    }

    // Whatever a server or a proxy sends in place of a record must be refused, not read beyond its end.
    #[test]
    fn a_value_that_was_cut_off_is_undecodable() {
        let sent = value(&[Some(&7_i64.to_be_bytes()), None, Some(b"text")]);
        let mut fields = Fields::new(&sent).unwrap();
        assert_eq!(fields.long("number").unwrap(), 7);
        assert_eq!(fields.any("nothing").unwrap(), None);
        assert_eq!(fields.some("text").unwrap(), b"text");
        assert!(fields.any("one more").is_err());
        for cut in 0..sent.len() {
            let read = || {
                let mut fields = Fields::new(&sent[..cut])?;
                let _ = fields.long("number")?;
                let _ = fields.any("nothing")?;
                fields.some("text").map(drop)
            };
            assert!(matches!(read(), Err(Fault::Refused(_))), "{cut}");
        }
    }

    #[test]
    fn a_field_of_another_size_or_none_is_undecodable() {
        let sent = value(&[Some(&7_i32.to_be_bytes()), None]);
        assert!(Fields::new(&sent).unwrap().long("number").is_err());
        let mut fields = Fields::new(&sent).unwrap();
        let _ = fields.any("number").unwrap();
        assert!(fields.some_time().is_err());
    }

    #[test]
    fn times_are_counted_from_1970_in_milliseconds() {
        let at = |micros: i64| time(micros.to_be_bytes()).as_millis();
        assert_eq!(at(0), 946_684_800_000);
        assert_eq!(at(1_234_567), 946_684_801_234);
        assert_eq!(at(-1), 946_684_799_999);
    }
}
