//! Which laws were judged where, for a table: each appends lines to the file that `SEMEL_LAWS` names.

use std::io::Write as _;

use crate::LawName;

/// Where a law is judged: by one [`laws!`](crate::laws) of one crate.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by the macro, in other crates")]
pub struct Place {
    pub package: &'static str,
    pub module: &'static str,
    pub law: LawName,
}

/// What became of a law. One that is judged and not kept panics, so no word follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Judged,
    Kept,
    /// There was no store to judge.
    Skipped,
}

impl Place {
    /// Appends `word package module theme law`, with tabs between, in one write: tests run side by side.
    #[expect(clippy::panic, reason = "a table without a law that ran would say what is not so")]
    pub(crate) fn tell(&self, word: Word) {
        let Some(file) = std::env::var_os("SEMEL_LAWS") else { return };
        let word = match word {
            Word::Judged => "judged",
            Word::Kept => "kept",
            Word::Skipped => "skipped",
        };
        let Self { package, module, law: LawName { theme, name } } = self;
        let line = format!("{word}\t{package}\t{module}\t{theme}\t{name}\n");
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&file);
        let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            panic!("SEMEL_LAWS={}: {error}", file.display());
        }
    }
}
