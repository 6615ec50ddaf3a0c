//! Checks what no compiler does. Each rule is a function over a [`Tree`]; its test sees it fail.

mod book;
mod code;
mod docs;
mod manifest;
mod rules;
mod text;
mod tree;

use std::path::Path;

use crate::Exit;
pub(crate) use tree::{Finding, Tree};

pub(crate) type Rule = fn(&Tree, &mut Vec<Finding>);

/// What is checked, by the name that is told.
const RULES: &[(&str, Rule)] = &[
    ("core is sans-IO", rules::core_is_sans_io),
    ("only core decides", rules::only_core_decides),
    ("nothing unfinished", rules::nothing_unfinished),
    ("no unwrap outside tests", rules::no_unwrap_outside_tests),
    ("dependencies point down", manifest::dependencies_point_down),
    ("versions stand in the root", manifest::versions_stand_in_the_root),
    ("workspace lints", manifest::workspace_lints),
    ("features are told", manifest::features_are_told),
    ("no file is long", text::no_file_is_long),
    ("no paths of one machine", text::no_machine_paths),
    ("a page for each problem", text::a_page_for_each_problem),
    ("the changelog has Unreleased", text::changelog_has_unreleased),
    ("named tests exist", docs::named_tests_exist),
    ("pages show the examples", docs::pages_show_the_examples),
];

/// What `cargo xtask docs` checks as well, before it builds the book.
pub(crate) const OF_THE_BOOK: &[(&str, Rule)] = &[
    ("links lead somewhere", book::links_lead_somewhere),
    ("addresses of the book are there", book::addresses_of_the_book_are_there),
    ("every page is in the book", book::every_page_is_in_the_book),
    ("the book's code compiles", book::code_of_the_book_compiles),
];

pub(crate) fn run(root: &Path) -> Exit {
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: {error}");
            return Exit::Failed;
        }
    };
    let count = broken(&tree, RULES) + broken(&tree, OF_THE_BOOK);
    if count == 0 {
        println!("tidy: {} rules kept in {} files", RULES.len() + OF_THE_BOOK.len(), tree.len());
        Exit::Fine
    } else {
        eprintln!("tidy: {count} findings");
        Exit::Failed
    }
}

/// Says where rules are broken, and counts it.
pub(crate) fn broken(tree: &Tree, rules: &[(&str, Rule)]) -> usize {
    let mut count = 0;
    for (name, rule) in rules {
        let mut findings = Vec::new();
        rule(tree, &mut findings);
        for Finding { path, line, what } in &findings {
            eprintln!("{path}:{line}: {what} ({name})");
        }
        count += findings.len();
    }
    count
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Finding, Rule, Tree};

    /// What a rule finds in files given as path and text, as `path:line`.
    pub(crate) fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        let mut findings = Vec::new();
        rule(&tree, &mut findings);
        findings.iter().map(|Finding { path, line, .. }| format!("{path}:{line}")).collect()
    }
}
