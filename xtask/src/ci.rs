//! What `.ci/run` does after format and clippy.

use std::path::Path;

use crate::{Exit, book, run, test, tidy};

pub(crate) fn run(root: &Path) -> Exit {
    let mut doc = run::cargo(root);
    doc.args(["doc", "--no-deps"]).args(test::EVERYTHING).env("RUSTDOCFLAGS", "-D warnings");
    if !run::step(&mut doc) {
        return Exit::Failed;
    }
    for step in [tidy::run, book::run] {
        match step(root) {
            Exit::Fine => {}
            other => return other,
        }
    }
    test::run(root, &[])
}
