//! From flags to the layers between the proxy and its store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use semel_core::store::AnyStore;
use semel_store_layers::{Compress, Guard, KeyId, Layers, Seal, SealingKey, Tier};
use zeroize::Zeroizing;

use crate::args::{GuardArg, LayerArgs, SealArgs};
use crate::exit::Fault;
use crate::store::{Place, StoreUrl};
use crate::units::show_duration;

/// What the driver allows a step by default.
const DRIVER: Duration = Duration::from_secs(2);
/// One record takes no more of the cache than this, and no more than all of it.
const LARGEST_ENTRY: u64 = 2 << 20;
/// A file of keys has some hundred bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Layers that fit each other, ready to be put over a store.
#[derive(Debug)]
pub(crate) struct Layering {
    seal: Option<Seal>,
    compress: bool,
    cache: Option<u64>,
    guard: Option<Guard>,
}

impl Layering {
    /// Reads the keys, and refuses what contradicts itself, before anything is opened.
    pub(crate) fn of(args: &LayerArgs, place: &Place, lease: Duration) -> Result<Self, Fault> {
        let refuse = |text: String| Err(Fault::config(text));
        let guarded = match args.guard {
            GuardArg::Auto => place.is_on_a_server(),
            GuardArg::On => true,
            GuardArg::Off => false,
        };
        if let (Some(_), false) = (args.store_timeout, guarded) {
            return refuse(match args.guard {
                GuardArg::Off => {
                    "--store-timeout and --guard off contradict each other: remove one of them".to_owned()
                }
                _ => format!(
                    "--store-timeout and --store {} contradict each other: it has no guard by itself; add --guard on, or \
                     remove --store-timeout",
                    place.url()
                ),
            });
        }
        let guard =
            guarded.then(|| args.store_timeout.map_or(Guard::new(), |most| Guard::new().call_within(most)));
        if let (Some(guard), Some(most)) = (&guard, args.store_timeout) {
            if most.is_zero() {
                return refuse(
                    "--store-timeout is 0s: no step could be answered in it; write for example 500ms"
                        .to_owned(),
                );
            }
            // A heartbeat a third of the lease, which has to be heard before the lease is over.
            if guard.longest() >= lease / 3 {
                return refuse(format!(
                    "--store-timeout ({}, of which three tries take {}) and --lease ({}) contradict each other: a renewal \
                     would come too late; lower --store-timeout, or raise --lease",
                    show_duration(most),
                    show_duration(guard.longest()),
                    show_duration(lease),
                ));
            }
        }
        if let Some(size) = args.local_cache {
            if *place.url() == StoreUrl::Memory {
                return refuse(
                    "--local-cache and --store memory: contradict each other: its records are in this process already; \
                     remove --local-cache"
                        .to_owned(),
                );
            }
            if size == 0 {
                return refuse("--local-cache is 0: leave it out, or write for example 64MiB".to_owned());
            }
        }
        Ok(Self {
            seal: seal(&args.seal)?,
            compress: args.compress,
            cache: args.local_cache.map(|size| size as u64),
            guard,
        })
    }

    /// How long a call may take under these layers before the driver gives it up.
    pub(crate) fn call_within(&self) -> Duration {
        self.guard.map_or(DRIVER, |guard| DRIVER.max(guard.longest() + Duration::from_millis(250)))
    }

    /// One word a layer, from the proxy's side to the store's.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let layers = [
            (self.cache.is_some(), "local cache"),
            (self.compress, "compressed"),
            (self.seal.is_some(), "sealed"),
            (self.guard.is_some(), "guarded"),
        ];
        layers.into_iter().filter_map(|(there, name)| there.then_some(name)).collect()
    }

    pub(crate) fn over(self, store: AnyStore) -> Result<AnyStore, Fault> {
        let mut layers = Layers::over(store);
        if let Some(size) = self.cache {
            layers = layers.tier(Tier::new().max_bytes(size).max_entry(size.min(LARGEST_ENTRY)));
        }
        // What another process has compressed, or this one before, is read in any case: its bytes are no answer.
        let none = Compress::new().at_least(usize::MAX);
        layers = layers.compress(if self.compress { Compress::new() } else { none });
        layers = match self.seal {
            Some(seal) => layers.seal(seal),
            None => layers.refuse_sealed(),
        };
        if let Some(guard) = self.guard {
            layers = layers.guard(guard);
        }
        layers.build().map_err(|error| {
            Fault::config(format!("--seal-keys, --compress, --local-cache, --guard: {error}"))
        })
    }
}

