//! Clocks that count work and not waiting, and the arithmetic of ratios.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

/// The CPU time of this thread.
pub(crate) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The CPU time of a process, user and system, its ended children not included.
pub(crate) fn process_time(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold anything; utime and stime are the 14th and 15th.
    let rest = stat.rsplit_once(')').ok_or("an odd /proc/PID/stat")?.1;
    let ticks = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// The middle one. Zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The middle of the ratios of what was measured in the same turns.
pub(crate) fn ratio(these: &[f64], those: &[f64]) -> f64 {
    median(these.iter().zip(those).map(|(this, that)| this / that).collect())
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
