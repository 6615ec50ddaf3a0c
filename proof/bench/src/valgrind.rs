//! Instructions and allocations, counted from outside, so that counting changes neither.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::Failure;

/// What one request takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    /// Of these, SHA-256. Valgrind shows a CPU without SHA instructions, so this part is software here, and many
    /// times what it is on a CPU that has them.
    pub(crate) sha256: f64,
    pub(crate) allocations: f64,
}

pub(crate) fn is_here() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Runs a subject with its requests sent and unsent: the difference leaves out what making them cost.
pub(crate) fn cost(subject: &str, requests: u32) -> Result<Cost, Failure> {
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("profile");
    let option = format!("--callgrind-out-file={}", profile.display());
    let number = requests.to_string();
    let counted = |sent: &[&str]| -> Result<[f64; 3], Failure> {
        let subject = [&["subject", subject, &number], sent].concat();
        valgrind(&["--tool=callgrind", &option], &subject)?;
        let (all, sha256) = instructions(&profile)?;
        let memory = valgrind(&["--leak-check=no", "--undef-value-errors=no"], &subject)?;
        Ok([all, sha256, allocations(&String::from_utf8_lossy(&memory.stderr))?])
    };
    let (sent, unsent) = (counted(&[])?, counted(&["--unsent"])?);
    let each = |at: usize| (sent[at] - unsent[at]) / f64::from(requests);
    Ok(Cost { instructions: each(0), sha256: each(1), allocations: each(2) })
}

fn valgrind(options: &[&str], subject: &[&str]) -> Result<Output, Failure> {
    let output = Command::new("valgrind")
        .args(options)
        .arg(std::env::current_exe()?)
        .args(subject)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("valgrind: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(output)
}

/// All instructions of a profile, and those of SHA-256's own functions. The format is in Callgrind's manual.
fn instructions(profile: &Path) -> Result<(f64, f64), Failure> {
    let text = std::fs::read_to_string(profile)?;
    let (mut all, mut sha256) = (0.0, 0.0);
    let mut hashes = std::collections::HashMap::new();
    let (mut in_hash, mut of_a_call) = (false, false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            // `(12) name` at its first place, `(12)` from then on.
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            in_hash = *hashes.entry(number.to_owned()).or_insert_with(|| name.contains("sha2::"));
        } else if let Some(called) = line.strip_prefix("cfn=") {
            let (number, name) = called.split_once(' ').unwrap_or((called, ""));
            hashes.entry(number.to_owned()).or_insert_with(|| name.contains("sha2::"));
        } else if line.starts_with("calls=") {
            // The next line is what the callee took, which is counted where it is its own.
            of_a_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '*')) {
            let own: f64 = line.split(' ').nth(1).unwrap_or("0").parse()?;
            if !std::mem::take(&mut of_a_call) {
                all += own;
                if in_hash {
                    sha256 += own;
                }
            }
        }
    }
    Ok((all, sha256))
}

/// `total heap usage: 1,234 allocs, …`
fn allocations(said: &str) -> Result<f64, Failure> {
    let count = said
        .split_once("total heap usage: ")
        .and_then(|(_, rest)| rest.split_once(" allocs"))
        .ok_or("valgrind did not say how many allocations there were")?;
    Ok(count.0.replace(',', "").parse()?)
}
