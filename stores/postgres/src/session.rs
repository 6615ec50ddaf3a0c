//! One connection, and how a statement and its values travel on it.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe};

use crate::error::Fault;
use crate::sql::{Protocol, Sql};

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Arg<'a> {
    Long(Option<i64>),
    Int(Option<i32>),
    Short(i16),
    Flag(bool),
    Text(&'a str),
    Bytes(Option<&'a [u8]>),
    ManyBytes(Vec<Option<&'a [u8]>>),
    ManyLongs(Vec<Option<i64>>),
    ManyTexts(Vec<&'a str>),
}

/// A connection at work.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    pub(crate) sql: Arc<Sql>,
    pub(crate) protocol: Protocol,
    /// Whether it has served before: then its first failure may be the server's last restart.
    pub(crate) used: bool,
}

impl Session {
    /// All rows of a statement.
    pub(crate) async fn rows(&mut self, sql: &Arc<str>, args: &[Arg<'_>]) -> Result<Vec<PgRow>, Fault> {
        let rows = match self.protocol {
            Protocol::Prepared => {
                let mut bound = PgArguments::default();
                for arg in args {
                    bind(&mut bound, arg).map_err(sqlx::Error::Encode)?;
                }
                let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), bound);
                query.fetch_all(&mut self.connection).await?
            }
            Protocol::Simple => self.script(&written(sql, args)).await?,
        };
        Ok(rows)
    }

    /// The first row of a statement, if it has one.
    pub(crate) async fn maybe(&mut self, sql: &Arc<str>, args: &[Arg<'_>]) -> Result<Option<PgRow>, Fault> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// The only row of a statement that always has one.
    pub(crate) async fn one(&mut self, sql: &Arc<str>, args: &[Arg<'_>]) -> Result<PgRow, Fault> {
        self.maybe(sql, args).await?.ok_or(Fault::Sqlx(sqlx::Error::RowNotFound))
    }

    /// Several statements in one message, which is one transaction, each seeing what was committed before it.
    pub(crate) async fn script(&mut self, text: &str) -> Result<Vec<PgRow>, Fault> {
        Ok(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut self.connection).await?)
    }
}

fn bind(bound: &mut PgArguments, arg: &Arg<'_>) -> Result<(), sqlx::error::BoxDynError> {
    match arg {
        Arg::Long(value) => bound.add(*value),
        Arg::Int(value) => bound.add(*value),
        Arg::Short(value) => bound.add(*value),
        Arg::Flag(value) => bound.add(*value),
        Arg::Text(value) => bound.add(*value),
        Arg::Bytes(value) => bound.add(*value),
        Arg::ManyBytes(values) => bound.add(values),
        Arg::ManyLongs(values) => bound.add(values),
        Arg::ManyTexts(values) => bound.add(values),
    }
}

/// The statement with its values in it. They are numbers and hexadecimal digits and nothing else, so that no value
/// can be read as SQL, whatever the server's settings.
pub(crate) fn written(sql: &str, args: &[Arg<'_>]) -> String {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        if let Some(arg) = number.parse::<usize>().ok().and_then(|n| args.get(n.wrapping_sub(1))) {
            write_value(&mut text, arg);
        } else {
            text.push('$');
            text.push_str(number);
        }
        text.push_str(rest);
    }
    text
}

fn write_value(text: &mut String, arg: &Arg<'_>) {
    match arg {
        Arg::Long(Some(value)) => drop(write!(text, "({value})")),
        Arg::Int(Some(value)) => drop(write!(text, "({value})")),
        Arg::Short(value) => drop(write!(text, "({value})")),
        Arg::Long(None) | Arg::Int(None) | Arg::Bytes(None) => text.push_str("NULL"),
        Arg::Flag(value) => text.push_str(if *value { "true" } else { "false" }),
        Arg::Text(value) => {
            text.push_str("convert_from(");
            write_hex(text, value.as_bytes());
            text.push_str(", 'UTF8')");
        }
        Arg::Bytes(Some(bytes)) => write_hex(text, bytes),
        Arg::ManyBytes(values) => write_many(text, values.iter().map(|value| Arg::Bytes(*value))),
        Arg::ManyLongs(values) => write_many(text, values.iter().map(|value| Arg::Long(*value))),
        Arg::ManyTexts(values) => write_many(text, values.iter().map(|value| Arg::Text(value))),
    }
}

fn write_many<'a>(text: &mut String, values: impl Iterator<Item = Arg<'a>>) {
    text.push_str("ARRAY[");
    for (n, value) in values.enumerate() {
        text.push_str(if n == 0 { "" } else { "," });
        write_value(text, &value);
    }
    text.push(']');
}

fn write_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(bytes.len() * 2 + 24);
    text.push_str("decode('");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push_str("', 'hex')");
}

#[cfg(test)]
mod tests {
    use super::*;

    // A value must never be read as SQL.
    #[test]
    fn values_are_written_as_digits() {
        let args = [Arg::Text("'; DROP TABLE x; --"), Arg::Bytes(Some(b"$1'\\")), Arg::Long(Some(-7))];
        let text = written("SELECT $1::text, $2::bytea, $3::bigint, $4, $12", &args);
        assert_eq!(
            text,
            "SELECT convert_from(decode('273b2044524f50205441424c4520783b202d2d', 'hex'), 'UTF8')::text, \
             decode('2431275c', 'hex')::bytea, (-7)::bigint, $4, $12"
        );
    }
}
