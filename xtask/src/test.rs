//! Every test, and the counts at the end.

use std::path::{Path, PathBuf};

use crate::{Exit, laws, run, usage};

/// The one set of features for every step: another set would build tokio and hyper again.
pub(crate) const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

/// Names the file to which a test that cannot run on this machine adds a line: `its name: why`.
const SKIPS: &str = "SEMEL_SKIPS";

pub(crate) fn run(root: &Path, args: &[&str]) -> Exit {
    let Some(selection) = selection(args) else {
        return usage("`test` takes `-p CRATE` and nothing else");
    };
    let skips = skips_file(root);
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut report = Report { ci, ..Report::default() };

    // First all of it, so that the scenarios find the program that they run, and the features are those of the
    // tests: the program alone would be built with fewer, and its dependencies twice.
    let mut build = run::cargo(root);
    build.args(["build", "--all-targets"]).args(&selection);
    if selection.contains(&"semel-e2e") {
        build.args(["-p", "semel-cli"]);
    }
    if !run::step(&mut build) {
        eprintln!("\ntest: it does not build");
        return Exit::Failed;
    }

    let mut tests = run::cargo(root);
    if run::answers(run::cargo(root).args(["nextest", "--version"])) {
        tests.args(["nextest", "run", "--no-fail-fast", "--no-tests=warn", "--color", run::color()]);
    } else {
        tests.args(["test", "--no-fail-fast", "--all-targets", "--color", run::color()]);
    }
    tests.args(&selection).env(SKIPS, &skips);
    let judged = [laws::LAWS, laws::HOSTS, laws::GRPC].map(|table| {
        let file = table.file(root);
        tests.env(table.variable, &file);
        (table, file)
    });
    report.add("tests", run::step_read(&mut tests));

    for selection in one_by_one(&selection) {
        let mut docs = run::cargo(root);
        docs.args(["test", "--doc", "--no-fail-fast", "--color", run::color()])
            .args(&selection)
            .env(SKIPS, &skips);
        let (success, output) = run::step_read(&mut docs);
        // A program has no examples in its docs, and cargo calls it an error to ask for them.
        let program = output.contains("no library targets found in package");
        report.add("examples in docs", (success || program, output));
    }

    report.skips = std::fs::read_to_string(&skips).unwrap_or_default().lines().map(str::to_owned).collect();
    for text in judged.iter().filter_map(|(table, file)| table.text(root, file)) {
        println!("\n{text}");
    }
    println!("{}", report.text());
    if report.is_fine() { Exit::Fine } else { Exit::Failed }
}

/// Everything, or the crates that were named.
fn selection<'a>(args: &[&'a str]) -> Option<Vec<&'a str>> {
    if args.is_empty() {
        return Some(EVERYTHING.to_vec());
    }
    let mut selection = vec!["--all-features"];
    for pair in args.chunks(2) {
        let &["-p", name] = pair else { return None };
        selection.extend(["-p", name]);
    }
    Some(selection)
}

/// Crates that were named each on their own, since one that is a program spoils the step for all.
fn one_by_one<'a>(selection: &[&'a str]) -> Vec<Vec<&'a str>> {
    match selection {
        ["--all-features", packages @ ..] => {
            packages.chunks(2).map(|package| [&["--all-features"], package].concat()).collect()
        }
        everything => vec![everything.to_vec()],
    }
}

/// A new, empty file, out of the way.
fn skips_file(root: &Path) -> PathBuf {
    let file = root.join("target").join("skipped-tests.txt");
    // Without it no skip can be reported, and the tests say so by failing to write there.
    let _made = std::fs::create_dir_all(root.join("target")).and_then(|()| std::fs::write(&file, ""));
    file
}

