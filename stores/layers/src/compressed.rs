//! Bodies made smaller where that pays.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use semel_core::record::{Completion, Record, RecordId, StoredBody};
use semel_core::store::{
    AnyStore, Begun, Resolution, Resolved, Settled, Store, StoreError, StoreErrorKind, Verdict,
};

use crate::forward::forward;
use crate::sealed::is_sealed;

/// Settings of the compressing layer.
///
/// A kept body of at least [`at_least`](Self::at_least) bytes is compressed with zstd, and stored so if that is
/// smaller by more than the 13 bytes of the note beside it; else it is stored as it is. Bodies with a
/// `Content-Encoding` are not tried. Headers, trailers and progress stay as they are.
///
/// Records from before this layer was added, and those that it left as they are, read alike. A program without it
/// cannot read what it compressed: it would replay zstd bytes, so remove the layer only a body's life after it
/// stopped compressing (`at_least(usize::MAX)`).
///
/// # What others see
///
/// `body_bytes` in views and quotas in bytes count what the store keeps: the compressed bytes.
///
/// # Cost and limits
///
/// Compressing and decompressing run on the task of the caller. What is kept is never larger than before, so
/// the store's `max_body` stays what it was, and still judges the body after compression. A body larger than
/// [`max_body`](Self::max_body) is stored as it is. A compressed body says how long it was; one that says more than
/// `max_body`, or turns out to be of another length, is
/// [`Undecodable`](semel_core::store::StoreErrorKind::Undecodable), and no more memory than it says is ever taken.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Compress {
    at_least: usize,
    level: i32,
    max_body: usize,
}

impl Compress {
    /// From 1 KiB on, at level 3, bodies of at most 64 MiB.
    pub const fn new() -> Self {
        Self { at_least: 1024, level: 3, max_body: 64 << 20 }
    }

    /// Leaves smaller bodies alone. Default 1024 bytes.
    pub const fn at_least(mut self, bytes: usize) -> Self {
        self.at_least = bytes;
        self
    }

    /// zstd's level, from 1 (fast) to 19 (small). Default 3.
    pub const fn level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }

    /// The largest body that is compressed, and the largest that is decompressed, in bytes. Default 64 MiB.
    /// Lowering it makes larger ones that are kept already undecodable.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// What makes no sense about them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match () {
            () if !(1..=19).contains(&self.level) => Some("zstd's level is not from 1 to 19"),
            () if self.max_body == 0 => Some("`max_body` is 0: nothing would be compressed"),
            () => None,
        }
    }
}

impl Default for Compress {
    fn default() -> Self {
        Self::new()
    }
}

/// The note in front of a record's reference:
///
/// ```text
/// F5 'Z' 's' version │ method │ length of the plain body, 8 bytes big-endian │ reference, if there was one
/// ```
///
/// Only records that need one have it: those with a compressed body, and those whose own reference begins like
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    AsItIs,
    Zstd { plain: u64 },
}

const MAGIC: [u8; 3] = [0xF5, b'Z', b's'];
const VERSION: u8 = 1;
const NOTE: usize = 4 + 1 + 8;
/// In `method`: there was a reference.
const WITH_REFERENCE: u8 = 0x80;
const AS_IT_IS: u8 = 0;
const ZSTD: u8 = 1;

impl Method {
    fn note(self, reference: Option<&Bytes>) -> Bytes {
        let (method, plain) = match self {
            Self::AsItIs => (AS_IT_IS, 0),
            Self::Zstd { plain } => (ZSTD, plain),
        };
        let flag = if reference.is_some() { WITH_REFERENCE } else { 0 };
        let mut note = Vec::with_capacity(NOTE + reference.map_or(0, Bytes::len));
        note.extend_from_slice(&MAGIC);
        note.extend_from_slice(&[VERSION, method | flag]);
        note.extend_from_slice(&plain.to_be_bytes());
        note.extend_from_slice(reference.map_or(&[][..], |reference| reference));
        note.into()
    }

    /// The method and the record's own reference.
    fn read(note: &Bytes) -> Result<(Self, Option<Bytes>), Spoiled> {
        let head = note.first_chunk::<NOTE>().ok_or(Spoiled::Damaged)?;
        let [_, _, _, version, method, plain @ ..] = *head;
        if version != VERSION {
            return Err(Spoiled::Newer);
        }
        let reference = (method & WITH_REFERENCE != 0).then(|| note.slice(NOTE..));
        match method & !WITH_REFERENCE {
            AS_IT_IS => Ok((Self::AsItIs, reference)),
            ZSTD => Ok((Self::Zstd { plain: u64::from_be_bytes(plain) }, reference)),
            _ => Err(Spoiled::Newer),
        }
    }
}

