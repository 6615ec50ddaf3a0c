//! Where randomness starts: told when a law fails, and taken from the environment to do the same again.

use std::hash::{BuildHasher as _, RandomState};

/// `SEMEL_SEED`, or another one each time. It is printed.
#[expect(clippy::print_stdout, reason = "a test's own output, shown where it fails")]
pub(crate) fn seed() -> u64 {
    let seed = number("SEMEL_SEED").unwrap_or_else(|| RandomState::new().hash_one("semel"));
    println!("SEMEL_SEED={seed}");
    seed
}

/// `SEMEL_CASES`, or so many.
pub(crate) fn cases(default: u32) -> u32 {
    number("SEMEL_CASES").and_then(|cases| u32::try_from(cases).ok()).unwrap_or(default)
}

/// A seed as long as a generator wants it.
pub(crate) fn bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes
}

#[expect(clippy::panic, reason = "a run with another seed than was asked for proves nothing")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
