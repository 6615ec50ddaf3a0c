//! Which pages the book has, where each stands in it, and what becomes of their links.

use std::collections::BTreeMap;

use crate::tidy::Tree;

pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";
/// Where the book is read. The `type` of a problem begins with it.
pub(crate) const ADDRESS: &str = "https://semel-rs.github.io/semel/";
/// Where all that is not in the book is read.
const REPOSITORY: &str = "https://github.com/semel-rs/semel/";

/// The pages of the book in their order: where they lie in the repository, and in the book.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    order: Vec<String>,
    places: BTreeMap<String, String>,
}

impl Pages {
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut pages = Self::default();
        for (_, target) in links(tree.get(SUMMARY).unwrap_or_default()) {
            let path = resolve("docs", target);
            let place = path.strip_prefix("docs/").unwrap_or(&path);
            // By itself mdbook does the same, but forgets those who link there.
            let place = match place.strip_suffix("README.md") {
                Some(folder) => format!("{folder}index.md"),
                None => place.to_owned(),
            };
            pages.places.insert(path.clone(), place);
            pages.order.push(path);
        }
        pages
    }

    /// Where they lie in the repository, as often as they are listed.
    pub(crate) fn order(&self) -> &[String] {
        &self.order
    }

    /// Whether an address of the book, without its beginning, is that of a page.
    pub(crate) fn has_address(&self, address: &str) -> bool {
        let page = address.split('#').next().unwrap_or_default();
        let page = page.strip_suffix(".html").unwrap_or(page);
        page.is_empty() || self.places.values().any(|place| place.strip_suffix(".md") == Some(page))
    }

    /// Every page by its place, with links that lead there, and its summary.
    pub(crate) fn put_together(&self, tree: &Tree) -> Vec<(String, String)> {
        let mut files = vec![("SUMMARY.md".to_owned(), self.relinked(tree, SUMMARY, "SUMMARY.md"))];
        for (path, place) in &self.places {
            files.push((place.clone(), self.relinked(tree, path, place)));
        }
        files
    }

    fn relinked(&self, tree: &Tree, path: &str, place: &str) -> String {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        let mut text = String::new();
        for line in tree.get(path).unwrap_or_default().lines() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                text.push_str(line);
            } else {
                let mut parts = line.split("](");
                text.push_str(parts.next().unwrap_or_default());
                for part in parts {
                    let (target, rest) = part.split_once(')').unwrap_or((part, ""));
                    text.push_str("](");
                    text.push_str(&self.target(tree, folder, place, target));
                    text.push(')');
                    text.push_str(rest);
                }
            }
            text.push('\n');
        }
        text
    }

    /// What a link of a page in this folder says, from the page's place in the book.
    fn target(&self, tree: &Tree, folder: &str, place: &str, target: &str) -> String {
        if !is_of_the_repository(target) {
            return target.to_owned();
        }
        let (file, anchor) = target.split_once('#').map_or((target, ""), |(file, anchor)| (file, anchor));
        let path = resolve(folder, file);
        let anchor = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
        // A folder is as good as its first page: the others stand beside it.
        let within = format!("{path}/");
        let first = self.order.iter().find(|page| page.starts_with(&within));
        match self.places.get(first.unwrap_or(&path)) {
            Some(there) => format!("{}{there}{anchor}", "../".repeat(place.matches('/').count())),
            None if tree.get(&path).is_some() => format!("{REPOSITORY}blob/main/{path}{anchor}"),
            None => format!("{REPOSITORY}tree/main/{path}"),
        }
    }
}

/// The targets of the links of a text, with the number of their line.
pub(crate) fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines()
        .enumerate()
        .filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .flat_map(|(index, line)| {
            line.split("](").skip(1).filter_map(move |rest| Some((index + 1, rest.split(')').next()?)))
        })
}

/// Whether it leads to another file of the repository.
pub(crate) fn is_of_the_repository(target: &str) -> bool {
    !target.is_empty()
        && !target.starts_with('#')
        && !target.contains("://")
        && !target.starts_with("mailto:")
}

/// The path of a file that is named from a folder.
pub(crate) fn resolve(folder: &str, file: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(tree: &Tree, place: &str) -> String {
        let files = Pages::of(tree).put_together(tree);
        files.into_iter().find(|(at, _)| at == place).map(|(_, text)| text).unwrap_or_default()
    }

    // A page that is copied with its links as they are leads out of the book, to nowhere.
    #[test]
    fn links_lead_within_the_book_where_they_can_and_else_to_the_repository() {
        let tree = Tree::of(&[
            (SUMMARY, "# S\n- [a](../README.md)\n- [b](hosts/b.md)\n- [c](c.md)\n"),
            (
                "README.md",
                "[c](docs/c.md#x), [b](docs/hosts/b.md), [all](docs/hosts)\n```\n[c](docs/c.md)\n```",
            ),
            (
                "docs/hosts/b.md",
                "[c](../c.md) [r](../../README.md) [s](../../src/a.rs) [f](../../src) [#](#h)",
            ),
            ("docs/c.md", "[w](https://a.example/x)"),
            ("src/a.rs", ""),
        ]);
        assert_eq!(placed(&tree, "SUMMARY.md"), "# S\n- [a](index.md)\n- [b](hosts/b.md)\n- [c](c.md)\n");
        assert_eq!(
            placed(&tree, "index.md"),
            "[c](c.md#x), [b](hosts/b.md), [all](hosts/b.md)\n```\n[c](docs/c.md)\n```\n"
        );
        assert_eq!(
            placed(&tree, "hosts/b.md"),
            format!(
                "[c](../c.md) [r](../index.md) [s]({REPOSITORY}blob/main/src/a.rs) [f]({REPOSITORY}tree/main/src) [#](#h)\n"
            )
        );
        assert_eq!(placed(&tree, "c.md"), "[w](https://a.example/x)\n");
    }

    #[test]
    fn an_address_of_the_book_is_known_with_and_without_its_ending() {
        let pages = Pages::of(&Tree::of(&[(SUMMARY, "[a](a.md)\n[b](p/b.md)")]));
        for there in ["", "a", "a.html", "p/b", "p/b.html#x"] {
            assert!(pages.has_address(there), "{there}");
        }
        assert!(!pages.has_address("p/c"));
    }
}
