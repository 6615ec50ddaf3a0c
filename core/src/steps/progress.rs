//! What the steps of a run leave in the record for the next attempt.

use std::sync::Arc;

use bytes::Bytes;

/// The steps of an unfinished run, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Each step that was begun. Only the last one can be [`StepState::Started`].
    pub steps: Vec<StepRecord>,
    /// Why the last attempt could not go on, where the program's steps are not those recorded.
    pub trouble: Option<String>,
}

impl Progress {
    /// The most steps of one run.
    pub const MAX_STEPS: usize = 64;
    /// The most bytes of one result.
    pub const MAX_RESULT: usize = 16 * 1024;
    /// The most bytes of all results of one run.
    pub const MAX_RESULTS: usize = 64 * 1024;
    /// The most characters of a step's name.
    pub const MAX_NAME: usize = 64;
}

/// One step.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepRecord {
    /// Its name.
    pub name: Arc<str>,
    /// How far it came.
    pub state: StepState,
    /// The attempt that brought it there, from 1.
    pub attempt: u32,
    /// Its result, or the text of its final error; empty while there is none.
    pub result: Bytes,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "an attempt does something else with each")]
pub enum StepState {
    /// Begun; it may have happened. The next attempt begins it again, with the same key.
    Started,
    /// It has a result, and is not called again.
    Done,
    /// It failed for good, and is not called again.
    Failed,
}

impl StepState {
    /// The name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Without the result, which is the application's own.
impl std::fmt::Debug for StepRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepRecord")
            .field("name", &self.name)
            .field("state", &self.state)
            .field("attempt", &self.attempt)
            .field("bytes", &self.result.len())
            .finish()
    }
}