/// Why a compressed record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Spoiled {
    #[error("a compressed record is damaged")]
    Damaged,
    #[error("a record was compressed in a way that this program does not read: update it")]
    Newer,
    #[error("a compressed body says that it is larger than `max_body` allows")]
    TooLarge,
}

/// A store that keeps smaller bodies.
#[derive(Debug)]
pub(crate) struct Compressed {
    inner: AnyStore,
    name: &'static str,
    settings: Compress,
}

impl Compressed {
    pub(crate) fn new(inner: AnyStore, settings: Compress) -> Self {
        let name = inner.capabilities().name;
        Self { inner, name, settings }
    }

    fn pack(&self, plain: &Arc<Completion>) -> Arc<Completion> {
        let own = plain.reference.as_ref();
        if let Some((method, body)) = self.squeezed(plain) {
            let mut response = plain.response.clone();
            if let Some(response) = &mut response {
                response.body = StoredBody::Kept(body);
            }
            return Arc::new(Completion { response, reference: Some(method.note(own)) });
        }
        if own.is_some_and(|reference| reference.starts_with(&MAGIC)) {
            let reference = Some(Method::AsItIs.note(own));
            return Arc::new(Completion { response: plain.response.clone(), reference });
        }
        Arc::clone(plain)
    }

    /// The compressed body, if there is one worth keeping.
    fn squeezed(&self, plain: &Completion) -> Option<(Method, Bytes)> {
        let response = plain.response.as_ref()?;
        let StoredBody::Kept(body) = &response.body else { return None };
        let tried = (self.settings.at_least..=self.settings.max_body).contains(&body.len())
            && !response.headers.contains_key(CONTENT_ENCODING)
            && !plain.reference.as_ref().is_some_and(|reference| is_sealed(reference));
        if !tried {
            return None;
        }
        let mut compressor = zstd::bulk::Compressor::new(self.settings.level).ok()?;
        // A body that flipped a bit must not be replayed as the answer to a payment.
        compressor.include_checksum(true).ok()?;
        let packed = compressor.compress(body).ok()?;
        let method = Method::Zstd { plain: u64::try_from(body.len()).ok()? };
        (packed.len() + NOTE < body.len()).then(|| (method, packed.into()))
    }

    fn unpack(&self, kept: &Arc<Completion>) -> Result<Arc<Completion>, Spoiled> {
        let Some(note) = kept.reference.as_ref().filter(|reference| reference.starts_with(&MAGIC)) else {
            return Ok(Arc::clone(kept));
        };
        let (method, reference) = Method::read(note)?;
        let mut response = kept.response.clone();
        if let Method::Zstd { plain } = method {
            let plain = usize::try_from(plain).map_err(|_| Spoiled::TooLarge)?;
            if plain > self.settings.max_body {
                return Err(Spoiled::TooLarge);
            }
            let response = response.as_mut().ok_or(Spoiled::Damaged)?;
            // Otherwise the store has dropped it since, and says why.
            if let StoredBody::Kept(body) = &response.body {
                response.body = StoredBody::Kept(expand(body, plain)?);
            }
        }
        Ok(Arc::new(Completion { response, reference }))
    }

    fn opened(&self, record: Record) -> Result<Record, StoreError> {
        let completion = self.unpack(&record.completion).map_err(|spoiled| {
            StoreError::new(self.name, StoreErrorKind::Undecodable, spoiled.to_string())
        })?;
        Ok(Record { view: record.view, completion })
    }
}

/// Takes memory for `plain` bytes at most, whatever the frame holds.
fn expand(body: &[u8], plain: usize) -> Result<Bytes, Spoiled> {
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| Spoiled::Damaged)?;
    let expanded = decompressor.decompress(body, plain).map_err(|_| Spoiled::Damaged)?;
    if expanded.len() == plain { Ok(expanded.into()) } else { Err(Spoiled::Damaged) }
}

impl Store for Compressed {
    async fn begin(&self, ask: &semel_core::store::Begin) -> Result<Begun, StoreError> {
        match self.inner.begin(ask).await? {
            Begun::Settled(record) => Ok(Begun::Settled(self.opened(record)?)),
            begun => Ok(begun),
        }
    }

    async fn complete(
        &self,
        lease: semel_core::store::LeaseRef,
        completion: &Arc<Completion>,
        keep: &semel_core::record::Retention,
    ) -> Result<Settled, StoreError> {
        self.inner.complete(lease, &self.pack(completion), keep).await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.inner.read(id).await?.map(|record| self.opened(record)).transpose()
    }

    async fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Result<Resolved, StoreError> {
        let verdict = match &resolution.verdict {
            Verdict::Applied(plain) => Verdict::Applied(self.pack(plain)),
            Verdict::NotApplied => Verdict::NotApplied,
        };
        self.inner.resolve(id, &Resolution { verdict, ..resolution.clone() }).await
    }

    forward!(renew release abandon note watch inspect list delete sweep health examine capabilities secret);
}
