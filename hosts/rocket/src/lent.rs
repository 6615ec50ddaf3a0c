//! What Semel and a handler have to tell each other, in the cache of the handler's request.

use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use rocket::Request;
use semel_core::engine::Override;

/// What Semel has put into the request, and where the handler's word is left.
#[derive(Clone, Default)]
pub(crate) struct Lent {
    /// Whose rules judged the request.
    pub(crate) mount: Option<usize>,
    pub(crate) extensions: Extensions,
    pub(crate) told: Arc<Told>,
}

impl Lent {
    /// For a request that was judged by the rules of this mount.
    pub(crate) fn by(mount: usize, extensions: Extensions) -> Self {
        Self { mount: Some(mount), extensions, told: Arc::default() }
    }

    /// Empty where the request is not guarded.
    pub(crate) fn of<'a>(request: &'a Request<'_>) -> &'a Self {
        request.local_cache(Self::default)
    }
}

/// What a run tells of itself beside its answer.
#[derive(Default)]
pub(crate) struct Told(Mutex<Words>);

#[derive(Default)]
struct Words {
    panicked: bool,
    word: Option<Override>,
}

impl Told {
    /// Rocket makes a 500 of a panic, which an application may also answer that did nothing.
    pub(crate) fn panicked(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).panicked = true;
    }

    pub(crate) fn say(&self, word: Override) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).word = Some(word);
    }

    /// The handler's word on its answer.
    pub(crate) fn word(&self) -> Result<Option<Override>, HandlerPanicked> {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if words.panicked { Err(HandlerPanicked) } else { Ok(words.word.take()) }
    }
}

/// What looks like an answer is none of the handler's.
pub(crate) struct HandlerPanicked;