/// Only sealing, for whoever writes an answer by hand.
pub(crate) fn sealed(args: &SealArgs, store: AnyStore) -> Result<AnyStore, Fault> {
    let layers = Layers::over(store);
    let layers = match seal(args)? {
        Some(seal) => layers.seal(seal),
        None => layers.refuse_sealed(),
    };
    layers.build().map_err(|error| Fault::config(format!("--seal-keys: {error}")))
}

fn seal(args: &SealArgs) -> Result<Option<Seal>, Fault> {
    let Some(path) = &args.seal_keys else {
        return if args.accept_unsealed {
            Err(Fault::config(
                "--accept-unsealed means nothing without --seal-keys: add --seal-keys, or remove it",
            ))
        } else {
            Ok(None)
        };
    };
    let fault = |what: &str| Fault::config(format!("--seal-keys: {} {what}", path.display()));
    let text = read(path).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    let seal = keys(&text).map_err(|what| fault(&what))?;
    Ok(Some(if args.accept_unsealed { seal.accept_unsealed() } else { seal }))
}

/// In one piece of memory, which is wiped: a buffer that grows leaves copies behind.
fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    use std::io::Read as _;
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len().min(LARGEST_FILE);
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The error names a line by its number, and nothing that stands in it.
fn keys(text: &str) -> Result<Seal, String> {
    const ADVICE: &str = "write `seal NUMBER KEY` or `open NUMBER KEY`, with 64 hexadecimal digits for a key";
    let mut current: Option<(KeyId, SealingKey)> = None;
    let mut old: Vec<(KeyId, SealingKey)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (what, id, digits) = match words[..] {
            [] => continue,
            [what, id, digits] => (what, id, digits),
            _ => return Err(format!("line {number}: {ADVICE}")),
        };
        let id = id.parse().map(KeyId).map_err(|_| format!("line {number}: {ADVICE}"))?;
        let key = from_hex(digits).ok_or_else(|| format!("line {number}: {ADVICE}"))?;
        if current
            .as_ref()
            .map(|(id, _)| id)
            .into_iter()
            .chain(old.iter().map(|(id, _)| id))
            .any(|other| *other == id)
        {
            return Err(format!("line {number}: the number {id} is there already: give each key its own"));
        }
        match what {
            "seal" if current.is_none() => current = Some((id, key)),
            "seal" => {
                return Err(format!("line {number}: a second key that seals: make the older one `open`"));
            }
            "open" => old.push((id, key)),
            _ => return Err(format!("line {number}: {ADVICE}")),
        }
    }
    let (id, key) = current.ok_or_else(|| format!("has no key that seals: {ADVICE}"))?;
    Ok(old.into_iter().fold(Seal::new(id, key), |seal, (id, key)| seal.old(id, key)))
}

fn from_hex(digits: &str) -> Option<SealingKey> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    SealingKey::from_slice(&*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_file_of_keys_has_one_that_seals() {
        let text = format!(
            "# made in May\nopen 1 {A}   # until June\n\nseal 2 {}\n",
            A.replace('0', "f").to_uppercase()
        );
        assert!(keys(&text).is_ok());
        for (text, says) in [
            (String::new(), "no key that seals"),
            (format!("open 1 {A}"), "no key that seals"),
            (format!("seal 1 {A}\nseal 2 {A}"), "line 2: a second key"),
            (format!("seal 1 {A}\nopen 1 {A}"), "line 2: the number 1"),
            (format!("seal one {A}"), "line 1"),
            (format!("seal 1 {}", &A[1..]), "64 hexadecimal digits"),
            (format!("seal 1 {}x", &A[1..]), "64 hexadecimal digits"),
            (format!("close 1 {A}"), "`seal NUMBER KEY`"),
            (A.to_owned(), "line 1"),
        ] {
            let error = keys(&text).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
            assert!(!error.contains(&A[1..]), "the key is told: {error}");
        }
    }
}
