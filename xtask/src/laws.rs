//! Which laws were judged over which store, and which scenarios over which host, of HTTP and of gRPC: tables, from what
//! the tests themselves say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A table, and where its lines come from.
#[derive(Debug)]
pub(crate) struct Table {
    /// Names the file to which each test appends `judged`, `kept`, `lacking` or `skipped`, and where and which it is.
    pub(crate) variable: &'static str,
    name: &'static str,
    title: &'static str,
}

/// Laws over stores.
pub(crate) const LAWS: Table = Table { variable: "SEMEL_LAWS", name: "laws", title: "laws kept over" };

/// Scenarios over hosts.
pub(crate) const HOSTS: Table =
    Table { variable: "SEMEL_HOSTS", name: "hosts", title: "scenarios held over" };

/// Scenarios of gRPC over its hosts.
pub(crate) const GRPC: Table = Table { variable: "SEMEL_GRPC", name: "grpc", title: "calls held over" };

impl Table {
    /// A new, empty file, out of the way.
    pub(crate) fn file(&self, root: &Path) -> PathBuf {
        let file = root.join("target").join(format!("{}.tsv", self.name));
        // Without it tests cannot say that they ran, and fail.
        let _made = std::fs::create_dir_all(root.join("target")).and_then(|()| std::fs::write(&file, ""));
        file
    }

    /// The table, which is also written to `target` as Markdown. `None` if nothing ran.
    pub(crate) fn text(&self, root: &Path, judged: &Path) -> Option<String> {
        let text = std::fs::read_to_string(judged).ok()?;
        let said = Said::read(&text);
        if said.subjects.is_empty() {
            return None;
        }
        let text = said.text(self.title);
        let file = format!("{}.md", self.name);
        if let Err(error) = std::fs::write(root.join("target").join(&file), &text) {
            eprintln!("target/{file}: {error}");
        }
        Some(text)
    }
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
    /// It was seen to fail where a host is known not to give it.
    Lacking,
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
                "lacking" => Fate::Lacking,
                _ => Fate::Skipped,
            };
            let laws = said.subjects.entry(subject(package, module)).or_default();
            let before = laws.entry((theme, law)).or_insert(fate);
            *before = fate.max(*before);
        }
        said
    }

    fn text(&self, title: &str) -> String {
        // A law that nobody ran at all is not known here; each crate's own tests name all of them.
        let laws: BTreeSet<_> = self.subjects.values().flat_map(|laws| laws.keys().copied()).collect();
        let themes: BTreeSet<_> = laws.iter().map(|(theme, _)| *theme).collect();
        let columns: Vec<_> = [title].into_iter().chain(themes.iter().copied()).chain(["all"]).collect();
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
                    Some(Fate::Lacking) => "cannot be given, as GUARANTEES.md says",
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
        let text = Said::read(SAID).text("laws kept over");
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

    /// A host that cannot give something is never counted among those that do.
    #[test]
    fn a_scenario_that_a_host_lacks_is_named_with_its_host() {
        let said = "judged\ta\tmemory\tdraft\tn34\nlacking\ta\tmemory\tdraft\tn34\n\
                    judged\tb\tmemory\tdraft\tn34\nkept\tb\tmemory\tdraft\tn34\n";
        let text = Said::read(said).text("scenarios held over");
        assert!(text.contains("| a memory | **0 of 1** | **0 of 1** |"), "{text}");
        assert!(text.contains("* a memory: draft::n34: cannot be given, as GUARANTEES.md says"), "{text}");
        assert!(text.contains("| b memory | 1 | 1 |"), "{text}");
    }

    #[test]
    fn nothing_said_is_no_table() {
        assert!(Said::read("").subjects.is_empty());
    }
}
