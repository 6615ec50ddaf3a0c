//! Durations and sizes as people write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use semel_core::record::Timestamp;

/// Clocks overflow beyond some far point; ten years is beyond every use.
const LONGEST: Duration = Duration::from_hours(24 * 3650);

/// Reads `500ms`, `30s`, `1h 30m`, `7d` or `0`.
///
/// Months and years are refused: `10M` is a slip for `10m` more often than ten months.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const ADVICE: &str = "write a number with its unit, such as 500ms, 30s, 10m, 1h 30m or 7d";
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.contains(['M', 'y']) || text.contains("month") {
        return Err(ADVICE.to_owned() + " (m is minutes; months and years are not taken)");
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err("is longer than ten years".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err(ADVICE.to_owned()),
    }
}

/// Reads `1MiB`, `512KiB`, `2MB` or a plain number of bytes.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.trim().parse().map_err(|_| {
        "write a number of bytes, or one with its unit, such as 1MiB, 512KiB or 2MB".to_owned()
    })?;
    usize::try_from(size.as_u64()).map_err(|_| "is more than this machine can address".to_owned())
}

/// `3m 12s`: the two largest units that say something.
pub(crate) fn show_duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    if duration < Duration::from_secs(1) && !duration.is_zero() {
        return format!("{}ms", duration.as_millis());
    }
    let mut left = duration.as_secs();
    let first = UNITS.iter().position(|(length, _)| left >= *length).unwrap_or(UNITS.len() - 1);
    let mut words = Vec::new();
    for (length, name) in UNITS.iter().skip(first).take(2) {
        if left >= *length {
            words.push(format!("{}{name}", left / length));
        }
        left %= length;
    }
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

/// `1 MiB`, `512 B`.
pub(crate) fn show_size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string().replace(".0 ", " ")
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn show_instant(instant: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(instant.as_millis()).unwrap_or(0));
    let instant = UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(instant).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("0", 0),
            ("0s", 0),
            (" 10m ", 600_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("10min", 600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    // `--lease 30` once meant 30 of whatever the reader thought of; `10M` are ten months to the library.
    #[test]
    fn durations_that_could_mean_two_things_are_refused() {
        for text in
            ["30", "", "s", "-5s", "10M", "1year", "3months", "1.5", "5 parsecs", "99999999999999999999s"]
        {
            let error = duration(text).unwrap_err();
            assert!(error.contains("10m"), "{text}: {error}");
        }
        assert!(duration("4000d").unwrap_err().contains("ten years"));
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("1MB", 1_000_000),
            ("512KiB", 1 << 19),
            ("64 KiB", 1 << 16),
            ("4096", 4096),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1QB", "ten"] {
            assert!(size(text).unwrap_err().contains("1MiB"), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (1, "1s"),
            (59, "59s"),
            (60, "1m"),
            (192, "3m 12s"),
            (3600, "1h"),
            (3605, "1h"),
            (90_061, "1d 1h"),
            (604_800, "7d"),
        ] {
            assert_eq!(show_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(show_duration(Duration::from_millis(250)), "250ms");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for text in ["250ms", "30s", "10m", "1h 30m", "7d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_size(1 << 20), "1 MiB");
        assert_eq!(show_size(17), "17 B");
    }

    #[test]
    fn instants_are_utc() {
        assert_eq!(show_instant(Timestamp::from_millis(1_700_000_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(show_instant(Timestamp::from_millis(-1)), "1970-01-01T00:00:00Z");
    }
}
