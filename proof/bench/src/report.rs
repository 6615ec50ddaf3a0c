//! Tables for people, JSON for programs, and the tables of `docs/performance.md`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Failure;

/// One report: a few tables under one name.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) tables: Vec<Table>,
    /// What was left out, and why.
    pub(crate) notices: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// Names the table in the file's markers.
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, tables: Vec::new(), notices: Vec::new() }
    }

    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        for table in &self.tables {
            writeln!(out, "{}\n", table.markdown())?;
        }
        for notice in &self.notices {
            writeln!(out, "{notice}")?;
        }
        Ok(())
    }

    /// Replaces what stands between `<!-- bench NAME -->` and `<!-- /bench -->` for each of the tables.
    pub(crate) fn write_into(&self, file: &Path) -> Result<(), Failure> {
        let mut text = std::fs::read_to_string(file)?;
        for table in &self.tables {
            let begin = format!("<!-- bench {} -->", table.name);
            let missing = || format!("{} has no `{begin}` … `<!-- /bench -->`", file.display());
            let from = text.find(&begin).ok_or_else(missing)? + begin.len();
            let length = text[from..].find("<!-- /bench -->").ok_or_else(missing)?;
            text.replace_range(from..from + length, &format!("\n{}\n", table.markdown()));
        }
        std::fs::write(file, text)?;
        Ok(())
    }
}

impl Table {
    fn markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        let line = |text: &mut String, cells: &mut dyn Iterator<Item = &str>| {
            for (at, (cell, &width)) in cells.zip(&widths).enumerate() {
                // The first column says what it is, the others are numbers. Writing to a string cannot fail.
                let _ = if at == 0 {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
        };
        line(&mut text, &mut self.columns.iter().copied());
        for (at, width) in widths.iter().enumerate() {
            let _ = write!(text, "|{}{}", "-".repeat(width + 1), if at == 0 { "-" } else { ":" });
        }
        text.push_str("|\n");
        for row in &self.rows {
            line(&mut text, &mut row.iter().map(String::as_str));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Says something beside the report.
pub(crate) fn notice(text: &str) {
    // Nobody may be listening, which is no reason to stop.
    let _unheard = writeln!(std::io::stderr().lock(), "{text}");
}
