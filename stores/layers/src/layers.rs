//! Layers put together, in an order that makes sense.

use std::fmt;
use std::sync::Arc;

use semel_core::store::{AnyStore, Store};

use crate::compressed::{Compress, Compressed};
use crate::guarded::{Guard, Guarded};
use crate::sealed::{Seal, Sealed};
use crate::tiered::{Tier, Tiered};
use crate::timer::Timer;
use crate::unsealed::Unsealed;

/// Builds a store out of layers over another store.
///
/// Layers are named from the caller's side to the store's: a call meets the first one first. Each may be there once.
///
/// ```
/// # fn demo(store: impl semel_core::store::Store, key: [u8; 32]) -> Result<(), semel_store_layers::LayersError> {
/// use semel_store_layers::{Compress, Guard, KeyId, Layers, Seal, SealingKey, Tier};
///
/// let store = Layers::new(store)
///     .tier(Tier::new())
///     .compress(Compress::new())
///     .seal(Seal::new(KeyId(1), SealingKey::from_bytes(key)))
///     .guard(Guard::new())
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// # Orders that are refused
///
/// * `seal` before `compress`: sealed bytes do not get smaller.
/// * `guard` before `tier`: an open breaker would keep back replays that need no store, and a claim answered from
///   memory would count as a sign that the store is there.
/// * The same layer twice: tries would multiply, and bytes be sealed or compressed again.
///
/// All others make sense: `tier` after `seal` keeps sealed bytes in memory instead of plain ones, and `guard` before
/// `seal` counts the work of sealing into its time-outs.
#[derive(Debug)]
#[must_use]
pub struct Layers {
    store: AnyStore,
    timer: Option<Arc<dyn Timer>>,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Tier(Tier),
    Compress(Compress),
    Seal(Seal),
    RefuseSealed,
    Guard(Guard),
}

/// A layer, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerKind {
    /// [`Layers::tier`].
    Tier,
    /// [`Layers::compress`].
    Compress,
    /// [`Layers::seal`] or [`Layers::refuse_sealed`].
    Seal,
    /// [`Layers::guard`].
    Guard,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tier => "tier",
            Self::Compress => "compress",
            Self::Seal => "seal",
            Self::Guard => "guard",
        })
    }
}

/// Layers that cannot be built. No retry helps; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayersError {
    /// Two layers in an order that makes no sense.
    #[error("`{outer}` stands before `{inner}`, and belongs after it: {why}")]
    Order {
        /// The one that calls meet first.
        outer: LayerKind,
        /// The one that they meet later.
        inner: LayerKind,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A layer is there twice.
    #[error("`{0}` is there twice: name it once")]
    Twice(LayerKind),
    /// A setting means nothing.
    #[error("`{layer}`: {fault}")]
    Setting {
        /// The layer it is a setting of.
        layer: LayerKind,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Two sealing keys have the same number.
    #[error("`seal`: two keys have the number {0}")]
    KeyTwice(crate::KeyId),
    /// A layer needs a clock, and this build has none of its own.
    #[error("`{0}` needs a timer: `Layers::timer`, or the feature `tokio`")]
    NoTimer(LayerKind),
}

impl Layers {
    /// Over this store.
    pub fn new(store: impl Store) -> Self {
        Self::over(AnyStore::new(store))
    }

    /// Over a store that is behind the common type already.
    pub const fn over(store: AnyStore) -> Self {
        Self { store, timer: None, steps: Vec::new() }
    }

    /// Answers replays from memory.
    pub fn tier(self, tier: Tier) -> Self {
        self.step(Step::Tier(tier))
    }

    /// Compresses bodies.
    pub fn compress(self, compress: Compress) -> Self {
        self.step(Step::Compress(compress))
    }

    /// Encrypts answers.
    pub fn seal(self, seal: Seal) -> Self {
        self.step(Step::Seal(seal))
    }

    /// Takes the place of [`seal`](Self::seal) where there are no keys: answers that others have sealed are refused
    /// (`Undecodable`), instead of replayed as they lie there.
    pub fn refuse_sealed(self) -> Self {
        self.step(Step::RefuseSealed)
    }

    /// Bounds calls in time, tries them again, and stops claims to a store that is not there.
    pub fn guard(self, guard: Guard) -> Self {
        self.step(Step::Guard(guard))
    }

    /// Brings a clock of one's own. Default: Tokio's, with the feature `tokio`.
    pub fn timer(mut self, timer: impl Timer) -> Self {
        self.timer = Some(Arc::new(timer));
        self
    }

    /// Checks the order and the settings, and puts the layers together.
    ///
    /// # Errors
    ///
    /// [`LayersError`] says what to change.
    pub fn build(self) -> Result<AnyStore, LayersError> {
        let Self { store, timer, steps } = self;
        in_order(&steps)?;
        let clock = timer.or_else(tokio_timer);
        steps.into_iter().rev().try_fold(store, |below, step| {
            let layer = step.kind();
            if let Some(fault) = step.fault() {
                return Err(LayersError::Setting { layer, fault });
            }
            let clock = || clock.clone().ok_or(LayersError::NoTimer(layer));
            Ok(match step {
                Step::Tier(tier) => AnyStore::new(Tiered::new(below, tier, clock()?)),
                Step::Compress(compress) => AnyStore::new(Compressed::new(below, compress)),
                Step::Seal(seal) => {
                    AnyStore::new(Sealed::new(below, seal.ready().map_err(LayersError::KeyTwice)?))
                }
                Step::RefuseSealed => AnyStore::new(Unsealed::new(below)),
                Step::Guard(guard) => AnyStore::new(Guarded::new(below, guard, clock()?)),
            })
        })
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl Step {
    const fn kind(&self) -> LayerKind {
        match self {
            Self::Tier(_) => LayerKind::Tier,
            Self::Compress(_) => LayerKind::Compress,
            Self::Seal(_) | Self::RefuseSealed => LayerKind::Seal,
            Self::Guard(_) => LayerKind::Guard,
        }
    }

    fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Tier(tier) => tier.fault(),
            Self::Compress(compress) => compress.fault(),
            Self::Seal(_) | Self::RefuseSealed => None,
            Self::Guard(guard) => guard.fault(),
        }
    }
}

fn in_order(steps: &[Step]) -> Result<(), LayersError> {
    for (place, outer) in steps.iter().map(Step::kind).enumerate() {
        for inner in steps[place + 1..].iter().map(Step::kind) {
            if outer == inner {
                return Err(LayersError::Twice(outer));
            }
            if let Some(why) = against(outer, inner) {
                return Err(LayersError::Order { outer, inner, why });
            }
        }
    }
    Ok(())
}

/// What is wrong with calls meeting one before the other.
const fn against(outer: LayerKind, inner: LayerKind) -> Option<&'static str> {
    match (outer, inner) {
        (LayerKind::Seal, LayerKind::Compress) => Some("sealed bytes do not get smaller"),
        (LayerKind::Guard, LayerKind::Tier) => Some("its breaker would keep back replays that need no store"),
        _ => None,
    }
}

#[cfg(feature = "tokio")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn tokio_timer() -> Option<Arc<dyn Timer>> {
    Some(Arc::new(crate::TokioTimer::start()))
}

#[cfg(not(feature = "tokio"))]
fn tokio_timer() -> Option<Arc<dyn Timer>> {
    None
}
