//! Which laws were judged over which store: a table, from what the laws themselves say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names the file to which each law appends `judged`, `kept` or `skipped`, and where and which it is.
pub(crate) const FILE: &str = "SEMEL_LAWS";

/// A new, empty file, out of the way.
pub(crate) fn file(root: &Path) -> PathBuf {
    let file = root.join("target").join("laws.tsv");
    // Without it laws cannot say that they ran, and fail.
    let _made = std::fs::create_dir_all(root.join("target")).and_then(|()| std::fs::write(&file, ""));
    file
}

/// The table, which is also written to `target/laws.md`. `None` if no law ran.
pub(crate) fn table(root: &Path, judged: &Path) -> Option<String> {
    let text = std::fs::read_to_string(judged).ok()?;
    let said = Said::read(&text);
    if said.subjects.is_empty() {
        return None;
    }
    let text = said.text();
    if let Err(error) = std::fs::write(root.join("target").join("laws.md"), &text) {
        eprintln!("target/laws.md: {error}");
    }
    Some(text)
}

/// What was said of each law over each store.
#[derive(Debug, Default)]
struct Said<'a> {
    subjects: BTreeMap<String, BTreeMap<Law<'a>, Fate>>,
}

/// Theme and name.
type Law<'a> = (&'a str, &'a str);

/// In the order of what is better known: who is judged may yet be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Skipped,
    /// Judged, and not heard of since.
    Broken,
    Kept,
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Self {
        let mut said = Self::default();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            let &[word, package, module, theme, law] = fields.as_slice() else { continue };
            let fate = match word {
                "kept" => Fate::Kept,
                "judged" => Fate::Broken,
                _ => Fate::Skipped,
            };
            let laws = said.subjects.entry(subject(package, module)).or_default();
            let before = laws.entry((theme, law)).or_insert(fate);
            *before = fate.max(*before);
        }
        said
    }

    fn text(&self) -> String {
        // A law that nobody ran at all is not known here; each crate's own tests name all of them.
        let laws: BTreeSet<_> = self.subjects.values().flat_map(|laws| laws.keys().copied()).collect();
        let themes: BTreeSet<_> = laws.iter().map(|(theme, _)| *theme).collect();
        let columns: Vec<_> =
            ["laws kept over"].into_iter().chain(themes.iter().copied()).chain(["all"]).collect();
        let mut lines = vec![row(&columns), format!("|---|{}", "--:|".repeat(columns.len() - 1))];
        let mut missing = Vec::new();
        for (subject, fates) in &self.subjects {
            let mut cells = vec![subject.clone()];
            for theme in themes.iter().copied().map(Some).chain([None]) {
                let of_theme = laws.iter().filter(|(of, _)| theme.is_none_or(|theme| theme == *of));
                let (all, kept) = of_theme.fold((0, 0), |(all, kept), law| {
                    (all + 1, kept + usize::from(fates.get(law) == Some(&Fate::Kept)))
                });
                cells.push(if kept == all { all.to_string() } else { format!("**{kept} of {all}**") });
            }
            lines.push(row(&cells));
            for law @ (theme, name) in &laws {
                let why = match fates.get(law) {
                    Some(Fate::Kept) => continue,
                    Some(Fate::Broken) => "not kept",
                    Some(Fate::Skipped) => "skipped: there was no store",
                    None => "did not run",
                };
                missing.push(format!("* {subject}: {theme}::{name}: {why}"));
            }
        }
        if !missing.is_empty() {
            lines.push(String::new());
            lines.extend(missing);
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn row<S: std::borrow::Borrow<str>>(cells: &[S]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// `memory with_a_manual_clock`, from the package and the module of the tests.
fn subject(package: &str, module: &str) -> String {
    let store =
        package.trim_start_matches("semel-").trim_start_matches("store-").trim_start_matches("example-");
    let inner = module.split("::").filter(|part| !["it", "laws"].contains(part));
    std::iter::once(store).chain(inner).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "judged\tsemel-store-a\tit::laws\tclaim\tone\nkept\tsemel-store-a\tit::laws\tclaim\tone\n\
                        judged\tsemel-store-a\tit::laws\tlease\ttwo\nkept\tsemel-store-a\tit::laws\tlease\ttwo\n\
                        kept\tsemel-store-b\tit::laws::quick\tclaim\tone\njudged\tsemel-store-b\tit::laws::quick\tclaim\tone\n\
                        judged\tsemel-store-b\tit::laws::quick\tlease\ttwo\n\
                        skipped\tsemel-store-c\tit::laws\tclaim\tone\n";

    #[test]
    fn a_law_that_is_not_kept_somewhere_is_named() {
        let text = Said::read(SAID).text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "| laws kept over | claim | lease | all |",
                "|---|--:|--:|--:|",
                "| a | 1 | 1 | 2 |",
                "| b quick | 1 | **0 of 1** | **1 of 2** |",
                "| c | **0 of 1** | **0 of 1** | **0 of 2** |",
                "",
                "* b quick: lease::two: not kept",
                "* c: claim::one: skipped: there was no store",
                "* c: lease::two: did not run",
            ]
        );
    }

    #[test]
    fn nothing_said_is_no_table() {
        assert!(Said::read("").subjects.is_empty());
    }
}
