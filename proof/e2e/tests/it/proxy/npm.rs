//! Packages from npm, as their lock file has them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use semel_testkit::skip::skip;

/// The folder where `proof/e2e/{name}` is installed, with this program in it. Nothing where Node is missing, and a note
/// of it.
pub(super) async fn installed(test: &str, name: &'static str, program: &'static str) -> Option<PathBuf> {
    for needed in ["node", "npm"] {
        if !answers(needed) {
            skip(test, &format!("{needed} is missing")).unwrap();
            return None;
        }
    }
    Some(tokio::task::spawn_blocking(move || install(name, program)).await.unwrap())
}

fn answers(program: &str) -> bool {
    let mut version = std::process::Command::new(program);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// Installs what the lock file says, once a lock file, into a copy in the target folder.
fn install(name: &str, program: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let turn = std::fs::File::create(folder.join("turn")).unwrap();
    turn.lock().unwrap();
    for file in ["package.json", "package-lock.json", ".npmrc", program] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let wanted = std::fs::read(folder.join("package-lock.json")).unwrap();
    let installed = folder.join("installed");
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    let mut npm = std::process::Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"])
        .current_dir(&folder);
    let output = npm.output().unwrap();
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(installed, wanted).unwrap();
    folder
}
