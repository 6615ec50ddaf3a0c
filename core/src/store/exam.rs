//! What a store says of itself to whoever runs it.

use super::{StoreError, StoreErrorKind};

/// How bad something is that was found at a store.
///
/// In this order: a report is as bad as its worst finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "an exit code is made of each")]
pub enum Severity {
    /// As it should be, or a fact that somebody may want to know.
    Fine,
    /// The store works, and keeps less than it could: somebody should look.
    Warning,
    /// Nothing can be claimed.
    Unusable,
}

impl Severity {
    /// As it is written in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Unusable => "unusable",
        }
    }
}

/// Something that was found at a store, with what to do about it.
///
/// Its texts name settings and servers, never a key, a credential or a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in one word that does not change between versions: `server`, `durability`, `eviction`.
    pub about: &'static str,
    /// What was found, in one line.
    pub what: String,
    /// What to do about it; `None` where nothing is to be done.
    pub fix: Option<String>,
}

impl Finding {
    /// A fact that is as it should be.
    pub fn fine(about: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Fine, about, what: what.into(), fix: None }
    }

    /// The store works, and keeps less than it could.
    pub fn warning(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, about, what: what.into(), fix: Some(fix.into()) }
    }

    /// Nothing can be claimed.
    pub fn unusable(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Unusable, about, what: what.into(), fix: Some(fix.into()) }
    }
}

impl From<&StoreError> for Finding {
    /// A store that cannot be opened or asked. Its error says what is wrong, and this what to do about its kind.
    fn from(error: &StoreError) -> Self {
        let (about, fix) = match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::Timeout | StoreErrorKind::NotOpen => (
                "connectivity",
                "start the server, connect to the primary, or correct the address in the URL; `semel proxy` waits for \
                 it, and is not ready meanwhile",
            ),
            StoreErrorKind::Contended => ("connectivity", "find out who holds the store for so long"),
            StoreErrorKind::Full => ("room", "make room: free disk or memory, or raise the store's limit"),
            StoreErrorKind::TooLarge => ("room", "raise the store's limit, or keep smaller answers"),
            StoreErrorKind::Undecodable => ("records", "restore the store, or update this program"),
            StoreErrorKind::NewerSchema => ("schema", "update this program, or restore the older schema"),
            StoreErrorKind::Config => (
                "settings",
                "change what is named: the URL, the user's rights, the server's setting, the schema",
            ),
            StoreErrorKind::Internal => ("store", "look into the server's own log, and report it"),
        };
        Self::unusable(about, error.to_string(), fix)
    }
}

/// One step of a schema, for those who run it by other means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The version that the schema has after it, from 1.
    pub version: u32,
    /// The statements, as the store runs them.
    pub sql: String,
}

impl Migration {
    /// For stores: a step of their schema.
    pub fn new(version: u32, sql: impl Into<String>) -> Self {
        Self { version, sql: sql.into() }
    }
}

/// What bringing a schema up to date came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The version before; 0: there was none.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

impl Migrated {
    /// For stores: from one version to another, or the same.
    pub const fn new(from: u32, to: u32) -> Self {
        Self { from, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // An operator reads what is wrong and what to do, and no two of them are the same line.
    #[test]
    fn an_error_becomes_a_finding_with_a_fix() {
        let error = StoreError::new("demo", StoreErrorKind::NewerSchema, "db/app: version 9 of 1");
        let finding = Finding::from(&error);
        assert_eq!(finding.severity, Severity::Unusable);
        assert_eq!(finding.what, "demo store: db/app: version 9 of 1");
        assert!(finding.fix.is_some_and(|fix| fix.contains("update this program")));
        assert!(Severity::Fine < Severity::Warning && Severity::Warning < Severity::Unusable);
    }
}
