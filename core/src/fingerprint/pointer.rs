//! JSON Pointers (RFC 6901), which name what a fingerprint leaves out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// A JSON Pointer (RFC 6901), such as `/meta/ts` or `/items/0/id`. The empty one names the whole document.
///
/// A number names the element of an array or the member of an object, whichever it meets. There are no
/// wildcards, and `-` names no element.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Pointer(Arc<[Token]>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Token {
    name: Box<str>,
    index: Option<u64>,
}

/// How far a pointer reaches into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It names this very value.
    Here,
    /// It names something inside of this value.
    Inside,
    /// It names something else.
    Elsewhere,
}

impl Pointer {
    pub(super) fn names_document(&self) -> bool {
        self.0.is_empty()
    }

    /// Judges the member `name` of an object that stands `depth` tokens deep on the pointer's way.
    pub(super) fn member(&self, depth: usize, name: &[u8]) -> Reach {
        self.reach(depth, |token| token.name.as_bytes() == name)
    }

    /// Judges the element `index` of an array, likewise.
    pub(super) fn element(&self, depth: usize, index: u64) -> Reach {
        self.reach(depth, |token| token.index == Some(index))
    }

    fn reach(&self, depth: usize, matches: impl FnOnce(&Token) -> bool) -> Reach {
        let last = depth + 1 == self.0.len();
        match self.0.get(depth).is_some_and(matches) {
            true if last => Reach::Here,
            true => Reach::Inside,
            false => Reach::Elsewhere,
        }
    }
}

impl FromStr for Pointer {
    type Err = BadPointer;

    fn from_str(text: &str) -> Result<Self, BadPointer> {
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return Err(BadPointer::NoSlash);
        }
        parts.map(Token::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Token {
    fn parse(escaped: &str) -> Result<Self, BadPointer> {
        let mut name = String::with_capacity(escaped.len());
        let mut characters = escaped.chars();
        while let Some(character) = characters.next() {
            name.push(match character {
                '~' => match characters.next() {
                    Some('0') => '~',
                    Some('1') => '/',
                    _ => return Err(BadPointer::Escape),
                },
                other => other,
            });
        }
        let digits = name.bytes().all(|octet| octet.is_ascii_digit());
        let index = (digits && (name == "0" || !name.starts_with('0'))).then(|| name.parse().ok()).flatten();
        Ok(Self { name: name.into(), index })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| write!(f, "/{}", token.name.replace('~', "~0").replace('/', "~1")))
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pointer({self})")
    }
}

/// A text that is no JSON Pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPointer {
    /// It is not empty and does not begin with a slash.
    #[error("a JSON Pointer begins with a slash, as in /meta/ts")]
    NoSlash,
    /// A tilde before anything but 0 or 1.
    #[error("in a JSON Pointer ~0 stands for a tilde and ~1 for a slash; no other ~ may occur")]
    Escape,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    // RFC 6901, section 5, and the escapes that are easily undone in the wrong order.
    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(pointer("/a~1b").member(0, b"a/b"), Reach::Here);
        assert_eq!(pointer("/m~0n").member(0, b"m~n"), Reach::Here);
        assert_eq!(pointer("/~01").member(0, b"~1"), Reach::Here);
        assert_eq!(pointer("/").member(0, b""), Reach::Here);
        assert!(pointer("").names_document());
        for text in ["/a~1b", "/m~0n", "/~01", "/", "", "//a//", "/ ", "/é"] {
            assert_eq!(pointer(text).to_string(), text);
        }
        assert_eq!("a".parse::<Pointer>(), Err(BadPointer::NoSlash));
        assert_eq!("/~2".parse::<Pointer>(), Err(BadPointer::Escape));
        assert_eq!("/~".parse::<Pointer>(), Err(BadPointer::Escape));
    }

    #[test]
    fn an_index_has_one_spelling() {
        assert_eq!(pointer("/0/x").element(0, 0), Reach::Inside);
        assert_eq!(pointer("/12").element(0, 12), Reach::Here);
        for text in ["/01", "/+1", "/-", "/", "/1e0"] {
            assert_eq!(pointer(text).element(0, 1), Reach::Elsewhere, "{text}");
        }
    }
}
