//! One attempt's way through the steps of its run.

use bytes::Bytes;

use super::{Progress, StepRecord, StepState};
use crate::record::codec::{self, DecodeError};

/// Where an attempt is among its steps. One at a time: a step ends before the next begins.
#[derive(Debug)]
#[must_use]
pub struct Walk {
    progress: Progress,
    attempt: u32,
    /// The step to be entered next, or the one entered and not left.
    at: usize,
    /// So many steps were entered by this attempt.
    reached: usize,
    trouble: Option<Trouble>,
}

/// What entering a step means.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Entered {
    /// It was done before: its result. It is over.
    Done(Bytes),
    /// It failed for good before: the text. It is over.
    Failed(Bytes),
    /// Note this progress; once the store has taken it, start the step.
    Start(Bytes),
}

/// A step that cannot be entered or left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "the program is wrong, or it is another program")]
pub enum Misstep {
    /// The program's steps are not those recorded.
    #[error(transparent)]
    Differs(Trouble),
    /// The program is wrong.
    #[error(transparent)]
    Misused(Misused),
}

/// Why a program's steps are not those of the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Renamed, reordered, or one put before it.
    #[error("step {position} is recorded as `{recorded}`, and this program asks for `{asked}`")]
    Changed {
        /// From 1.
        position: usize,
        /// The recorded name.
        recorded: String,
        /// The name asked for.
        asked: String,
    },
    /// The handler answered without asking for a step that is recorded.
    #[error("step {position}, `{recorded}`, is recorded, and this program answered without asking for it")]
    Removed {
        /// From 1.
        position: usize,
        /// The recorded name.
        recorded: String,
    },
    /// Its recorded result is not of the type that this program asks for.
    #[error("the recorded result of step `{step}` is not of the type that this program asks for")]
    OtherType {
        /// Its name.
        step: String,
    },
    /// What is recorded does not decode.
    #[error("the recorded steps cannot be read: {0}")]
    Undecodable(#[from] DecodeError),
    /// The steps outlive the handler: in a task that it spawned, or in the body of its answer.
    #[error("the handler answered while its steps were still in use elsewhere")]
    Lent,
}

/// What a program may not do with steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misused {
    /// The name is empty, too long, or has other characters.
    #[error("a step's name has 1 to 64 letters, digits, `-`, `_`, `.` and `:`")]
    Name,
    /// A name comes twice in one run.
    #[error("step `{0}` comes twice in one run: give each turn a name of its own, `{0}-2`")]
    Repeated(String),
    /// More steps than a run may have.
    #[error("a run may have {} steps", Progress::MAX_STEPS)]
    TooMany,
    /// A result is too large.
    #[error(
        "the result of step `{step}` has {bytes} bytes, and a result may have {}, all of a run's {}: record an id",
        Progress::MAX_RESULT,
        Progress::MAX_RESULTS
    )]
    TooLarge {
        /// Its name.
        step: String,
        /// Its bytes.
        bytes: usize,
    },
}

/// What a run's steps came to, when its handler has ended.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Walked {
    /// What is recorded; `None` where it cannot be said.
    pub(crate) progress: Option<Progress>,
    pub(crate) trouble: Option<Trouble>,
}

impl Walked {
    /// Ends a run whose steps could not even be opened, or are not given back.
    pub const fn in_trouble(trouble: Trouble) -> Self {
        Self { progress: None, trouble: Some(trouble) }
    }
}

impl Walk {
    /// Begins an attempt, with what an earlier one recorded.
    ///
    /// # Errors
    ///
    /// The recorded bytes do not decode, or a newer version wrote them.
    pub fn open(recorded: Option<&Bytes>, attempt: u32) -> Result<Self, Trouble> {
        let mut progress = match recorded {
            Some(bytes) => codec::decode_progress(bytes)?,
            None => Progress::default(),
        };
        // It was of that attempt; this program may be another one.
        progress.trouble = None;
        Ok(Self { progress, attempt, at: 0, reached: 0, trouble: None })
    }

