//! What was found, for people and for programs.

use std::fmt;
use std::time::Duration;

use semel_core::store::{Finding, Severity};
use serde::{Serialize, Serializer};

use super::selftest::{Clock, Latency};

/// Clocks that are further apart than this are not kept together by anybody, in milliseconds.
const APART: i64 = 1000;
/// The guard's time-out: what takes longer is sent again.
const SLOW: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
pub(super) struct Report {
    store: String,
    verdict: &'static str,
    self_test: &'static str,
    clock: Option<ClockDocument>,
    latency: Option<LatencyDocument>,
    #[serde(serialize_with = "documents")]
    findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct ClockDocument {
    ahead_ms: i64,
    uncertainty_ms: i64,
}

#[derive(Debug, Serialize)]
struct LatencyDocument {
    rounds: usize,
    claim_median_us: u64,
    claim_p99_us: u64,
    complete_median_us: u64,
    complete_p99_us: u64,
}

#[derive(Serialize)]
struct FindingDocument<'a> {
    severity: &'static str,
    about: &'static str,
    what: &'a str,
    fix: Option<&'a str>,
}

fn documents<S: Serializer>(findings: &[Finding], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(findings.iter().map(|finding| FindingDocument {
        severity: finding.severity.as_str(),
        about: finding.about,
        what: &finding.what,
        fix: finding.fix.as_deref(),
    }))
}

impl Report {
    pub(super) fn of(store: &str) -> Self {
        Self {
            store: store.to_owned(),
            verdict: verdict(Severity::Fine),
            self_test: "not run",
            clock: None,
            latency: None,
            findings: Vec::new(),
        }
    }

    pub(super) fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
    }

    pub(super) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if finding.about == "self-test" && finding.severity == Severity::Unusable {
                self.self_test = "failed";
            }
            self.findings.push(finding);
        }
        self.verdict = verdict(self.worst());
    }

    pub(super) fn self_test_passed(&mut self) {
        let what = "a replay gave the same bytes, a mismatch was refused, and the record is removed";
        self.add([Finding::fine("self-test", what)]);
        self.self_test = "passed";
    }

    pub(super) fn clock(&mut self, clock: Clock) {
        let Clock { ahead, uncertainty } = clock;
        self.clock = Some(ClockDocument { ahead_ms: ahead, uncertainty_ms: uncertainty });
        let way = if ahead < 0 { "behind" } else { "ahead of" };
        let what = format!(
            "the store's clock is {} ms {way} this machine's, to {uncertainty} ms",
            ahead.unsigned_abs()
        );
        self.add([if ahead.saturating_abs().saturating_sub(uncertainty) <= APART {
            Finding::fine("clock", what)
        } else {
            Finding::warning(
                "clock",
                what,
                "keep both disciplined (NTP, slewing): leases and lives go by the store's clock, the age of UUIDv7 keys by \
                 this machine's",
            )
        }]);
    }

    pub(super) fn latency(&mut self, latency: Latency) {
        let rounds = latency.claims.len();
        let (claim, claim_p99) = quantiles(latency.claims);
        let (complete, complete_p99) = quantiles(latency.completions);
        let what = format!(
            "of {rounds} rounds: a claim takes {claim:.1?} (p99 {claim_p99:.1?}), a completion {complete:.1?} (p99 {complete_p99:.1?})"
        );
        self.add([if claim_p99.max(complete_p99) < SLOW {
            Finding::fine("latency", what)
        } else {
            Finding::warning(
                "latency",
                what,
                "bring the store nearer or relieve it, or raise --store-timeout above what it takes",
            )
        }]);
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        self.latency = Some(LatencyDocument {
            rounds,
            claim_median_us: micros(claim),
            claim_p99_us: micros(claim_p99),
            complete_median_us: micros(complete),
            complete_p99_us: micros(complete_p99),
        });
    }
}

const fn verdict(worst: Severity) -> &'static str {
    match worst {
        Severity::Fine => "healthy",
        Severity::Warning => "findings",
        Severity::Unusable => "unusable",
    }
}

/// The median and the 99th percentile, by the nearest rank.
fn quantiles(mut lengths: Vec<Duration>) -> (Duration, Duration) {
    lengths.sort_unstable();
    let rank = |percent: usize| {
        let rank = (lengths.len() * percent).div_ceil(100).max(1) - 1;
        lengths.get(rank).copied().unwrap_or_default()
    };
    (rank(50), rank(99))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.store)?;
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Fine => "ok",
                other => other.as_str(),
            };
            writeln!(f, "  {mark:<9} {:<13} {}", finding.about, finding.what)?;
            if let Some(fix) = &finding.fix {
                writeln!(f, "  {:<23} fix: {fix}", "")?;
            }
        }
        writeln!(f, "{}", self.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_go_by_the_nearest_rank() {
        let lengths = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantiles(lengths), (Duration::from_millis(50), Duration::from_millis(99)));
        assert_eq!(quantiles(vec![Duration::from_secs(1)]).1, Duration::from_secs(1));
        assert_eq!(quantiles(Vec::new()).0, Duration::ZERO);
    }

    // A clock is only blamed for what the round trip cannot explain.
    #[test]
    fn a_skew_within_the_uncertainty_is_none() {
        for (ahead, uncertainty, worst) in [
            (900, 1, Severity::Fine),
            (-1500, 600, Severity::Fine),
            (1500, 1, Severity::Warning),
            (-5000, 600, Severity::Warning),
        ] {
            let mut report = Report::of("demo:");
            report.clock(Clock { ahead, uncertainty });
            assert_eq!(report.worst(), worst, "{ahead} ± {uncertainty}");
        }
    }

    #[test]
    fn the_worst_finding_is_the_verdict() {
        let mut report = Report::of("demo:");
        assert_eq!(report.worst(), Severity::Fine);
        report.add([Finding::warning("a", "b", "c"), Finding::fine("d", "e")]);
        assert_eq!(report.verdict, "findings");
        report.add([broken()]);
        assert_eq!((report.verdict, report.self_test), ("unusable", "failed"));
        assert!(report.to_string().contains("fix: f"), "{report}");
    }

    fn broken() -> Finding {
        Finding::unusable("self-test", "x", "f")
    }
}
