//! The published policy, `docs/policy.md`, says what the code does.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use semel_core::key::Key;
use semel_core::policy::keep::{Class, Keep};
use semel_core::policy::{Policy, Requirement};
use semel_core::problem::Code;
use semel_core::record::Recovery;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md")).unwrap()
}

fn page_of_tonic() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hosts/tonic.md")).unwrap()
}

const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The cells of the rows of the table that begins with this line.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let (_, rows) = page.split_once(head).unwrap_or_else(|| panic!("no table {head}"));
    rows.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn statuses(cell: &str) -> Vec<u16> {
    let number = |text: &str| text.trim().parse::<u16>().unwrap();
    cell.split(',')
        .flat_map(|part| match part.split_once('–') {
            Some((from, to)) => number(from)..=number(to),
            None => number(part)..=number(part),
        })
        .collect()
}

// A client that goes by the published table must not meet another rule.
#[test]
fn every_status_is_in_the_table_once_and_as_it_is_judged() {
    let rules = [Keep::definitive(), Keep::careful(), Keep::success(), Keep::everything()];
    let mut seen = Vec::new();
    for row in table(&page(), "| status | definitive | careful | success | everything |") {
        for status in statuses(&row[0]) {
            seen.push(status);
            for (rule, said) in rules.iter().zip(&row[1..]) {
                let class = rule.classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), None);
                let word = match class {
                    Class::Store => "store",
                    Class::Release => "release",
                    Class::Forget => "forget",
                    Class::Unknown => "unknown",
                };
                assert_eq!(word, said, "{status} under {}", rule.name());
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (200..600).collect::<Vec<_>>());
}

#[test]
fn every_code_is_in_the_table_with_its_status_and_what_to_do() {
    let rows = table(&page(), "| code | status | retry |");
    let said: Vec<_> = rows.iter().map(|row| format!("{} {} {}", row[0], row[1], row[2])).collect();
    let is: Vec<_> = Code::ALL
        .iter()
        .map(|code| format!("[`{code}`](problems/{code}.md) {} {}", code.status().as_u16(), code.retry()))
        .collect();
    assert_eq!(said, is);
}

#[test]
fn every_code_is_in_the_table_of_grpc_with_its_status() {
    let rows = table(&page_of_tonic(), "| code | status | retry |");
    let said: Vec<_> = rows.iter().map(|row| format!("{} {} {}", row[0], row[1], row[2])).collect();
    let name = |code: &Code| GRPC[usize::try_from(code.grpc_status()).unwrap()];
    let is: Vec<_> = Code::ALL
        .iter()
        .map(|code| format!("[`{code}`](../problems/{code}.md) {} {}", name(code), code.retry()))
        .collect();
    assert_eq!(said, is);
}

#[test]
fn every_grpc_status_is_judged_as_the_page_says() {
    let rows = table(&page_of_tonic(), "| status | what happens to the key |");
    for (number, name) in (0..).zip(GRPC) {
        let named = |row: &&Vec<String>| row[0].split(',').any(|of| of.trim() == name);
        let row = rows.iter().find(named).unwrap_or(&rows[2]);
        let word = match Keep::default().classify_grpc(number) {
            Class::Store => "stored",
            Class::Release => "released",
            Class::Unknown => "unknown",
            Class::Forget => "forgotten",
        };
        assert!(row[1].starts_with(word), "{name}: {row:?}");
    }
}

// The page gives these in words; whoever changes a default is sent there by this test.
#[test]
fn the_defaults_are_those_of_the_page() {
    let policy = Policy::builder();
    let hours = Duration::from_hours;
    assert_eq!(policy.methods, [http::Method::POST, http::Method::PATCH]);
    assert_eq!(policy.requirement, Requirement::Optional);
    assert_eq!((policy.retention.body, policy.retention.record), (hours(24), hours(7 * 24)));
    assert_eq!(policy.retention.released, Duration::from_mins(10));
    assert_eq!((policy.body_limit, policy.capture_limit), (1 << 20, 1 << 20));
    assert_eq!(policy.capture_for, Duration::from_secs(10));
    assert_eq!(policy.recovery, Recovery::Hold);
    assert_eq!((policy.key.field.as_str(), policy.key.max_len), ("idempotency-key", Key::MAX_LEN));
    assert_eq!(Key::MAX_LEN, 255);
}
