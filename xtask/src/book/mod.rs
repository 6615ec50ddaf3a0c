//! `cargo xtask docs`: the book. Its pages lie where they belong, `README.md` beside the code and the rest in
//! `docs`; here they are put into one folder, built by mdbook, and looked through for links that lead nowhere.

pub(crate) mod pages;
mod site;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::tidy::{self, Tree};
use crate::{Exit, run};
use pages::Pages;

/// What is installed where it is missing. Neither its server nor its watcher are needed.
const INSTALL: [&str; 6] = ["install", "mdbook", "--locked", "--no-default-features", "--features", "search"];
/// Where the pages are put together, and what is made of them. Neither is committed.
const SOURCE: &str = "target/book-src";
const SITE: &str = "target/book";

pub(crate) fn run(root: &Path) -> Exit {
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("docs: {error}");
            return Exit::Failed;
        }
    };
    if tidy::broken(&tree, tidy::OF_THE_BOOK) > 0 {
        return Exit::Failed;
    }
    if !run::answers(Command::new("mdbook").arg("--version")) && !run::step(run::cargo(root).args(INSTALL)) {
        eprintln!("docs: mdbook is missing, and could not be installed");
        return Exit::Failed;
    }
    if let Err(error) = put_together(root, &tree) {
        eprintln!("docs: cannot write {SOURCE}: {error}");
        return Exit::Failed;
    }
    if !run::step(Command::new("mdbook").current_dir(root).args(["build", SOURCE])) {
        return Exit::Failed;
    }
    match site::Site::read(&root.join(SITE)) {
        Ok(site) => judged(&site),
        Err(error) => {
            eprintln!("docs: cannot read {SITE}: {error}");
            Exit::Failed
        }
    }
}

fn judged(site: &site::Site) -> Exit {
    let broken = site.broken();
    for link in &broken {
        eprintln!("{SITE}/{link}");
    }
    if broken.is_empty() {
        println!("docs: {} pages in {SITE}, every link leads somewhere", site.len());
        Exit::Fine
    } else {
        eprintln!("docs: {} links lead nowhere", broken.len());
        Exit::Failed
    }
}

fn put_together(root: &Path, tree: &Tree) -> io::Result<()> {
    let source = root.join(SOURCE);
    for old in [&source, &root.join(SITE)] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for (path, text) in Pages::of(tree).put_together(tree) {
        let file = source.join("docs").join(path);
        fs::create_dir_all(file.parent().unwrap_or(&source))?;
        fs::write(file, text)?;
    }
    let settings = tree.get("book.toml").unwrap_or_default().replace(SITE, "../book");
    fs::write(source.join("book.toml"), settings)
}
