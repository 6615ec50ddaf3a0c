//! Opens a store that may be down at the start, again and again.

use std::time::Duration;

use semel_core::store::{AnyStore, StoreError, StoreErrorKind};
use semel_gateway::NotOpen;
use tokio::task::JoinHandle;

use crate::exit::Fault;
use crate::store::{Place, may_come};

/// So long the proxy does not listen yet. A server that is there answers in less; one behind a firewall that drops
/// what it does not like says nothing for half a minute, and whoever asks for `/healthz` would give up before.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An opening that is under way, on a thread of its own.
pub(super) type Attempt = JoinHandle<Result<AnyStore, StoreError>>;

/// What came of the first attempt.
pub(super) enum First {
    Open(AnyStore),
    /// Why it is not open yet, and the attempt, should it have no end yet.
    Later(StoreError, Option<Attempt>),
}

/// Tries once. An error is one that somebody has to do something about.
pub(super) async fn first(place: &Place, largest_body: usize) -> Result<First, Fault> {
    let mut attempt = attempt(place, largest_body);
    // A file is no stranger's silence: what takes time there is its upgrade.
    let tried = if place.is_on_a_server() {
        tokio::time::timeout(PATIENCE, &mut attempt).await
    } else {
        Ok((&mut attempt).await)
    };
    let Ok(opened) = tried else {
        let text = format!("{}: no answer within {} s yet", place.url(), PATIENCE.as_secs());
        let error = StoreError::new(place.url().name(), StoreErrorKind::Timeout, text);
        return Ok(First::Later(error, Some(attempt)));
    };
    match opened.map_err(|error| Fault::system("cannot open the store", &error))? {
        Ok(store) => Ok(First::Open(store)),
        Err(error) if may_come(&error) => Ok(First::Later(error, None)),
        Err(error) => Err(error.into()),
    }
}

/// Tries until the store is open, or until it says what somebody has to change. Begins with the attempt that is under
/// way, if there is one.
pub(super) async fn open(
    place: &Place,
    largest_body: usize,
    not_open: &NotOpen,
    mut under_way: Option<Attempt>,
) -> Result<AnyStore, Fault> {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = if let Some(attempt) = under_way.take() {
            attempt
        } else {
            // Between half and all of it, so that many proxies do not come at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt(place, largest_body)
        };
        match attempt.await.map_err(|error| Fault::system("cannot open the store", &error))? {
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

fn attempt(place: &Place, largest_body: usize) -> Attempt {
    let place = place.clone();
    tokio::task::spawn_blocking(move || place.open(largest_body))
}
