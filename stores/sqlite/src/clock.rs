//! The clock that a file's records are judged by.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use semel_core::record::Timestamp;

/// Where a store reads the time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Machine,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's: see [the crate's documentation](crate#time).
    pub fn machine() -> Self {
        Self::default()
    }

    /// One that tests move by hand: milliseconds since the epoch. It, too, never runs backwards within a file.
    pub fn manual(millis: Arc<AtomicI64>) -> Self {
        Self(Source::Manual(millis))
    }

    pub(crate) fn read(&self) -> Reading {
        match &self.0 {
            Source::Manual(millis) => Reading::Wall(millis.load(Ordering::SeqCst)),
            Source::Machine => machine(),
        }
    }
}

/// What a clock says at one moment.
pub(crate) enum Reading {
    /// Wall time alone.
    Wall(i64),
    /// Wall time, and time since a boot that can be told from others.
    Boot { boot: [u8; 16], uptime: i64, wall: i64 },
}

/// What a file remembers of its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileTime {
    pub(crate) seen: i64,
    pub(crate) boot: Option<[u8; 16]>,
    pub(crate) base: i64,
}

impl FileTime {
    /// The file's time at a reading. Never earlier than any that was written before.
    ///
    /// Within one boot it runs with the time since boot, which nobody steps; wall time is looked at once a boot.
    pub(crate) fn at(&mut self, reading: &Reading) -> Timestamp {
        let now = match reading {
            Reading::Wall(wall) => *wall,
            Reading::Boot { boot, uptime, wall } => {
                if self.boot != Some(*boot) {
                    self.boot = Some(*boot);
                    self.base = (*wall).max(self.seen) - uptime;
                }
                self.base + uptime
            }
        };
        self.seen = self.seen.max(now);
        Timestamp::from_millis(self.seen)
    }
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(target_os = "linux")]
fn machine() -> Reading {
    use std::sync::OnceLock;

    static BOOT: OnceLock<Option<[u8; 16]>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
    });
    match boot {
        Some(boot) => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            let uptime = now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000);
            Reading::Boot { boot: *boot, uptime, wall: wall() }
        }
        None => Reading::Wall(wall()),
    }
}

#[cfg(not(target_os = "linux"))]
fn machine() -> Reading {
    Reading::Wall(wall())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn boot(boot: u8, uptime: i64, wall: i64) -> Reading {
        Reading::Boot { boot: [boot; 16], uptime, wall }
    }

    // An NTP step of an hour once ended every lease at once, and its way back made them run an hour longer.
    #[test]
    fn steps_of_the_wall_clock_move_nothing_within_a_boot() {
        let mut file = FileTime::default();
        let start = file.at(&boot(1, 1000, 50 * HOUR));
        assert_eq!(start.as_millis(), 50 * HOUR);
        assert_eq!(file.at(&boot(1, 1010, 51 * HOUR)).as_millis(), 50 * HOUR + 10);
        assert_eq!(file.at(&boot(1, 1020, 49 * HOUR)).as_millis(), 50 * HOUR + 20);
    }

    #[test]
    fn a_reboot_goes_on_from_the_wall_clock_but_never_back() {
        let mut file = FileTime::default();
        let _ = file.at(&boot(1, 1000, 50 * HOUR));
        assert_eq!(file.at(&boot(2, 5, 60 * HOUR)).as_millis(), 60 * HOUR);
        // A machine without a battery starts in 1970.
        assert_eq!(file.at(&boot(3, 5, 0)).as_millis(), 60 * HOUR);
        assert_eq!(file.at(&boot(3, 7, 0)).as_millis(), 60 * HOUR + 2);
    }

    #[test]
    fn a_wall_clock_alone_stands_still_while_it_is_behind() {
        let mut file = FileTime::default();
        let _ = file.at(&Reading::Wall(HOUR));
        assert_eq!(file.at(&Reading::Wall(0)).as_millis(), HOUR);
        assert_eq!(file.at(&Reading::Wall(HOUR + 1)).as_millis(), HOUR + 1);
    }
}
