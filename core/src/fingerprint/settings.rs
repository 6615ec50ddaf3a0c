//! Settings as the short text that travels with a record: `1;json;x=/meta/ts;h=x-region;host=any`.
//!
//! The first part is the version, the second the body mode; defaults are left out. The text is stored, so a
//! change of its meaning needs a new version. `x=` is a JSON Pointer, or a JSONPath where it begins with `$`.

use std::fmt::Write as _;

use http::HeaderName;
use thiserror::Error;

use super::{BodyMode, FingerprintSettings, Hash, HostMode};
use crate::record::Settings;

const VERSION: &str = "1";

impl FingerprintSettings {
    /// Writes the settings as short text, equal for equal settings.
    pub fn to_settings(&self) -> Settings {
        let mut text = String::from(VERSION);
        text.push_str(match self.body {
            BodyMode::Json => ";json",
            BodyMode::Raw => ";raw",
            BodyMode::Off => ";off",
        });
        for exclusion in &self.exclude {
            text.push_str(";x=");
            escape(&exclusion.to_string(), &mut text);
        }
        for name in &self.headers {
            text.push_str(";h=");
            text.push_str(name.as_str());
        }
        text.push_str(match self.host {
            HostMode::Exact => "",
            HostMode::Any => ";host=any",
        });
        text.push_str(match self.hash {
            Hash::Sha256 => "",
            #[cfg(feature = "blake3")]
            Hash::Blake3 => ";hash=blake3",
        });
        text.into()
    }

    /// Reads what [`to_settings`](Self::to_settings) wrote.
    pub fn from_settings(text: &str) -> Result<Self, BadSettings> {
        let mut parts = text.split(';');
        if parts.next() != Some(VERSION) {
            return Err(BadSettings::Version);
        }
        let body = match parts.next() {
            Some("json") => BodyMode::Json,
            Some("raw") => BodyMode::Raw,
            Some("off") => BodyMode::Off,
            _ => return Err(BadSettings::Part { number: 2 }),
        };
        let mut settings = Self { body, ..Self::default() };
        for (part, number) in parts.zip(3..) {
            settings.read(part).ok_or(BadSettings::Part { number })?;
        }
        Ok(settings)
    }

    fn read(&mut self, part: &str) -> Option<()> {
        match part.split_once('=')? {
            ("x", exclusion) => self.exclude.push(unescape(exclusion)?.parse().ok()?),
            ("h", name) => self.headers.push(HeaderName::from_bytes(name.as_bytes()).ok()?),
            ("host", "any") => self.host = HostMode::Any,
            #[cfg(feature = "blake3")]
            ("hash", "blake3") => self.hash = Hash::Blake3,
            _ => return None,
        }
        Some(())
    }
}

/// Controls too: not every store takes a NUL in text.
fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        if matches!(character, '%' | ';') || character.is_ascii_control() {
            // Writing to a string cannot fail.
            let _ = write!(into, "%{:02x}", u32::from(character));
        } else {
            into.push(character);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        plain.push(char::from(code));
        plain.push_str(&part[2..]);
    }
    Some(plain)
}

/// A text that says no settings this version knows, so the print that they made cannot be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadSettings {
    /// Written by another version.
    #[error("fingerprint settings of an unknown version")]
    Version,
    /// A part that is malformed or asks for what this build lacks, such as BLAKE3 or JSONPath.
    #[error("part {number} of the fingerprint settings is unknown to this build")]
    Part {
        /// Which one, counted from 1.
        number: usize,
    },
}
