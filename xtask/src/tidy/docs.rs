//! Rules that hold the documents to the code.

use super::{Finding, Tree};

/// A claim is backed by the test it names; a test that was renamed leaves the claim without one.
pub(crate) fn named_tests_exist(tree: &Tree, findings: &mut Vec<Finding>) {
    // Tests, laws included, are named as sentences: at least three underscores.
    const WORDS: usize = 3;
    const PAGES: &[&str] = &[
        "GUARANTEES.md",
        "DESIGN.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "docs/layer-order.md",
        "docs/proof.md",
    ];
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

/// Pages that show parts of a program, and the program.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("README.md", "examples/axum-hello/src/main.rs"),
    ("docs/client.md", "examples/client-hello/src/main.rs"),
    ("docs/hosts/poem.md", "examples/poem-hello/src/main.rs"),
    ("docs/hosts/salvo.md", "examples/salvo-hello/src/main.rs"),
    ("docs/hosts/warp.md", "examples/warp-hello/src/main.rs"),
    ("docs/hosts/tonic.md", "examples/tonic-hello/src/main.rs"),
    ("docs/recovery.md", "examples/reconcile/src/main.rs"),
    ("docs/steps.md", "examples/axum-steps/src/main.rs"),
    ("docs/transactional.md", "examples/axum-payments/src/main.rs"),
];

/// What a reader copies from a page is what is compiled and tested.
pub(crate) fn pages_show_the_examples(tree: &Tree, findings: &mut Vec<Finding>) {
    for (page, example) in EXAMPLES {
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
        let pages: Vec<String> =
            (0..EXAMPLES.len()).map(|n| format!("# x\n```rust\nfn f{n}() {{}}\n```\n")).collect();
        let sources: Vec<String> = (0..EXAMPLES.len()).map(|n| format!("//! d\nfn f{n}() {{}}\n")).collect();
        let files = |left: usize| {
            let mut files = Vec::new();
            for (n, (page, example)) in EXAMPLES.iter().enumerate() {
                files.push((*page, pages[n].as_str()));
                files.push((*example, if n == left { "fn gone() {}\n" } else { sources[n].as_str() }));
            }
            files
        };
        assert!(found(pages_show_the_examples, &files(usize::MAX)).is_empty());
        for (n, (page, _)) in EXAMPLES.iter().enumerate() {
            assert_eq!(found(pages_show_the_examples, &files(n)), [format!("{page}:1")]);
        }
        assert_eq!(found(pages_show_the_examples, &[("README.md", "no code")]).len(), EXAMPLES.len());
    }
}
