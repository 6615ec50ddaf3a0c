//! The files of the repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::code;

/// Every text file that git knows, or would add, by its path from the root.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, String>);

/// Something that breaks a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let output = Command::new("git")
            .current_dir(root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .map_err(|error| format!("git lists the files, and cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let mut files = BTreeMap::new();
        for path in String::from_utf8_lossy(&output.stdout).split('\0').filter(|path| !path.is_empty()) {
            // Binary files are no text, and deleted ones are still listed: neither is for these rules.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self(files))
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Whether there is such a file, or a folder with files.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.0.contains_key(path)
            || self.0.range(folder.clone()..).next().is_some_and(|(at, _)| at.starts_with(&folder))
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Files by what their names end in.
    pub(crate) fn kind(&self, kind: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.rsplit_once('.').is_some_and(|(_, end)| end == kind))
    }

    /// Rust sources with comments and the contents of strings blanked out.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, String)> {
        self.kind("rs").map(|(path, text)| (path, code::blank(text)))
    }

    /// As [`rust`](Self::rust), without tests: neither their files nor their modules.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (&str, String)> {
        self.rust()
            .filter(|(path, _)| {
                !["tests/", "/tests.rs", "benches/", "examples/"].iter().any(|folder| path.contains(folder))
            })
            .filter(|(path, _)| !path.starts_with("proof/") && !path.starts_with("xtask/"))
            .map(|(path, text)| (path, code::without_tests(&text)))
    }
}
