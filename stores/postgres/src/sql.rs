//! The statements, written for one schema.

use std::sync::Arc;

/// Where the time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is the server's clock, and one for tests")]
pub enum Clock {
    /// The server's `clock_timestamp()`.
    #[default]
    Server,
    /// For tests: the server's, moved forward by what [`PostgresStore::shift_clock`](crate::PostgresStore::shift_clock)
    /// has added up in the schema. All who share the schema have to be opened with it.
    Shifted,
}

/// How statements reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Prepared once a connection, on a connection that keeps its settings.
    Prepared,
    /// Each in one message of its own: a pooler may give each to another connection.
    Simple,
}

/// A schema's name, as it is written in statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema(String);

impl Schema {
    /// Plain names only: then they are what they seem in every place they are written to.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        (begins && name.len() <= 48 && name.chars().all(plain)).then(|| Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// What is notified when a record changes that somebody waits for.
    pub(crate) fn channel(&self) -> String {
        format!("semel_{}", self.0)
    }

    pub(crate) fn write(&self, template: &str) -> String {
        template.replace("{schema}", &self.quoted()).replace("{name}", &self.0)
    }
}

macro_rules! statements {
    ($($name:ident),* $(,)?) => {
        /// Every statement. The text is the name under which a connection has prepared it.
        #[derive(Debug)]
        pub(crate) struct Sql {
            /// A claim that counts what its principal keeps, and the same for taking a record.
            pub(crate) claim_within: Arc<str>,
            pub(crate) take_within: Arc<str>,
            $(pub(crate) $name: Arc<str>,)*
        }

        impl Sql {
            pub(crate) fn new(schema: &Schema, clock: Clock, protocol: Protocol) -> Self {
                let writer = Writer { schema, clock, protocol };
                Self {
                    claim_within: writer.write(include_str!("sql/claim.sql"), include_str!("sql/room.sql")),
                    take_within: writer.write(include_str!("sql/take.sql"), include_str!("sql/room.sql")),
                    $($name: writer.write(include_str!(concat!("sql/", stringify!($name), ".sql")), "true"),)*
                }
            }
        }
    };
}

statements! {
    claim, claim_many, complete_many, take, lapse, find, find_many, read, renew, complete, release, abandon, note, mark, list, resolve,
    delete, sweep, bodies, drop_bodies,
}

impl Sql {
    /// What every request needs: prepared before a connection is used, so that no claim waits for it.
    pub(crate) fn hot(&self) -> [&Arc<str>; 6] {
        [&self.claim, &self.claim_many, &self.complete, &self.complete_many, &self.release, &self.renew]
    }
}

/// The completion for somebody else's transaction: it wants that one's mark, and gives it what it lacks of the store's
/// settings.
pub(crate) fn complete_in_transaction(schema: &Schema, clock: Clock, protocol: Protocol) -> Arc<str> {
    let template = include_str!("sql/complete.sql").replace(
        "RETURNING {told} {durable}",
        "    AND current_setting('semel.tx', true) = $8::text
RETURNING {told}, set_config('idle_in_transaction_session_timeout', $9::text, true),
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)",
    );
    Writer { schema, clock, protocol }.write(&template, "true")
}

struct Writer<'a> {
    schema: &'a Schema,
    clock: Clock,
    protocol: Protocol,
}

impl Writer<'_> {
    fn write(&self, template: &str, room: &str) -> Arc<str> {
        // To the millisecond, as callers see it: else a lease would be over for them and not for the server.
        let now = match self.clock {
            Clock::Server => "date_trunc('milliseconds', clock_timestamp())",
            Clock::Shifted => "date_trunc('milliseconds', {schema}.shifted_clock())",
        };
        // A pooled connection has nobody's settings; this one holds until the statement's commit.
        let durable = match self.protocol {
            Protocol::Prepared => "",
            Protocol::Simple => ", set_config('synchronous_commit', 'on', true)",
        };
        let told = format!(
            "CASE WHEN r.watched THEN pg_notify('{}', encode(r.id, 'hex'))::text END",
            self.schema.channel()
        );
        let lines = template.lines().filter(|line| !line.starts_with("--"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text
            .replace("{room}", room)
            .replace("{anew}", "(r.expires <= {now} OR r.fingerprint IS NULL)")
            .replace("{record}", include_str!("sql/record.sql").trim_end())
            .replace("{told}", &told)
            .replace("{durable}", durable)
            .replace("{clock}", "timestamptz_send({now})")
            .replace("{now}", now);
        self.schema.write(&text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_have_to_be_escaped_are_refused() {
        for name in ["semel", "_x9", "a_b"] {
            assert!(Schema::new(name).is_some(), "{name}");
        }
        for name in ["", "9a", "Semel", "a-b", "a\"b", "a'b", "a.b", "a b", &"x".repeat(49)] {
            assert!(Schema::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let schema = Schema::new("s").unwrap_or_else(|| panic!("refused"));
        for protocol in [Protocol::Prepared, Protocol::Simple] {
            let sql = format!("{:?}", Sql::new(&schema, Clock::Server, protocol));
            for hole in
                ["{schema}", "{now}", "{room}", "{anew}", "{record}", "{clock}", "{told}", "{durable}"]
            {
                assert!(!sql.contains(hole), "{hole}");
            }
            // `now()` is the transaction's start: after a wait for a lock a new lease would already be over.
            assert!(!sql.contains("now()"));
        }
    }
}
