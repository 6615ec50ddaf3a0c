//! The pages that mdbook made, and where their links lead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use super::pages::resolve;

/// Pages and other files of a site, by their paths.
#[derive(Debug, Default)]
pub(super) struct Site {
    pages: BTreeMap<String, String>,
    files: BTreeSet<String>,
}

impl Site {
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut site = Self::default();
        site.walk(folder, "")?;
        Ok(site)
    }

    fn walk(&mut self, folder: &Path, at: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{at}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if path.strip_suffix(".html").is_some() && !OF_MDBOOK.contains(&path.as_str()) {
                self.pages.insert(path, fs::read_to_string(entry.path())?);
            } else {
                self.files.insert(path);
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Links that lead nowhere, as `page: target`.
    pub(super) fn broken(&self) -> Vec<String> {
        let ids: BTreeMap<&str, BTreeSet<&str>> =
            self.pages.iter().map(|(path, text)| (path.as_str(), attributes(text, "id").collect())).collect();
        let mut broken = Vec::new();
        for (path, text) in &self.pages {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            for target in attributes(text, "href") {
                if target.contains(':') || target.is_empty() || target == "#" {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let there = if file.is_empty() { path.clone() } else { resolve(folder, file) };
                let leads = match ids.get(there.as_str()) {
                    Some(ids) => anchor.is_empty() || ids.contains(anchor),
                    None => self.files.contains(&there),
                };
                if !leads {
                    broken.push(format!("{path}: links to {target}"));
                }
            }
        }
        broken
    }
}

/// Made of all pages, or of none, with links that are those of the pages.
const OF_MDBOOK: &[&str] = &["404.html", "print.html", "toc.html"];

/// The values of an attribute, wherever it stands.
fn attributes<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!(" {name}=\"");
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&start)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_no_page_and_one_to_no_heading_are_found() {
        let page = |text: &str| text.to_owned();
        let site = Site {
            pages: BTreeMap::from([
                (
                    "a.html".to_owned(),
                    page("<a href=\"p/b.html#x\"></a><a href=\"#top\"></a><h1 id=\"top\">"),
                ),
                (
                    "p/b.html".to_owned(),
                    page(
                        "<h2 id=\"x\"><a href=\"../a.html\"></a> <a href=\"c.html\"></a> <a href=\"../a.html#y\"></a>",
                    ),
                ),
            ]),
            files: BTreeSet::new(),
        };
        assert_eq!(site.broken(), ["p/b.html: links to c.html", "p/b.html: links to ../a.html#y"]);
    }
}
