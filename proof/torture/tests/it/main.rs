//! Short runs, and services that make a mistake each: a run that finds none of them would prove nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// `None` where a database is missing, which is a failure on the build server.
fn torture(args: &[&str]) -> Option<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_semel-torture"))
        .args(["transactional", "--json"])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(2) {
        return Some(output);
    }
    assert!(said.contains("not installed"), "{said}");
    semel_testkit::skip::skip("semel-torture", &said).unwrap();
    None
}

fn balances(database: &str, seconds: &str) {
    let Some(output) = torture(&["--db", database, "--seconds", seconds]) else { return };
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    // A run in which nothing broke, or nothing was done, is none.
    for counted in ["made", "kills", "pauses"] {
        assert!(report[counted].as_u64().unwrap() > 0, "{counted}: {report}");
    }
}

#[test]
fn the_books_balance_on_postgresql() {
    balances("postgres", "15");
}

#[test]
fn the_books_balance_on_mariadb() {
    balances("mysql", "12");
}

#[test]
fn the_books_balance_on_sqlite() {
    balances("sqlite", "8");
}

/// When something is hit is a matter of luck, so it is tried a few times.
#[cfg(feature = "planted")]
fn is_found(mistake: &str, database: &str, by: &[&str]) {
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let args = ["--db", database, "--seconds", "10", "--seed", seed, "--planted", mistake];
        let Some(output) = torture(&args) else { return };
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if by.iter().any(|&count| report[count].as_u64().unwrap() > 0) {
            assert_eq!(output.status.code(), Some(1), "{report}");
            return;
        }
    }
    panic!("{mistake} was not found on {database}");
}

// The late worker completes what its successor has completed, and both write.
#[cfg(feature = "planted")]
#[test]
fn a_completion_without_its_fence_is_found() {
    is_found("no-fence", "postgres", &["duplicates"]);
}

#[cfg(feature = "planted")]
#[test]
fn a_completion_without_its_fence_is_found_on_mariadb() {
    is_found("no-fence", "mysql", &["duplicates"]);
}

// What the client was told is not in the books, or somebody else is told otherwise.
#[cfg(feature = "planted")]
#[test]
fn an_answer_before_its_commit_is_found() {
    is_found("answer-first", "postgres", &["lost", "different"]);
}

#[cfg(feature = "planted")]
#[test]
fn an_answer_before_its_commit_is_found_on_mariadb() {
    is_found("answer-first", "mysql", &["lost", "different"]);
}

#[cfg(feature = "planted")]
#[test]
fn an_answer_before_its_commit_is_found_on_sqlite() {
    is_found("answer-first", "sqlite", &["lost", "different"]);
}

// Two tries at once both find no key, and both write.
#[cfg(feature = "planted")]
#[test]
fn a_claim_in_the_transaction_of_its_effect_is_found() {
    is_found("claim-unfenced", "postgres", &["duplicates"]);
}

#[cfg(feature = "planted")]
#[test]
fn a_claim_in_the_transaction_of_its_effect_is_found_on_mariadb() {
    is_found("claim-unfenced", "mysql", &["duplicates"]);
}

// Books that balance because nothing was done prove nothing.
#[cfg(feature = "planted")]
#[test]
fn a_mistake_that_a_database_does_not_allow_is_refused_with_the_reason() {
    for mistake in ["no-fence", "claim-unfenced"] {
        let output = Command::new(env!("CARGO_BIN_EXE_semel-torture"))
            .args(["transactional", "--db", "sqlite", "--seconds", "1", "--planted", mistake])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("on sqlite"), "{said}");
    }
}
