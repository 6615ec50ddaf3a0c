//! Clocks that count work and not waiting, and the arithmetic of ratios.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

/// The CPU time of this thread.
pub(crate) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The CPU time of a process, user and system, over the threads that it has.
pub(crate) fn process_time(pid: u32) -> Result<Duration, Failure> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // `time on a CPU, time waiting for one, turns`: in nanoseconds, where `stat` counts hundredths of a second.
        let account = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += account.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The middle one. Zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The middle of the ratios of what was measured in the same turns.
pub(crate) fn ratio(own: &[f64], base: &[f64]) -> f64 {
    median(own.iter().zip(base).map(|(own, base)| own / base).collect())
}

/// Counts here are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "a count of requests, not of atoms")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// `12,250`
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
