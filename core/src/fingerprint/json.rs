//! JSON by its meaning: one digest for all spellings of one value, and another for every other value.
//!
//! The text is read once, without recursion, and written in a canonical form in which each value says what
//! it is and where it ends:
//!
//! ```text
//! null u   true t   false f   zero 0   number + or -, length, digits, power of ten   string s, length, UTF-8
//! array [ value… ]   object { (m, length, name, value)… } sorted by name   long object H, digest of that
//! ```
//!
//! A long object inside of another value is replaced by its digest when it ends. So each byte is moved by the
//! sorting of a few objects at most, and the work stays linear however deep the objects are nested.

use std::ops::Range;

use super::Hash;
use super::exclusion::{Child, Exclusion, Lead};
use super::number::{self, varint};

/// Objects and arrays inside each other; what is deeper is compared byte by byte.
const MAX_DEPTH: usize = 128;

/// Bytes of the canonical form above which an inner object is replaced by its digest.
const LONG_OBJECT: usize = 256;

/// The digest of a JSON text's meaning; `None` where the text has none and its bytes have to do.
pub(super) fn canonical_digest(body: &[u8], exclude: &[Exclusion], hash: Hash) -> Option<[u8; 32]> {
    canonical(body, exclude, hash).map(|form| hash.digest(&form))
}

fn canonical(body: &[u8], exclude: &[Exclusion], hash: Hash) -> Option<Vec<u8>> {
    let mut writer = Writer {
        input: std::str::from_utf8(body).ok()?,
        at: 0,
        // Tags and lengths may take more than the punctuation that they stand for, but rarely by much.
        out: Vec::with_capacity(body.len() + body.len() / 8 + 16),
        containers: Vec::with_capacity(4),
        members: Vec::with_capacity(16),
        exclude,
        leads: Lead::all(exclude),
        scratch: Vec::new(),
        hash,
    };
    writer.document()?;
    if exclude.iter().any(Exclusion::is_the_document) {
        writer.out.clear();
    }
    Some(writer.out)
}

struct Writer<'a> {
    input: &'a str,
    at: usize,
    out: Vec<u8>,
    containers: Vec<Container>,
    /// Members of all open objects, the innermost object's last.
    members: Vec<Member>,
    exclude: &'a [Exclusion],
    /// What leads into each open container, the innermost one's last, and at the end what leads into the value
    /// being read.
    leads: Vec<Lead>,
    scratch: Vec<u8>,
    hash: Hash,
}

/// An object or array that has begun and not ended.
struct Container {
    kind: Kind,
    /// Where its form begins.
    start: usize,
    /// Its first member, in an object.
    members: usize,
    /// What leads into it.
    leads: Range<usize>,
    /// The number of the next element, in an array.
    next: u64,
    /// The value being read is left out: where the form was before it.
    left_out: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Object,
    Array,
}

/// Where a member's form stands. Four bytes each: an object may have hundreds of thousands.
#[derive(Clone, Copy)]
struct Member {
    start: u32,
    name: u32,
    name_end: u32,
    end: u32,
}

