//! Opens a store that is down at the start, again and again.

use std::time::Duration;

use semel_core::store::AnyStore;
use semel_gateway::NotOpen;

use crate::exit::Fault;
use crate::store::{Place, may_come};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Tries until the store is open, or until it says what somebody has to change.
pub(super) async fn open(place: &Place, largest_body: usize, not_open: &NotOpen) -> Result<AnyStore, Fault> {
    let mut pause = FIRST_PAUSE;
    loop {
        // Between half and all of it, so that many proxies do not come at once.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let tried = place.clone();
        let opened = tokio::task::spawn_blocking(move || tried.open(largest_body)).await;
        match opened.map_err(|error| Fault::system("cannot open the store", &error))? {
            Ok(store) => return Ok(store),
            Err(error) if may_come(&error) => {
                if not_open.failed(&error) {
                    tracing::warn!(store = %place.url(), %error, "the store is still not open");
                } else {
                    tracing::debug!(store = %place.url(), %error, "the store is still not open");
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
