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

impl Pointer {
    /// How many tokens it has.
    pub(super) fn steps(&self) -> usize {
        self.0.len()
    }

    /// Whether its token number `step` names this member.
    pub(super) fn member(&self, step: usize, name: &[u8]) -> bool {
        self.0.get(step).is_some_and(|token| token.name.as_bytes() == name)
    }

    /// Whether its token number `step` names this element.
    pub(super) fn element(&self, step: usize, index: u64) -> bool {
        self.0.get(step).is_some_and(|token| token.index == Some(index))
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
        for (text, name) in [("/a~1b", "a/b"), ("/m~0n", "m~n"), ("/~01", "~1"), ("/", "")] {
            assert!(pointer(text).member(0, name.as_bytes()), "{text}");
        }
        assert_eq!(pointer("").steps(), 0);
        for text in ["/a~1b", "/m~0n", "/~01", "/", "", "//a//", "/ ", "/é"] {
            assert_eq!(pointer(text).to_string(), text);
        }
        assert_eq!("a".parse::<Pointer>(), Err(BadPointer::NoSlash));
        assert_eq!("/~2".parse::<Pointer>(), Err(BadPointer::Escape));
        assert_eq!("/~".parse::<Pointer>(), Err(BadPointer::Escape));
    }

    #[test]
    fn an_index_has_one_spelling() {
        assert!(pointer("/0/x").element(0, 0) && pointer("/12").element(0, 12));
        for text in ["/01", "/+1", "/-", "/", "/1e0"] {
            assert!(!pointer(text).element(0, 1), "{text}");
        }
    }
}
