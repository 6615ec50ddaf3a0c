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

/// What a reader copies from a page is what is compiled and tested.
pub(crate) fn pages_show_the_examples(tree: &Tree, findings: &mut Vec<Finding>) {
    const PAGES: &[(&str, &str)] = &[
        ("README.md", "examples/axum-hello/src/main.rs"),
        ("docs/client.md", "examples/client-hello/src/main.rs"),
        ("docs/operating.md", "examples/reconcile/src/main.rs"),
        ("docs/steps.md", "examples/axum-steps/src/main.rs"),
    ];
    for (page, example) in PAGES {
        let text = tree.get(page).unwrap_or_default();
        let source = tree.get(example).unwrap_or_default();
        let mut shown = 0;
        for part in text.split("```rust").skip(1) {
            let code = part.split("```").next().unwrap_or_default().trim_start();
            shown += 1;
            if code.is_empty() || !source.contains(code) {
                add(findings, page, 1, format!("shows Rust code that is not in {example}"));
            }
        }
        if shown == 0 {
            add(findings, page, 1, format!("shows nothing of {example}"));
        }
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
    fn a_page_that_left_its_example_is_found() {
        let block = |code: &str| format!("# x\n```rust\n{code}\n```\n");
        let (readme, operating) = (block("fn main() {}"), block("fn settle() {}"));
        let client = block("fn call() {}");
        let found_with = |hello: &str, reconcile: &str| {
            let files = [
                ("README.md", readme.as_str()),
                ("docs/client.md", client.as_str()),
                ("docs/operating.md", operating.as_str()),
                ("docs/steps.md", readme.as_str()),
                ("examples/axum-steps/src/main.rs", "fn main() {}\n"),
                ("examples/client-hello/src/main.rs", "fn call() {}\n"),
                ("examples/axum-hello/src/main.rs", hello),
                ("examples/reconcile/src/main.rs", reconcile),
            ];
            found(pages_show_the_examples, &files)
        };
        assert!(found_with("//! d\nfn main() {}\n", "use x;\nfn settle() {}\n").is_empty());
        assert_eq!(found_with("fn main() { run() }\n", "fn settle() {}\n"), ["README.md:1"]);
        assert_eq!(found_with("fn main() {}\n", ""), ["docs/operating.md:1"]);
        assert_eq!(found(pages_show_the_examples, &[("README.md", "no code")]).len(), 4);
    }
}