#[derive(Debug, Default)]
struct Report {
    ci: bool,
    parts: Vec<Part>,
    skips: Vec<String>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    success: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Report {
    fn add(&mut self, name: &'static str, (success, output): (bool, String)) {
        self.parts.push(Part { name, success, counts: count(&output) });
    }

    fn total(&self) -> Counts {
        self.parts.iter().fold(Counts::default(), |sum, part| Counts {
            passed: sum.passed + part.counts.passed,
            failed: sum.failed + part.counts.failed,
            ignored: sum.ignored + part.counts.ignored,
        })
    }

    fn is_fine(&self) -> bool {
        let total = self.total();
        let skipped = !self.skips.is_empty() || total.ignored > 0;
        self.parts.iter().all(|part| part.success)
            && total.failed == 0
            && total.passed > 0
            && !(self.ci && skipped)
    }

    fn text(&self) -> String {
        let mut lines = vec![String::new(), "summary".to_owned()];
        for Part { name, success, counts: Counts { passed, failed, ignored } } in &self.parts {
            let word = if *success { "ok" } else { "FAILED" };
            lines.push(format!(
                "  {name:<18} {passed:>5} passed {failed:>5} failed {ignored:>5} ignored   {word}"
            ));
        }
        for skip in &self.skips {
            lines.push(format!("  skipped {skip}"));
        }
        let total = self.total();
        if total.passed == 0 {
            lines.push("  no test ran: that is a failure".to_owned());
        }
        if self.ci && (!self.skips.is_empty() || total.ignored > 0) {
            lines.push("  CI=true: a skipped or ignored test is a failure".to_owned());
        }
        lines.push(format!("{} passed, {} failed, {} skipped", total.passed, total.failed, self.skips.len()));
        lines.join("\n")
    }
}

/// What nextest (`Summary [ 1.0s] 3 tests run: 2 passed, 1 failed, 0 skipped`) and the standard harness
/// (`test result: ok. 2 passed; 0 failed; 0 ignored; ...`) say, added up.
fn count(output: &str) -> Counts {
    let mut counts = Counts::default();
    // Nextest shows what failing tests wrote, which is what the standard harness says of them alone.
    let nextest = output.lines().any(|line| line.trim_start().starts_with("Summary ["));
    let results = output.lines().filter_map(|line| {
        let line = line.trim_start();
        match line.strip_prefix("Summary [") {
            Some(line) => line.split_once(" run: ").map(|(_, results)| results),
            None if nextest => None,
            None => line.strip_prefix("test result: "),
        }
    });
    for result in results {
        let result = result.split_once(". ").map_or(result, |(_, rest)| rest);
        for item in result.split([',', ';', '(', ')']) {
            let Some((number, what)) = item.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => counts.passed += number,
                "failed" | "timed out" | "exec failed" => counts.failed += number,
                "ignored" | "skipped" => counts.ignored += number,
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ci: bool, success: bool, output: &str, skips: &[&str]) -> Report {
        let mut report = Report { ci, ..Report::default() };
        report.add("tests", (success, output.to_owned()));
        report.skips = skips.iter().map(|&skip| skip.to_owned()).collect();
        report
    }

    const FINE: &str = "     Summary [   2.6s] 131 tests run: 131 passed, 0 skipped";

    #[test]
    fn both_harnesses_are_counted() {
        assert_eq!(count(FINE), Counts { passed: 131, failed: 0, ignored: 0 });
        let bad =
            "Summary [ 9.1s] 10/12 tests run: 5 passed (2 slow, 1 leaky), 4 failed, 1 timed out, 3 skipped";
        assert_eq!(count(bad), Counts { passed: 5, failed: 5, ignored: 3 });
        let shown = format!("test result: FAILED. 0 passed; 1 failed; 0 ignored\n{bad}");
        assert_eq!(count(&shown), count(bad));
        let two = "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                   test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(two), Counts { passed: 8, failed: 2, ignored: 1 });
    }

    #[test]
    fn it_fails_when_a_test_did_or_the_program_did_or_nothing_ran() {
        assert!(report(false, true, FINE, &[]).is_fine());
        assert!(!report(false, false, FINE, &[]).is_fine());
        assert!(
            !report(false, true, "Summary [1s] 2 tests run: 1 passed, 1 failed, 0 skipped", &[]).is_fine()
        );
        assert!(!report(false, true, "", &[]).is_fine());
    }

    #[test]
    fn a_skip_is_told_and_fails_in_ci_only() {
        let skip = ["express: node is not installed"];
        let here = report(false, true, FINE, &skip);
        assert!(here.is_fine());
        assert!(here.text().contains("skipped express: node is not installed"));
        assert!(here.text().ends_with("131 passed, 0 failed, 1 skipped"));
        assert!(!report(true, true, FINE, &skip).is_fine());
        let ignored = "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured";
        assert!(!report(true, true, ignored, &[]).is_fine());
    }

    #[test]
    fn crates_are_chosen_by_name() {
        assert_eq!(selection(&["-p", "a", "-p", "b"]).unwrap(), ["--all-features", "-p", "a", "-p", "b"]);
        assert_eq!(
            one_by_one(&selection(&["-p", "a", "-p", "b"]).unwrap())[1],
            ["--all-features", "-p", "b"]
        );
        assert_eq!(one_by_one(&EVERYTHING), [EVERYTHING]);
        assert!(selection(&["-p"]).is_none() && selection(&["a"]).is_none());
    }
}
