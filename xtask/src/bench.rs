//! The benches, which are a program of their own.

use std::path::Path;

use crate::{Exit, run, usage};

const PARTS: [&str; 6] = ["layer", "sqlite", "stores", "transactional", "gateway", "all"];

/// The first argument is what to measure; the rest goes to the program, whose `--help` explains it.
pub(crate) fn run(root: &Path, args: &[&str]) -> Exit {
    let (part, rest) = match args.split_first() {
        None => ("all", args),
        Some((&part, rest)) if PARTS.contains(&part) => (part, rest),
        Some((other, _)) => return usage(&format!("`bench` knows {}, and not `{other}`", PARTS.join(", "))),
    };
    let mut bench = run::cargo(root);
    bench.args(["run", "--release", "-p", "semel-bench", "--", part]).args(rest);
    if run::step(&mut bench) { Exit::Fine } else { Exit::Failed }
}
