//! What `.ci/run` does after format and clippy.

use std::path::Path;

use crate::{Exit, run, test, tidy};

pub(crate) fn run(root: &Path) -> Exit {
    let mut doc = run::cargo(root);
    doc.args(["doc", "--no-deps"]).args(test::EVERYTHING).env("RUSTDOCFLAGS", "-D warnings");
    if !run::step(&mut doc) {
        return Exit::Failed;
    }
    match tidy::run(root) {
        Exit::Fine => test::run(root, &[]),
        other => other,
    }
}
