//! What was promised, and what is in the books.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::bank::{ACCOUNTS, CENTS, Line};

/// What the clients saw of one key, in the end.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) key: String,
    /// Every final answer: of all tries, and of replays asked for afterwards.
    pub(crate) answers: Vec<(u16, String)>,
}

/// How it went.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) database: &'static str,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    /// Transfers that were asked for.
    pub(crate) operations: usize,
    /// Requests that were sent for them.
    pub(crate) tries: usize,
    /// Transfers that were made.
    pub(crate) made: usize,
    /// Transfers that were refused, for want of money.
    pub(crate) refused: usize,
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
    pub(crate) restarts: usize,
    /// Answers of the database that were swallowed or cut off.
    pub(crate) swallowed: usize,
    /// Keys with more than one line.
    pub(crate) duplicates: usize,
    /// Keys that were answered as made, without a line.
    pub(crate) lost: usize,
    /// Lines of keys that were answered as not made.
    pub(crate) phantoms: usize,
    /// Keys whose answers differ.
    pub(crate) different: usize,
    /// Keys that nobody got an answer for.
    pub(crate) unanswered: usize,
    /// Accounts that are not what the ledger makes of them.
    pub(crate) unbalanced: usize,
}

impl Report {
    /// Compares what the clients were told with the books.
    pub(crate) fn judge(&mut self, told: &[Told], lines: &[Line], balances: &[i64]) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for line in lines {
            *counts.entry(&line.key).or_default() += 1;
        }
        self.operations = told.len();
        self.duplicates = counts.values().filter(|&&count| count > 1).count();
        for Told { key, answers } in told {
            let count = counts.get(key.as_str()).copied().unwrap_or(0);
            let Some(first) = answers.first() else {
                self.unanswered += 1;
                continue;
            };
            self.different += usize::from(answers.iter().any(|answer| answer != first));
            if first.0 == 201 {
                self.made += 1;
                self.lost += usize::from(count == 0);
            } else {
                self.refused += 1;
                self.phantoms += usize::from(count > 0);
            }
        }
        let mut expected = vec![CENTS; usize::try_from(ACCOUNTS).unwrap_or(0)];
        for line in lines {
            for (account, cents) in [(line.from, -line.cents), (line.to, line.cents)] {
                if let Some(balance) = usize::try_from(account).ok().and_then(|at| expected.get_mut(at)) {
                    *balance += cents;
                }
            }
        }
        self.unbalanced = expected.iter().zip(balances).filter(|(expected, is)| expected != is).count()
            + expected.len().abs_diff(balances.len());
    }

    pub(crate) fn is_fine(&self) -> bool {
        let wrong =
            [self.duplicates, self.lost, self.phantoms, self.different, self.unanswered, self.unbalanced];
        self.made > 0 && wrong.iter().all(|&count| count == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, seed, seconds, operations, tries, made, refused, .. } = self;
        writeln!(f, "{database}, {seconds} s, seed {seed}")?;
        writeln!(f, "  operations {operations}, tries {tries}, made {made}, refused {refused}")?;
        let Self { kills, pauses, restarts, swallowed, .. } = self;
        writeln!(f, "  kills {kills}, pauses {pauses}, restarts {restarts}, swallowed {swallowed}")?;
        let Self { duplicates, lost, phantoms, different, unanswered, unbalanced, .. } = self;
        writeln!(f, "  duplicates {duplicates}, lost {lost}, made but told otherwise {phantoms}")?;
        writeln!(f, "  different answers {different}, unanswered {unanswered}, unbalanced {unbalanced}")?;
        write!(f, "  {}", if self.is_fine() { "the books balance" } else { "THE BOOKS DO NOT BALANCE" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn line(key: &str, cents: i64) -> Line {
        Line { key: key.into(), from: 0, to: 1, cents }
    }

    fn told(key: &str, answers: &[(u16, &str)]) -> Told {
        let answers = answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
        Told { key: key.into(), answers }
    }

    fn judged(told: &[Told], lines: &[Line], change: impl FnOnce(&mut Vec<i64>)) -> Report {
        let mut balances = vec![CENTS; usize::try_from(ACCOUNTS).unwrap()];
        change(&mut balances);
        let mut report = Report::default();
        report.judge(told, lines, &balances);
        report
    }

    // A judge that overlooks a kind of mistake proves nothing.
    #[test]
    fn every_kind_of_mistake_is_counted() {
        let made = told("a", &[(201, "1"), (201, "1")]);
        let refused = told("b", &[(402, "poor")]);
        let moved = |balances: &mut Vec<i64>| {
            balances[0] -= 5;
            balances[1] += 5;
        };
        let both = [made.clone(), refused.clone()];
        assert!(judged(&both, &[line("a", 5)], moved).is_fine());
        assert_eq!(judged(&both, &[line("a", 5), line("a", 5)], moved).duplicates, 1);
        assert_eq!(judged(&both, &[], |_| {}).lost, 1);
        assert_eq!(judged(&both, &[line("a", 5), line("b", 5)], moved).phantoms, 1);
        assert_eq!(judged(&both, &[line("a", 5)], |_| {}).unbalanced, 2);
        let differs = [told("a", &[(201, "1"), (201, "2")])];
        assert_eq!(judged(&differs, &[line("a", 5)], moved).different, 1);
        assert_eq!(judged(&[told("c", &[])], &[], |_| {}).unanswered, 1);
        assert!(!judged(&[refused], &[], |_| {}).is_fine(), "nothing was made at all");
    }
}
