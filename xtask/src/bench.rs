//! The benches, which are a program of their own.

use std::path::Path;

use crate::{Exit, run, usage};

const PARTS: [&str; 3] = ["layer", "sqlite", "gateway"];

pub(crate) fn run(root: &Path, parts: &[&str]) -> Exit {
    if let Some(other) = parts.iter().find(|part| !PARTS.contains(part)) {
        return usage(&format!("`bench` knows {}, and not `{other}`", PARTS.join(", ")));
    }
    let mut bench = run::cargo(root);
    bench.args(["run", "--release", "-p", "semel-bench", "--"]).args(parts);
    if run::step(&mut bench) { Exit::Fine } else { Exit::Failed }
}
