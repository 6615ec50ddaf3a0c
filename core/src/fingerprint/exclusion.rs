//! What a fingerprint leaves out, and how it is found while a body is read.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

#[cfg(feature = "jsonpath")]
use super::path::{BadPath, JsonPath};
use super::pointer::{BadPointer, Pointer};

/// What a fingerprint leaves out of JSON bodies: whatever a JSON Pointer (`/meta/ts`) or, with the feature `jsonpath`, a
/// JSONPath (`$..trace_id`) leads to.
///
/// As text the two cannot be confused: a path begins with `$`, a pointer with a slash, or it is empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Exclusion(Way);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Way {
    Pointer(Pointer),
    #[cfg(feature = "jsonpath")]
    Path(JsonPath),
}

impl Exclusion {
    /// Whether it names the whole document (an empty pointer, `$`), which makes all JSON bodies equal. `$.*` does not:
    /// it names every member, and an object still differs from an array.
    pub fn is_the_document(&self) -> bool {
        self.steps() == 0
    }

    /// How many steps lead from the document to what is left out; none: it is the document.
    pub(super) fn steps(&self) -> usize {
        match &self.0 {
            Way::Pointer(pointer) => pointer.steps(),
            #[cfg(feature = "jsonpath")]
            Way::Path(path) => path.steps(),
        }
    }

    /// Whether a step that can be taken from a value can be taken from what is inside of it as well.
    #[cfg_attr(not(feature = "jsonpath"), expect(unused_variables, reason = "only a path descends"))]
    fn descends(&self, step: usize) -> bool {
        match &self.0 {
            Way::Pointer(_) => false,
            #[cfg(feature = "jsonpath")]
            Way::Path(path) => path.descends(step),
        }
    }

    fn takes(&self, step: usize, child: Child<'_>) -> bool {
        match (&self.0, child) {
            (Way::Pointer(pointer), Child::Member(name)) => pointer.member(step, name),
            (Way::Pointer(pointer), Child::Element(index)) => pointer.element(step, index),
            #[cfg(feature = "jsonpath")]
            (Way::Path(path), Child::Member(name)) => path.member(step, name),
            #[cfg(feature = "jsonpath")]
            (Way::Path(path), Child::Element(index)) => path.element(step, index),
        }
    }
}

/// A value inside of an object or array.
#[derive(Clone, Copy)]
pub(super) enum Child<'a> {
    /// A member, by its name with all escapes undone.
    Member(&'a [u8]),
    /// An element, by its number.
    Element(u64),
}

/// How far an exclusion has come at a value: which of its steps is next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Lead {
    exclusion: usize,
    step: usize,
}

impl Lead {
    /// Where all begin: at the document.
    pub(super) fn all(exclude: &[Exclusion]) -> Vec<Self> {
        (0..exclude.len()).map(|exclusion| Self { exclusion, step: 0 }).collect()
    }

    /// Appends to `leads` those of a child, after those of its parent, which are `leads[parent]`. `true`: the child is
    /// left out, and nothing inside of it has to be found.
    ///
    /// The leads of a value are in order and each is there once, so they never are more than all exclusions have steps,
    /// however deep a descendant segment has come: the parent's are in order, and each gives itself, its next one, or both.
    pub(super) fn follow(
        leads: &mut Vec<Self>,
        parent: std::ops::Range<usize>,
        exclude: &[Exclusion],
        child: Child<'_>,
    ) -> bool {
        let first = leads.len();
        for at in parent {
            let lead = leads[at];
            let exclusion = &exclude[lead.exclusion];
            if exclusion.descends(lead.step) && leads[first..].last() != Some(&lead) {
                leads.push(lead);
            }
            if exclusion.takes(lead.step, child) {
                let next = Self { step: lead.step + 1, ..lead };
                if next.step == exclusion.steps() {
                    leads.truncate(first);
                    return true;
                }
                leads.push(next);
            }
        }
        false
    }
}

impl From<Pointer> for Exclusion {
    fn from(pointer: Pointer) -> Self {
        Self(Way::Pointer(pointer))
    }
}

#[cfg(feature = "jsonpath")]
impl From<JsonPath> for Exclusion {
    fn from(path: JsonPath) -> Self {
        Self(Way::Path(path))
    }
}

impl FromStr for Exclusion {
    type Err = BadExclusion;

    fn from_str(text: &str) -> Result<Self, BadExclusion> {
        match text.chars().next() {
            None | Some('/') => Ok(Self(Way::Pointer(text.parse()?))),
            #[cfg(feature = "jsonpath")]
            Some('$') => Ok(Self(Way::Path(text.parse()?))),
            #[cfg(not(feature = "jsonpath"))]
            Some('$') => Err(BadExclusion::NoPaths),
            Some(_) => Err(BadExclusion::Neither),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Pointer(pointer) => pointer.fmt(f),
            #[cfg(feature = "jsonpath")]
            Way::Path(path) => path.fmt(f),
        }
    }
}

impl fmt::Debug for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exclusion({self})")
    }
}

/// A text that names nothing to leave out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadExclusion {
    /// It begins like a pointer and is none.
    #[error(transparent)]
    Pointer(#[from] BadPointer),
    /// It begins like a path, and is none or cannot be followed while a body is read.
    #[cfg(feature = "jsonpath")]
    #[error(transparent)]
    Path(#[from] BadPath),
    /// A path, in a build that reads none.
    #[cfg(not(feature = "jsonpath"))]
    #[error("this is a JSONPath, which this build does not read: it lacks the feature `jsonpath`")]
    NoPaths,
    /// Neither.
    #[error("write a JSON Pointer, such as /meta/ts, or a JSONPath, such as $..ts")]
    Neither,
}
