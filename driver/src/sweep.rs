//! Cleans the store up in the background, at times that differ from process to process.

use std::sync::Weak;
use std::time::Duration;

use semel_core::observe::Event;

use crate::idempotency::{Idempotency, Shared};
use crate::runtime::within;

const BATCH: usize = 500;
/// The most batches of one sweep, so that a large backlog does not keep the store busy for long.
const ROUNDS: usize = 20;

/// Sweeps about every `every` until the last handle is gone.
pub(crate) async fn run(shared: Weak<Shared>, every: Duration) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let pause = Idempotency::of(alive.clone()).jitter(every);
        let sleep = alive.runtime.sleep(pause);
        drop(alive);
        sleep.await;
        let Some(alive) = shared.upgrade() else { return };
        sweep(&Idempotency::of(alive)).await;
    }
}

async fn sweep(idempotency: &Idempotency) {
    for _ in 0..ROUNDS {
        let limit = idempotency.call_within().saturating_mul(4);
        match within(idempotency.runtime(), limit, idempotency.store().sweep(BATCH)).await {
            Ok(Ok(swept)) => {
                idempotency.observe(&Event::Swept { swept });
                if !swept.more {
                    return;
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "a sweep failed, trying again later");
                idempotency.observe(&Event::StoreFailed {
                    step: "sweep",
                    kind: error.kind(),
                    will_retry: true,
                });
                return;
            }
            Err(_) => {
                tracing::warn!("a sweep took too long, trying again later");
                return;
            }
        }
    }
}
