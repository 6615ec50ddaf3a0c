//! Names, values and the time, as they are written in statements. Values are digits and nothing else, so that none
//! can be read as SQL, whatever the server's settings.

use std::fmt::Write as _;

/// Where the time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is the server's clock, and one for tests")]
pub enum Clock {
    /// The server's `SYSDATE`, in UTC.
    #[default]
    Server,
    /// For tests: the server's, moved forward by what [`MySqlStore::shift_clock`](crate::MySqlStore::shift_clock) has
    /// added up in the database. All who share the tables have to be opened with it.
    Shifted,
}

/// The columns of a record but its blobs, in the order in which they are read.
const COLUMNS: &str = "r.id, r.state, r.recovery, r.attempt, r.fence, r.claim, r.op, r.fingerprint, r.settings, \
    r.principal, r.created, r.changed, r.lease_until, r.expires, r.body_until, r.status, r.body_bytes, r.progress";

/// What stands for what in statements.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// What tables' names begin with.
    prefix: String,
    /// The same with the database, where it is named.
    full: String,
    /// Which database they are in, as an expression.
    database: String,
    now: String,
    clock: Clock,
}

impl Names {
    /// Plain names only: then they are what they seem in every place they are written to.
    pub(crate) fn new(prefix: &str, clock: Clock) -> Option<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = prefix.starts_with(|c: char| c.is_ascii_lowercase());
        (begins && prefix.len() <= 40 && prefix.chars().all(plain))
            .then(|| Self::of(prefix.to_owned(), prefix.to_owned(), "DATABASE()".to_owned(), clock))
    }

    fn of(prefix: String, full: String, database: String, clock: Clock) -> Self {
        // SYSDATE is the time when it is computed, after any wait for a row; NOW is that of the statement's start.
        let server = "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', SYSDATE(3)) DIV 1000";
        let now = match clock {
            Clock::Server => format!("({server})"),
            Clock::Shifted => format!("({server} + (SELECT s.ahead FROM {full}shift AS s))"),
        };
        Self { prefix, full, database, now, clock }
    }

    /// The same tables for a connection that may be in another database.
    pub(crate) fn within(&self, database: &str) -> Self {
        let full = format!("{}.{}", quoted(database), self.prefix);
        let database = format!("CONVERT({} USING utf8mb4)", hex(database.as_bytes()));
        Self::of(self.prefix.clone(), full, database, self.clock)
    }

    /// What tables' names begin with, without a database.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Which database the tables are in, as an expression.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Fills in `{p}`, `{now}` and `{columns}`.
    pub(crate) fn write(&self, template: &str) -> String {
        template.replace("{columns}", COLUMNS).replace("{now}", &self.now).replace("{p}", &self.full)
    }
}

/// A name that is somebody else's.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("X'");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

pub(crate) fn maybe_hex(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "NULL".to_owned(), hex)
}

pub(crate) fn maybe_int(number: Option<i64>) -> String {
    number.map_or_else(|| "NULL".to_owned(), |number| format!("({number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_have_to_be_escaped_are_refused() {
        for name in ["semel_", "x9", "a_b"] {
            assert!(Names::new(name, Clock::Server).is_some(), "{name}");
        }
        for name in ["", "9a", "_a", "Semel", "a-b", "a`b", "a'b", "a.b", "a b", &"x".repeat(41)] {
            assert!(Names::new(name, Clock::Server).is_none(), "{name}");
        }
    }

    #[test]
    fn tables_of_another_database_are_named_in_full() {
        let names = Names::new("semel_", Clock::Shifted).map(|names| names.within("a`b"));
        let text = names.map(|names| names.write("{p}record {now}")).unwrap_or_default();
        assert!(
            text.starts_with("`a``b`.semel_record ") && text.contains("FROM `a``b`.semel_shift"),
            "{text}"
        );
    }

    // A value must never be read as SQL.
    #[test]
    fn values_are_written_as_digits() {
        assert_eq!(hex(b"'; --\\"), "X'273b202d2d5c'");
        assert_eq!(maybe_hex(None), "NULL");
        assert_eq!(maybe_int(Some(-7)), "(-7)");
    }
}
