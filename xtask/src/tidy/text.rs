//! Rules over every text file.

use super::{Finding, Tree};

/// More lines than anybody reads top-down.
const LONGEST: usize = 700;

pub(crate) fn no_file_is_long(tree: &Tree, findings: &mut Vec<Finding>) {
    const KINDS: &[&str] = &["rs", "sql", "lua", "md", "sh", "js", "mjs"];
    for (path, text) in KINDS.iter().flat_map(|kind| tree.kind(kind)) {
        let lines = text.lines().count();
        if lines > LONGEST {
            add(findings, path, lines, format!("has {lines} lines, and {LONGEST} are the most: split it"));
        }
    }
}

/// A path under somebody's home, or the machine's folder for temporary files, works on one machine only.
pub(crate) fn no_machine_paths(tree: &Tree, findings: &mut Vec<Finding>) {
    // Put together here, so that this file does not break its own rule.
    const PATHS: &[&str] = &[
        concat!("/", "home/"),
        concat!("/", "root/"),
        concat!("/", "Users/"),
        concat!("/", "tmp/"),
        concat!("C:", "\\"),
    ];
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            // A URL's path is no file's.
            let start = |at: usize| {
                !line[..at].ends_with(|char: char| char.is_alphanumeric() || ".}_".contains(char))
            };
            if let Some(what) = PATHS.iter().find(|what| line.match_indices(**what).any(|(at, _)| start(at)))
            {
                add(findings, path, index + 1, format!("names `{what}`, which is of one machine"));
            }
        }
    }
}

/// A problem's `type` leads to its page. That each code has one is a test of core; that the pages are listed and
/// the list is whole is checked here.
pub(crate) fn a_page_for_each_problem(tree: &Tree, findings: &mut Vec<Finding>) {
    const CODES: &str = "core/src/problem/code.rs";
    let Some(codes) = tree.get(CODES) else {
        add(findings, CODES, 1, "is not there: where are the codes of problems?");
        return;
    };
    // Each variant's docs begin with its name: "/// `key-missing`, 400: ...".
    for (index, line) in codes.lines().enumerate() {
        let Some((code, rest)) = line.trim().strip_prefix("/// `").and_then(|line| line.split_once("`, "))
        else {
            continue;
        };
        let page = format!("docs/problems/{code}.md");
        if rest.starts_with(|char: char| char.is_ascii_digit()) && !tree.has(&page) {
            add(findings, CODES, index + 1, format!("`{code}` has no page {page}"));
        }
    }
}

/// What changed since the last release is written down with the change.
pub(crate) fn changelog_has_unreleased(tree: &Tree, findings: &mut Vec<Finding>) {
    const PATH: &str = "CHANGELOG.md";
    if !tree.get(PATH).is_some_and(|text| text.lines().any(|line| line.starts_with("## [Unreleased]"))) {
        add(findings, PATH, 1, "has no section `## [Unreleased]`");
    }
}

fn add(findings: &mut Vec<Finding>, path: &str, line: usize, what: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(found(no_file_is_long, &[("a.rs", &"x\n".repeat(LONGEST + 1))]).len(), 1);
        assert!(found(no_file_is_long, &[("a.rs", &"x\n".repeat(LONGEST))]).is_empty());
        assert!(found(no_file_is_long, &[("Cargo.lock", &"x\n".repeat(LONGEST + 1))]).is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for bad in
            [concat!("cd /", "home/me/semel"), concat!("\"/", "tmp/a\""), concat!("x=/", "root/.cargo")]
        {
            assert_eq!(found(no_machine_paths, &[("a.md", bad)]), ["a.md:1"], "{bad}");
        }
        for fine in [concat!("https://a.example/", "home/x"), "target/tmp", "the home of"] {
            assert!(found(no_machine_paths, &[("a.md", fine)]).is_empty(), "{fine}");
        }
    }

    #[test]
    fn a_problem_without_a_page_is_found() {
        let codes = (
            "core/src/problem/code.rs",
            "    /// `key-missing`, 400: none.\n    KeyMissing,\n/// `retry`, what",
        );
        assert_eq!(found(a_page_for_each_problem, &[codes]), ["core/src/problem/code.rs:1"]);
        assert!(found(a_page_for_each_problem, &[codes, ("docs/problems/key-missing.md", "")]).is_empty());
        assert_eq!(found(a_page_for_each_problem, &[]).len(), 1);
    }

    #[test]
    fn a_changelog_without_unreleased_is_found() {
        assert_eq!(found(changelog_has_unreleased, &[]).len(), 1);
        assert_eq!(found(changelog_has_unreleased, &[("CHANGELOG.md", "## 0.1.0")]).len(), 1);
        assert!(found(changelog_has_unreleased, &[("CHANGELOG.md", "## [Unreleased]")]).is_empty());
    }
}
