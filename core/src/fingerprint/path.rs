//! JSONPaths (RFC 9535), as far as they can be followed while a body is read.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rsonpath_syntax as syntax;
use thiserror::Error;

/// Segments of one path.
const MOST_SEGMENTS: usize = 32;
/// Selectors of all its segments together.
const MOST_SELECTORS: usize = 64;

/// A JSONPath (RFC 9535) of names, wildcards and indexes: `$.meta.ts`, `$.items[*].id`, `$..trace_id`, `$..['a', 'b']`.
/// At most 32 segments with 64 selectors.
///
/// Filters, slices and indexes from the end are refused: a body is read once, and these say what is left out only when
/// more of it is known. Names compare as RFC 9535 has it, escapes undone and no normal form guessed. Of members with the
/// same name, which RFC 9535 leaves open, each is led to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JsonPath {
    segments: Arc<[Segment]>,
    text: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Segment {
    descends: bool,
    selectors: Box<[Selector]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Selector {
    Name(Box<str>),
    Index(u64),
    Any,
}

impl JsonPath {
    pub(super) fn steps(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn descends(&self, step: usize) -> bool {
        self.segments.get(step).is_some_and(|segment| segment.descends)
    }

    pub(super) fn member(&self, step: usize, name: &[u8]) -> bool {
        self.selects(step, |selector| match selector {
            Selector::Name(named) => named.as_bytes() == name,
            Selector::Index(_) => false,
            Selector::Any => true,
        })
    }

    pub(super) fn element(&self, step: usize, index: u64) -> bool {
        self.selects(step, |selector| match selector {
            Selector::Name(_) => false,
            Selector::Index(numbered) => *numbered == index,
            Selector::Any => true,
        })
    }

    fn selects(&self, step: usize, selects: impl Fn(&Selector) -> bool) -> bool {
        self.segments.get(step).is_some_and(|segment| segment.selectors.iter().any(selects))
    }
}

impl FromStr for JsonPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        // The parser's own text draws its findings under the path, and panics where that ends too early.
        let query = syntax::parse(text).map_err(|_| BadPath::Syntax)?;
        let selectors = query.segments().iter().map(|segment| segment.selectors().as_slice().len());
        if query.segments().len() > MOST_SEGMENTS || selectors.sum::<usize>() > MOST_SELECTORS {
            return Err(BadPath::TooLong);
        }
        let segments = query.segments().iter().map(Segment::of).collect::<Result<_, _>>()?;
        Ok(Self { segments, text: query.to_string().into() })
    }
}

impl Segment {
    fn of(segment: &syntax::Segment) -> Result<Self, BadPath> {
        let selectors = segment.selectors().as_slice().iter().map(Selector::of).collect::<Result<_, _>>()?;
        Ok(Self { descends: segment.is_descendant(), selectors })
    }
}

impl Selector {
    fn of(selector: &syntax::Selector) -> Result<Self, BadPath> {
        let refused = |kind| Err(BadPath::Selector { kind, selector: selector.to_string() });
        match selector {
            syntax::Selector::Name(name) => Ok(Self::Name(name.unquoted().into())),
            syntax::Selector::Wildcard => Ok(Self::Any),
            syntax::Selector::Index(syntax::Index::FromStart(index)) => Ok(Self::Index(index.as_u64())),
            syntax::Selector::Index(syntax::Index::FromEnd(_)) => refused("the index from the end"),
            syntax::Selector::Slice(_) => refused("the slice"),
            syntax::Selector::Filter(_) => refused("the filter"),
        }
    }
}

/// In brackets, one spelling for all that mean the same: `$..['ts']`.
impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonPath({self})")
    }
}

/// A text that is no JSONPath, or one that cannot be followed while a body is read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPath {
    /// It is none.
    #[error("not a JSONPath of RFC 9535, such as $.meta.ts, $.items[*].id or $..['a b']")]
    Syntax,
    /// A selector that is known only when more of the body is.
    #[error(
        "{kind} [{selector}] cannot be followed while a body is read: use names, wildcards and indexes from 0"
    )]
    Selector {
        /// What kind of selector.
        kind: &'static str,
        /// The selector, as it is written.
        selector: String,
    },
    /// More than 32 segments, or more than 64 selectors.
    #[error("this JSONPath is too long: at most {MOST_SEGMENTS} segments with {MOST_SELECTORS} selectors")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> JsonPath {
        text.parse().unwrap()
    }

    // The text goes into records: two spellings of a path are the same settings, and it reads back as itself.
    #[test]
    fn a_path_has_one_spelling() {
        for (text, spelling) in [
            ("$", "$"),
            ("$.meta.ts", "$['meta']['ts']"),
            ("$[\"meta\"]['ts']", "$['meta']['ts']"),
            ("$..ts", "$..['ts']"),
            ("$.items[*].id", "$['items'][*]['id']"),
            ("$..[ 'a' , 0 ]", "$..['a', 0]"),
            ("$['\\u00e9;%\\'']", "$['é;%\\'']"),
        ] {
            assert_eq!(path(text).to_string(), spelling);
            assert_eq!(path(spelling), path(text));
        }
    }

    #[test]
    fn what_needs_more_of_the_body_is_refused_by_its_name() {
        for (text, kind) in [
            ("$.items[?@.id == 1]", "filter"),
            ("$.items[?@.id].x", "filter"),
            ("$.items[0:2]", "slice"),
            ("$..items[::2]", "slice"),
            ("$.items[-1]", "index from the end"),
            ("$['a', -1]", "index from the end"),
        ] {
            let error = text.parse::<JsonPath>().unwrap_err();
            assert!(matches!(&error, BadPath::Selector { .. }), "{text}: {error:?}");
            assert!(error.to_string().contains(kind), "{error}");
        }
    }

    #[test]
    fn what_is_no_path_is_told_by_what_is_one() {
        for text in
            ["$.", "$[", "$[a", "$['a'", "$ ", " $", "$.a b", "$[01]", "$['\\ud800']", "$a", "meta", "$...a"]
        {
            let error = text.parse::<JsonPath>().unwrap_err();
            assert_eq!(error, BadPath::Syntax, "{text}");
            assert!(error.to_string().contains("$.meta.ts"), "{error}");
        }
    }

    #[test]
    fn the_limits_are_exact() {
        assert!(format!("${}", ".a".repeat(32)).parse::<JsonPath>().is_ok());
        assert_eq!(format!("${}", ".a".repeat(33)).parse::<JsonPath>(), Err(BadPath::TooLong));
        let names = |count| format!("$[{}]", vec!["'a'"; count].join(","));
        assert!(names(64).parse::<JsonPath>().is_ok());
        assert_eq!(names(65).parse::<JsonPath>(), Err(BadPath::TooLong));
    }
}
