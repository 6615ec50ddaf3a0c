//! Which scenario held over which host: lines for the table that `cargo xtask test` prints.

use std::future::Future;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use semel_testkit::skip::skip;

use crate::records::Records;

/// Where hosts differ, and no test of the scenario may say otherwise: host, scenario, and the test that observes the lack.
const LACKS: &[(&str, &str, &str)] = &[
    (
        "actix",
        "n34_a_bad_key_is_refused_before_the_body_and_the_handler",
        "a_refused_request_that_expects_100_is_told_to_go_on_before_its_refusal",
    ),
    (
        "salvo",
        "e12_a_head_request_is_told_the_length_of_what_it_does_not_get",
        "a_head_request_is_told_no_length_with_and_without_a_guard",
    ),
    (
        "rocket",
        "n34_a_bad_key_is_refused_before_the_body_and_the_handler",
        "a_refused_request_that_expects_100_is_told_to_go_on_before_its_refusal",
    ),
    (
        "rocket",
        "a_body_that_is_too_slow_claims_nothing",
        "a_body_whose_first_bytes_do_not_come_is_waited_for_without_a_limit",
    ),
];

/// A lack may be that nothing comes. A host that no longer has it is done long before.
const LACKING: Duration = Duration::from_secs(5);

/// A scenario over a host and its records.
pub(crate) struct Told {
    host: &'static str,
    records: &'static str,
    /// Names the file of its table.
    table: &'static str,
    theme: &'static str,
    scenario: &'static str,
}

impl Told {
    /// From the path of the module that the test is in: `it::draft::axum::memory`, `it::grpc::calls::tonic::memory`.
    pub(crate) fn new(module: &'static str, scenario: &'static str) -> Self {
        let mut path = module.rsplit("::");
        let mut next = || path.next().expect("a theme, a host and its records");
        let (records, host, theme) = (next(), next(), next());
        let table = if next() == "grpc" { "SEMEL_GRPC" } else { "SEMEL_HOSTS" };
        Self { host, records, table, theme, scenario }
    }

    /// Runs the scenario. Where a host lacks what it asks for, it has to fail: a lack that has ended is struck off.
    pub(crate) async fn judge(self, records: Records, scenario: impl Future<Output = ()>) {
        if let Some(why) = records.missing().await {
            self.tell("skipped");
            return skip(self.scenario, &why).unwrap();
        }
        self.tell("judged");
        let lack = LACKS.iter().find(|(host, name, _)| (*host, *name) == (self.host, self.scenario));
        match lack {
            None => {
                scenario.await;
                self.tell("kept");
            }
            Some((.., observed)) => {
                let outcome = tokio::time::timeout(LACKING, AssertUnwindSafe(scenario).catch_unwind()).await;
                assert!(
                    !matches!(outcome, Ok(Ok(()))),
                    "{} no longer lacks this: strike it off, and {observed}",
                    self.host
                );
                self.tell("lacking");
            }
        }
    }

    /// Appends one line in one write: tests run side by side.
    fn tell(&self, word: &str) {
        let Some(file) = std::env::var_os(self.table) else { return };
        let Self { host, records, theme, scenario, .. } = self;
        let line = format!("{word}\t{host}\t{records}\t{theme}\t{scenario}\n");
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table's file can be written");
    }
}
