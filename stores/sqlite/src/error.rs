//! What SQLite says, in the store's words.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use semel_core::store::{StoreError, StoreErrorKind};

pub(crate) const NAME: &str = "sqlite";

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The step was refused before it wrote anything; others of its batch are not concerned.
    Refused(StoreError),
    /// SQLite failed. What the transaction had written is not to be trusted.
    Sqlite(rusqlite::Error),
}

impl Fault {
    pub(crate) fn refused(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self::Refused(StoreError::new(NAME, kind, message))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A record whose columns are not what this program writes.
pub(crate) fn undecodable(what: &str) -> Fault {
    Fault::refused(
        StoreErrorKind::Undecodable,
        format!("a record has a {what} that this version does not know"),
    )
}

/// What a failed transaction means for those who asked.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: StoreErrorKind,
    message: Arc<str>,
    source: Option<Arc<rusqlite::Error>>,
}

impl Failure {
    pub(crate) fn new(path: &Path, error: rusqlite::Error) -> Self {
        let (kind, what) = meaning(&error);
        let message = format!("{}: {what}", path.display()).into();
        Self { kind, message, source: Some(Arc::new(error)) }
    }

    /// The file cannot be worked with now, and `what` says why.
    pub(crate) fn unavailable(path: &Path, what: &str) -> Self {
        let message = format!("{} {what}", path.display()).into();
        Self { kind: StoreErrorKind::Unavailable, message, source: None }
    }

    pub(crate) fn error(&self) -> StoreError {
        let error = StoreError::new(NAME, self.kind, &*self.message);
        match &self.source {
            Some(source) => error.with_source(Arc::clone(source)),
            None => error,
        }
    }

    /// Whether the disk failed, so that what the last commit left behind is unclear. A damaged page is not that:
    /// it fails those who need it, each time.
    pub(crate) fn breaks_file(&self) -> bool {
        self.kind == StoreErrorKind::Unavailable
    }
}

pub(crate) fn closed() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable, "the store is closed")
}

fn meaning(error: &rusqlite::Error) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            (Kind::Contended, "other processes held the file for too long")
        }
        Some(ErrorCode::DiskFull) => (Kind::Full, "no room: the disk or the file's limit is full"),
        Some(ErrorCode::TooBig) => (Kind::TooLarge, "larger than SQLite takes"),
        Some(ErrorCode::SystemIoFailure) => (Kind::Unavailable, "reading or writing failed"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (Kind::Unavailable, "the file is read-only")
        }
        Some(ErrorCode::CannotOpen) => (Kind::Unavailable, "cannot be opened"),
        Some(ErrorCode::OutOfMemory) => (Kind::Unavailable, "out of memory"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (Kind::Undecodable, "the database is damaged: restore it, or start with a new file")
        }
        _ => (Kind::Internal, "SQLite refused a step"),
    }
}
