//! Rules that hold the documents to the code.

use super::{Finding, Tree};

/// A claim is backed by the test it names; a test that was renamed leaves the claim without one.
pub(crate) fn named_tests_exist(tree: &Tree, findings: &mut Vec<Finding>) {
    // Tests, laws included, are named as sentences: at least three underscores.
    const WORDS: usize = 3;
    const PAGES: &[&str] = &["GUARANTEES.md", "DESIGN.md", "ARCHITECTURE.md", "SECURITY.md"];
    let mut sources = String::new();
    for (_, text) in tree.kind("rs") {
        sources.push_str(text);
    }
    for (page, text) in PAGES.iter().filter_map(|page| Some((*page, tree.get(page)?))) {
        for (index, line) in text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2);
            for name in quoted.filter(|name| is_name(name) && name.matches('_').count() >= WORDS) {
                if !sources.contains(&format!("fn {name}(")) && !sources.contains(&format!("fn {name}<")) {
                    add(findings, page, index + 1, format!("names the test {name}, which is not there"));
                }
            }
        }
    }
}

/// What a reader copies from the README is what is compiled and tested.
pub(crate) fn readme_shows_the_example(tree: &Tree, findings: &mut Vec<Finding>) {
    const README: &str = "README.md";
    const EXAMPLE: &str = "examples/axum-hello/src/main.rs";
    let readme = tree.get(README).unwrap_or_default();
    let example = tree.get(EXAMPLE).unwrap_or_default();
    let mut shown = 0;
    for part in readme.split("```rust\n").skip(1) {
        let code = part.split("```").next().unwrap_or_default();
        shown += 1;
        if code.trim().is_empty() || !example.contains(code) {
            add(findings, README, 1, format!("shows Rust code that is not in {EXAMPLE}"));
        }
    }
    if shown == 0 {
        add(findings, README, 1, format!("shows nothing of {EXAMPLE}"));
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_lowercase())
        && text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

fn add(findings: &mut Vec<Finding>, path: &str, line: usize, what: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn a_claim_whose_test_is_gone_is_found() {
        let page = ("GUARANTEES.md", "x\n`it_runs_only_once`, `max_run`, `Idempotency::drain`");
        assert_eq!(found(named_tests_exist, &[page]), ["GUARANTEES.md:2"]);
        assert!(
            found(named_tests_exist, &[page, ("a/tests/it/a.rs", "fn it_runs_only_once() {}")]).is_empty()
        );
        assert!(
            found(named_tests_exist, &[page, ("a/src/a.rs", "fn it_runs_only_once<F>(f: F) {}")]).is_empty()
        );
        assert_eq!(found(named_tests_exist, &[page, ("a.rs", "fn it_runs_only_once_more() {}")]).len(), 1);
    }

    #[test]
    fn a_readme_that_left_its_example_is_found() {
        let readme = ("README.md", "# x\n```rust\nfn main() {}\n```\n");
        let example = |text| ("examples/axum-hello/src/main.rs", text);
        assert!(found(readme_shows_the_example, &[readme, example("//! d\nfn main() {}\n")]).is_empty());
        assert_eq!(found(readme_shows_the_example, &[readme, example("fn main() { run() }\n")]).len(), 1);
        assert_eq!(found(readme_shows_the_example, &[("README.md", "no code"), example("")]).len(), 1);
    }
}