    /// Asks for the next step. A step that was started and has no result is started again.
    ///
    /// # Errors
    ///
    /// Another step is recorded here, or the name breaks a rule. Nothing may be started then.
    pub fn enter(&mut self, name: &str) -> Result<Entered, Misstep> {
        if let Some(trouble) = &self.trouble {
            return Err(Misstep::Differs(trouble.clone()));
        }
        if !is_name(name) {
            return Err(Misstep::Misused(Misused::Name));
        }
        if self.progress.steps[..self.at].iter().any(|step| &*step.name == name) {
            return Err(Misstep::Misused(Misused::Repeated(name.to_owned())));
        }
        let Some(step) = self.progress.steps.get_mut(self.at) else {
            if self.at >= Progress::MAX_STEPS {
                return Err(Misstep::Misused(Misused::TooMany));
            }
            let (state, attempt) = (StepState::Started, self.attempt);
            self.progress.steps.push(StepRecord { name: name.into(), state, attempt, result: Bytes::new() });
            self.reached = self.at + 1;
            return Ok(Entered::Start(self.encode()));
        };
        if &*step.name != name {
            let (position, recorded) = (self.at + 1, step.name.to_string());
            let trouble = Trouble::Changed { position, recorded, asked: name.to_owned() };
            return Err(self.differs(trouble));
        }
        self.reached = self.at + 1;
        let result = step.result.clone();
        match step.state {
            StepState::Done => {
                self.at += 1;
                Ok(Entered::Done(result))
            }
            StepState::Failed => {
                self.at += 1;
                Ok(Entered::Failed(result))
            }
            StepState::Started => {
                step.attempt = self.attempt;
                Ok(Entered::Start(self.encode()))
            }
        }
    }

    /// The started step has a result, or failed for good (`done` is `false`): what to note. Call [`left`](Self::left)
    /// once the store has taken it. Until then it counts as started.
    ///
    /// # Errors
    ///
    /// The result is too large. The step stays started.
    pub fn leave(&mut self, done: bool, result: Bytes) -> Result<Bytes, Misused> {
        let recorded: usize = self.progress.steps.iter().map(|step| step.result.len()).sum();
        let Some(step) = self.progress.steps.get_mut(self.at) else {
            return Ok(self.encode());
        };
        let bytes = result.len();
        if bytes > Progress::MAX_RESULT || recorded + bytes > Progress::MAX_RESULTS {
            return Err(Misused::TooLarge { step: step.name.to_string(), bytes });
        }
        step.state = if done { StepState::Done } else { StepState::Failed };
        step.result = result;
        let note = self.encode();
        if let Some(step) = self.progress.steps.get_mut(self.at) {
            step.state = StepState::Started;
            step.result = Bytes::new();
        }
        Ok(note)
    }

    /// The store has taken what [`leave`](Self::leave) said: the step is over.
    pub fn left(&mut self, done: bool, result: Bytes) {
        if let Some(step) = self.progress.steps.get_mut(self.at) {
            step.state = if done { StepState::Done } else { StepState::Failed };
            step.result = result;
            self.at += 1;
        }
    }

    /// The program cannot go on from here: no step is entered any more.
    pub fn differs(&mut self, trouble: Trouble) -> Misstep {
        self.trouble.get_or_insert_with(|| trouble.clone());
        Misstep::Differs(trouble)
    }

    /// The handler has ended.
    pub fn end(self) -> Walked {
        let removed = || {
            let recorded = self.progress.steps.get(self.reached)?.name.to_string();
            Some(Trouble::Removed { position: self.reached + 1, recorded })
        };
        Walked { trouble: self.trouble.clone().or_else(removed), progress: Some(self.progress) }
    }

    fn encode(&self) -> Bytes {
        codec::encode_progress(&self.progress).into()
    }
}

/// Names are shown in terminals and logs.
fn is_name(name: &str) -> bool {
    (1..=Progress::MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}
