//! Three ways to keep an answer.

use std::str::FromStr;

use http::HeaderMap;
use http::header::LOCATION;

use crate::record::{Completion, NotKept, Reference, StoredBody, StoredResponse, UnknownName};

/// What is kept of an answer that is kept, and so what a retry gets.
///
/// A record is replayed as it was made: a deploy that changes this setting changes new records only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the contract has three ways")]
pub enum Answers {
    /// Status, fields and body: a retry gets the same bytes. The default.
    #[default]
    Stored,
    /// The status, `Location`, and a small [`Reference`] that the handler attaches with
    /// [`Override::reference`](crate::engine::Override::reference): a retry gets what the application makes of it
    /// anew. For answers with secrets in them, and for those that have to be current. An answer without a reference is
    /// kept as a tombstone: what it holds may be secret.
    Reference,
    /// The status and `Location`: a retry is told 409 `replay-unavailable`.
    Tombstone,
}

impl Answers {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stored, Self::Reference, Self::Tombstone];

    /// The name in settings and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Reference => "reference",
            Self::Tombstone => "tombstone",
        }
    }

    /// What to keep of a whole answer.
    pub(crate) fn keep(self, whole: StoredResponse, reference: Option<Reference>) -> Completion {
        let reference = reference.map(Reference::into_bytes);
        match self {
            // The reference outlives the body: after it, the answer can still be made again.
            Self::Stored => Completion { response: Some(whole), reference },
            Self::Reference => Completion { response: Some(fact(&whole)), reference },
            Self::Tombstone => Completion { response: Some(fact(&whole)), reference: None },
        }
    }
}

/// That it was answered, and where its result is.
fn fact(whole: &StoredResponse) -> StoredResponse {
    let mut headers = HeaderMap::new();
    for location in whole.headers.get_all(LOCATION) {
        headers.append(LOCATION, location.clone());
    }
    StoredResponse {
        status: whole.status,
        headers,
        body: StoredBody::NotKept(NotKept::ByChoice),
        trailers: None,
        origin: None,
    }
}

impl FromStr for Answers {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|answers| answers.as_str() == text).ok_or(UnknownName)
    }
}