impl Writer<'_> {
    /// Every `?` means that the text is not JSON, or too much for the canonical form.
    fn document(&mut self) -> Option<()> {
        self.space();
        loop {
            if self.begin_value()? {
                continue;
            }
            loop {
                self.value_ended()?;
                self.space();
                let Some(container) = self.containers.last() else {
                    return (self.at == self.input.len()).then_some(());
                };
                match (container.kind, self.next()?) {
                    (Kind::Array, b',') => break self.element(),
                    (Kind::Object, b',') => break self.member()?,
                    (Kind::Array, b']') => self.end_array()?,
                    (Kind::Object, b'}') => self.end_object()?,
                    _ => return None,
                }
            }
        }
    }

    /// Reads a scalar or an empty container whole; `true` where a container's first value comes next.
    fn begin_value(&mut self) -> Option<bool> {
        match self.peek()? {
            b'{' => {
                self.open(Kind::Object)?;
                if self.peek()? != b'}' {
                    self.member()?;
                    return Some(true);
                }
                self.at += 1;
                self.end_object()?;
            }
            b'[' => {
                self.open(Kind::Array)?;
                if self.peek()? != b']' {
                    self.element();
                    return Some(true);
                }
                self.at += 1;
                self.end_array()?;
            }
            b'"' => {
                self.out.push(b's');
                self.string()?;
            }
            b'n' => self.word("null", b'u')?,
            b't' => self.word("true", b't')?,
            b'f' => self.word("false", b'f')?,
            _ => {
                let (number, length) = number::read(&self.input.as_bytes()[self.at..])?;
                number.write(&mut self.out)?;
                self.at += length;
            }
        }
        Some(false)
    }

    fn open(&mut self, kind: Kind) -> Option<()> {
        if self.containers.len() == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        self.space();
        let outer = self.containers.last().map_or(0, |outer| outer.leads.end);
        self.containers.push(Container {
            kind,
            start: self.out.len(),
            members: self.members.len(),
            leads: outer..self.leads.len(),
            next: 0,
            left_out: None,
        });
        self.out.push(if kind == Kind::Object { b'{' } else { b'[' });
        Some(())
    }

    /// Reads a member up to where its value begins.
    fn member(&mut self) -> Option<()> {
        self.space();
        let start = self.out.len();
        self.out.push(b'm');
        if self.peek()? != b'"' {
            return None;
        }
        let name = self.string()?;
        self.space();
        if self.next()? != b':' {
            return None;
        }
        self.space();
        self.members.push(Member {
            start: u32::try_from(start).ok()?,
            name: u32::try_from(name.start).ok()?,
            name_end: u32::try_from(name.end).ok()?,
            end: 0,
        });
        let container = self.containers.last_mut()?;
        let child = Child::Member(&self.out[name]);
        if Lead::follow(&mut self.leads, container.leads.clone(), self.exclude, child) {
            container.left_out = Some(start);
        }
        Some(())
    }

    /// Reads up to where an array's next element begins.
    fn element(&mut self) {
        self.space();
        if let Some(container) = self.containers.last_mut() {
            let child = Child::Element(container.next);
            container.next += 1;
            if Lead::follow(&mut self.leads, container.leads.clone(), self.exclude, child) {
                container.left_out = Some(self.out.len());
            }
        }
    }

    /// Forgets the value if it is left out, and what led into it.
    fn value_ended(&mut self) -> Option<()> {
        let Some(container) = self.containers.last_mut() else { return Some(()) };
        self.leads.truncate(container.leads.end);
        let left_out = container.left_out.take();
        if let Some(start) = left_out {
            self.out.truncate(start);
        }
        if container.kind == Kind::Object {
            if left_out.is_some() {
                self.members.pop();
            } else {
                self.members.last_mut()?.end = u32::try_from(self.out.len()).ok()?;
            }
        }
        Some(())
    }

    fn end_array(&mut self) -> Option<()> {
        self.containers.pop()?;
        self.out.push(b']');
        Some(())
    }

    fn end_object(&mut self) -> Option<()> {
        let Container { start, members: first, .. } = self.containers.pop()?;
        let (out, members) = (&mut self.out, &mut self.members[first..]);
        if !members.is_sorted_by(|one, next| one.name(out) <= next.name(out)) {
            members.sort_unstable_by(|one, other| {
                one.name(out).cmp(other.name(out)).then(one.start.cmp(&other.start))
            });
            self.scratch.clear();
            self.scratch.reserve(out.len() - start);
            for member in members.iter() {
                self.scratch.extend_from_slice(&out[member.start as usize..member.end as usize]);
            }
            out.truncate(start + 1);
            out.extend_from_slice(&self.scratch);
        }
        out.push(b'}');
        self.members.truncate(first);
        if !self.containers.is_empty() && self.out.len() - start > LONG_OBJECT {
            let digest = self.hash.digest(&self.out[start..]);
            self.out.truncate(start);
            self.out.push(b'H');
            self.out.extend_from_slice(&digest);
        }
        Some(())
    }

    /// Reads a string with its quotes and appends length and contents; says where the contents stand.
    fn string(&mut self) -> Option<Range<usize>> {
        let text = &self.input.as_bytes()[self.at + 1..];
        let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        if text[plain] == b'"' {
            self.at += plain + 2;
            return Some(write_string(&text[..plain], &mut self.out));
        }
        self.scratch.clear();
        self.at += 1;
        loop {
            let rest = &self.input.as_bytes()[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
            self.scratch.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.next()? {
                b'"' => return Some(write_string(&self.scratch, &mut self.out)),
                b'\\' => {
                    let character = self.escape()?;
                    self.scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return None,
            }
        }
    }

    /// Reads an escape after its backslash. A surrogate without its other half has no character.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            character @ (b'"' | b'\\' | b'/') => char::from(character),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.four_digits()? {
                high @ 0xd800..0xdc00 => {
                    if self.next()? != b'\\' || self.next()? != b'u' {
                        return None;
                    }
                    let low = self.four_digits()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)?
                }
                code => char::from_u32(code)?,
            },
            _ => return None,
        })
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.input.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
    }

    fn word(&mut self, word: &str, tag: u8) -> Option<()> {
        self.input.as_bytes()[self.at..].strip_prefix(word.as_bytes())?;
        self.at += word.len();
        self.out.push(tag);
        Some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

impl Member {
    fn name(self, out: &[u8]) -> &[u8] {
        &out[self.name as usize..self.name_end as usize]
    }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) -> Range<usize> {
    varint(text.len() as u64, out);
    let start = out.len();
    out.extend_from_slice(text);
    start..out.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<Vec<u8>> {
        canonical(text.as_bytes(), &[], Hash::Sha256)
    }

    // The form is stored, as part of a print: a record of an older version must still be told as equal.
    #[test]
    fn the_form_does_not_change() {
        let text = r#" {"b":[1.50,-2,0,"1"], "a":{"y":null,"x":true}, "é":false, "":"\u00e9\n"} "#;
        let expected: &[u8] =
            b"{m\0s\x03\xc3\xa9\nm\x01a{m\x01xtm\x01yu}m\x01b[+\x0215\x01-\x012\x000s\x011]m\x02\xc3\xa9f}";
        assert_eq!(form(text).unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn a_long_inner_object_becomes_its_digest() {
        let inner = format!(r#"{{"a":"{}"}}"#, "x".repeat(300));
        let outer = form(&format!("[{inner}]")).unwrap();
        let mut expected = b"[H".to_vec();
        expected.extend_from_slice(&Hash::Sha256.digest(&form(&inner).unwrap()));
        expected.push(b']');
        assert_eq!(outer, expected);
    }

    #[test]
    fn the_limit_of_depth_is_exact() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(form(&nested(128)).is_some());
        assert!(form(&nested(129)).is_none());
        let objects = |depth: usize| format!("{}0{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(form(&objects(128)).is_some());
        assert!(form(&objects(129)).is_none());
    }

    // Counted and not timed: without the digests of inner objects, each level would move all that is inside.
    #[test]
    fn the_form_stays_in_proportion_to_the_text() {
        let mut text = format!(r#""{}""#, "x".repeat(10_000));
        for _ in 0..127 {
            text = format!(r#"{{"z":{text},"a":0}}"#);
        }
        assert!(form(&text).unwrap().len() < 100);
        let wide = format!("[{}0]", "1,".repeat(500_000));
        assert!(form(&wide).unwrap().len() <= wide.len() * 2);
    }
}
