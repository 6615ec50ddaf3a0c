//! The progress of a run's steps as numbered fields.

use super::DecodeError;
use super::envelope::{Cbor, Fields, Written};
use crate::steps::{Progress, StepRecord, StepState};

/// One flat array: name, state, attempt and result of each step in turn.
const STEPS: u64 = 0;
const TROUBLE: u64 = 1;
const WIDTH: u64 = 4;

pub(super) fn capacity(progress: &Progress) -> usize {
    progress.steps.iter().map(|step| step.name.len() + step.result.len() + 16).sum::<usize>() + 64
}

pub(super) fn write(cbor: &mut Cbor, progress: &Progress) -> Written {
    cbor.map(1 + u64::from(progress.trouble.is_some()))?;
    cbor.u64(STEPS)?.array(WIDTH * progress.steps.len() as u64)?;
    for step in &progress.steps {
        cbor.str(&step.name)?.u64(number(step.state))?.u64(step.attempt.into())?.bytes(&step.result)?;
    }
    match &progress.trouble {
        Some(trouble) => cbor.u64(TROUBLE)?.str(trouble)?.ok(),
        None => Ok(()),
    }
}

pub(super) fn read(fields: &mut Fields<'_>) -> Result<Progress, DecodeError> {
    let mut progress = Progress::default();
    while let Some(field) = fields.next()? {
        match field {
            STEPS => progress.steps = steps(fields)?,
            TROUBLE => progress.trouble = Some(fields.str()?.to_owned()),
            _ => fields.skip()?,
        }
    }
    Ok(progress)
}

fn steps(fields: &mut Fields<'_>) -> Result<Vec<StepRecord>, DecodeError> {
    let length = fields.array()?;
    if length % WIDTH != 0 || length / WIDTH > Progress::MAX_STEPS as u64 {
        return Err(DecodeError::corrupt("steps"));
    }
    let mut steps = Vec::new();
    for _ in 0..length / WIDTH {
        let name = fields.str()?.into();
        let state = state(fields.u64()?)?;
        let attempt = u32::try_from(fields.u64()?).map_err(|_| DecodeError::corrupt("an attempt"))?;
        steps.push(StepRecord { name, state, attempt, result: fields.bytes()? });
    }
    Ok(steps)
}

const fn number(state: StepState) -> u64 {
    match state {
        StepState::Started => 0,
        StepState::Done => 1,
        StepState::Failed => 2,
    }
}

/// A state that only a newer version knows is not guessed at: a step is done or it is not.
const fn state(number: u64) -> Result<StepState, DecodeError> {
    match number {
        0 => Ok(StepState::Started),
        1 => Ok(StepState::Done),
        2 => Ok(StepState::Failed),
        _ => Err(DecodeError::corrupt("the state of a step")),
    }
}
