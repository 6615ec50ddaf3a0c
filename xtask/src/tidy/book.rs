//! Rules of the book: its pages, their links, and their code.

use std::collections::BTreeSet;

use super::docs::EXAMPLES;
use super::{Finding, Tree};
use crate::book::pages::{ADDRESS, Pages, SUMMARY, is_of_the_repository, links, resolve};

/// Links of pages to files of this repository, and to their headings.
pub(crate) fn links_lead_somewhere(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.kind("md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, target) in links(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = match file {
                "" => path.to_owned(),
                file if is_of_the_repository(file) => resolve(folder, file),
                _ => continue,
            };
            if !tree.has(&there) {
                add(findings, path, line, format!("links to {target}, which is not there"));
            } else if !anchor.is_empty()
                && there.strip_suffix(".md").is_some()
                && !headings(tree.get(&there).unwrap_or_default()).contains(anchor)
            {
                add(findings, path, line, format!("links to {target}, and {there} has no such heading"));
            }
        }
    }
}

/// What is named by its address on the web is a page of the book: problems send their clients there.
pub(crate) fn addresses_of_the_book_are_there(tree: &Tree, findings: &mut Vec<Finding>) {
    let pages = Pages::of(tree);
    for (path, text) in tree.kind("md").chain(tree.kind("rs")) {
        for (index, line) in text.lines().enumerate() {
            for rest in line.split(ADDRESS).skip(1) {
                let is_part = |char: char| char.is_ascii_alphanumeric() || "-_./#".contains(char);
                let address = rest.split(|char| !is_part(char)).next().unwrap_or_default();
                let address = address.trim_end_matches('.');
                // A folder with a slash is the beginning of an address.
                if !address.ends_with('/') && !pages.has_address(address) {
                    add(
                        findings,
                        path,
                        index + 1,
                        format!("names {ADDRESS}{address}, which is no page of the book"),
                    );
                }
            }
        }
    }
}

/// A page that no list names is read by nobody.
pub(crate) fn every_page_is_in_the_book(tree: &Tree, findings: &mut Vec<Finding>) {
    let pages = Pages::of(tree);
    for (path, _) in tree.kind("md").filter(|(path, _)| path.starts_with("docs/") && *path != SUMMARY) {
        if !pages.order().iter().any(|page| page == path) {
            add(findings, path, 1, format!("is not in {SUMMARY}"));
        }
    }
    let mut seen = BTreeSet::new();
    for page in pages.order() {
        if !seen.insert(page) {
            add(findings, SUMMARY, 1, format!("lists {page} twice"));
        }
    }
}

/// Code that a reader copies compiles: it is a part of an example, or a crate has the page among its docs.
pub(crate) fn code_of_the_book_compiles(tree: &Tree, findings: &mut Vec<Finding>) {
    let mut compiled: BTreeSet<String> = EXAMPLES.iter().map(|(page, _)| (*page).to_owned()).collect();
    for (path, text) in tree.kind("rs") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for included in text.split("doc = include_str!(\"").skip(1) {
            compiled.insert(resolve(folder, included.split('"').next().unwrap_or_default()));
        }
    }
    for page in Pages::of(tree).order() {
        let text = tree.get(page).unwrap_or_default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("```rust")) {
            if line.contains("ignore") {
                add(findings, page, index + 1, "shows Rust code that nothing compiles");
            } else if !compiled.contains(page) {
                add(findings, page, index + 1, "shows Rust code, and no crate has it in its docs");
            }
        }
    }
}

/// The anchors of a page, as GitHub and mdbook make them of its headings.
fn headings(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim();
        let anchor: String = heading
            .chars()
            .filter_map(|char| match char {
                ' ' => Some('-'),
                char if char.is_alphanumeric() || "-_".contains(char) => Some(char.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let mut at = anchor.clone();
        for again in 1.. {
            if anchors.insert(at) {
                break;
            }
            at = format!("{anchor}-{again}");
        }
    }
    anchors
}

fn add(findings: &mut Vec<Finding>, path: &str, line: usize, what: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let pages = ("docs/policy.md", "# A `b`: c, d\n## Lives\n```\n# no heading\n```\n## Lives\n");
        for broken in
            ["[p](gone.md)", "[p](policy.md#gone)", "[p](#gone)", "# a\n[p](#b)", "[p](policy.md#no-heading)"]
        {
            assert_eq!(found(links_lead_somewhere, &[("docs/a.md", broken), pages]).len(), 1, "{broken}");
        }
        for fine in [
            "[p](policy.md#lives)",
            "[p](policy.md#lives-1)",
            "[p](policy.md#a-b-c-d)",
            "[p](../docs/policy.md)",
            "[p](https://a.example/x#y)",
            "# Here\n[p](#here)",
            "[p](../docs)",
            "```\n[p](gone.md)\n```",
        ] {
            assert!(found(links_lead_somewhere, &[("docs/a.md", fine), pages]).is_empty(), "{fine}");
        }
    }

    #[test]
    fn an_address_that_is_no_page_is_found() {
        let summary = (SUMMARY, "[a](a.md)\n[b](p/b.md)");
        for (text, wrong) in [("x", 1), ("a", 0), ("p/b.html#c.", 0), ("p/", 0), ("p/{code}", 0), ("p/c", 1)]
        {
            let text = format!("\"{ADDRESS}{text}\"");
            let files = [summary, ("core/src/a.rs", text.as_str())];
            assert_eq!(found(addresses_of_the_book_are_there, &files).len(), wrong, "{text}");
        }
    }

    #[test]
    fn a_page_that_is_in_no_list_or_twice_in_it_is_found() {
        let summary = (SUMMARY, "[a](a.md)\n[r](../README.md)");
        let files = [summary, ("docs/a.md", ""), ("README.md", ""), ("docs/p/b.md", "")];
        assert_eq!(found(every_page_is_in_the_book, &files), ["docs/p/b.md:1"]);
        assert_eq!(found(every_page_is_in_the_book, &[(SUMMARY, "[a](a.md)\n[b](a.md)")]).len(), 1);
    }

    #[test]
    fn code_that_nothing_compiles_is_found() {
        let summary = (SUMMARY, "[a](a.md)");
        let page = ("docs/a.md", "# A\n```rust,no_run\nx();\n```\n");
        assert_eq!(found(code_of_the_book_compiles, &[summary, page]), ["docs/a.md:2"]);
        let included = ("proof/book/src/lib.rs", "#[doc = include_str!(\"../../../docs/a.md\")]\nmod a {}");
        assert!(found(code_of_the_book_compiles, &[summary, page, included]).is_empty());
        let ignored = ("docs/a.md", "```rust,ignore\nx…\n```\n");
        assert_eq!(found(code_of_the_book_compiles, &[summary, ignored, included]), ["docs/a.md:1"]);
    }
}
