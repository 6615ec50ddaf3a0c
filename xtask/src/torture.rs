//! The torture, which is a program of its own, with exit codes of its own.

use std::path::Path;

use crate::{Exit, run};

/// What follows goes to the program, whose `--help` explains it.
pub(crate) fn run(root: &Path, args: &[&str]) -> Exit {
    let mut torture = run::cargo(root);
    torture.args(["run", "--quiet", "-p", "semel-torture", "--all-features", "--"]).args(args);
    run::code(&mut torture)
}
