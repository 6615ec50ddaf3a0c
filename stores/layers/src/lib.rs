//! Layers over any Semel store: each is a store again, and keeps every law of the store below it.
//!
//! | layer | for | costs |
//! |---|---|---|
//! | [`Guard`] | a store over a network: time-outs, retries, a circuit breaker for claims | nothing while the store answers at once; a timer a call otherwise |
//! | [`Seal`] | a database that others can read, backups included | a pass of XChaCha20-Poly1305 over each answer kept and replayed; [`Seal::OVERHEAD`] bytes a record |
//! | [`Compress`] | large answers of text in a store that is paid by the byte | zstd over each large answer kept and replayed |
//! | [`Tier`] | bursts of retries at a store with a round trip | memory, up to its bound; another process's deletion is noticed 5 s late |
//!
//! Each layer boxes one future a call, which is far below a round trip and not nothing beside the memory store:
//! over that store none of them is of use. [`Layers`] puts them together and refuses orders that make no sense.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use semel_store_layers::{Compress, Guard, KeyId, Layers, Seal, SealingKey, Tier};
//! use semel_store_memory::MemoryStore;
//!
//! # let secret = [7; 32];
//! let store = Layers::new(MemoryStore::new())
//!     .tier(Tier::new())
//!     .compress(Compress::new())
//!     .seal(Seal::new(KeyId(1), SealingKey::from_bytes(secret)))
//!     .guard(Guard::new())
//!     .build()?;
//! store.health().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which for what
//!
//! The driver bounds and repeats its calls by itself: under it [`Guard`] adds the breaker, and is meant first of
//! all for programs that use a store without the driver. Quotas are judged by the store inside the claim, so no layer
//! here does that.
//!
//! # Limits
//!
//! * A layer changes no outcome, but may fail a call that the store answered: where bytes do not open or a
//!   time-out was too short. A claim that failed may have been applied all the same.
//! * What a store keeps under [`Seal`] or [`Compress`] is read through the same layers only: give them to every
//!   program that opens the store, the command line included.
//! * `max_body` of a store is neither shrunk nor stretched: a sealed body is exactly as long as the plain one,
//!   and a compressed one is shorter. A store that counts everything beside the body as well meets
//!   [`Seal::OVERHEAD`], and the 13 bytes of a compressed body's note.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tokio` (a default) | [`TokioTimer`], the timer that is used where no other is brought |

mod compressed;
mod forward;
mod guarded;
mod layers;
mod sealed;
mod tiered;
mod timer;
mod unsealed;

pub use compressed::Compress;
pub use guarded::Guard;
pub use layers::{LayerKind, Layers, LayersError};
pub use sealed::{KeyId, Opener, Seal, SealingKey};
pub use tiered::Tier;
#[cfg(feature = "tokio")]
pub use timer::TokioTimer;
pub use timer::{Sleep, Timer};
