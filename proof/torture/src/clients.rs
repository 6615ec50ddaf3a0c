//! Clients that send each transfer again until they know what became of it, and sometimes twice at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use semel_testkit::client::{Ask, post};
use tokio::time::{sleep, timeout};

use crate::bank::{ACCOUNTS, Transfer};
use crate::books::Told;

/// Shorter than a lease: a client of a service that is paused asks the other one, which takes over meanwhile.
const TRY: Duration = Duration::from_millis(700);
/// Once nothing breaks any more.
const PATIENCE: Duration = Duration::from_mins(1);

/// What all clients share.
pub(crate) struct Desk {
    pub(crate) services: Vec<SocketAddr>,
    /// No new transfers.
    pub(crate) closing: AtomicBool,
    pub(crate) tries: AtomicUsize,
}

impl Desk {
    /// One client's transfers, and what it was told of them.
    pub(crate) async fn client(self: Arc<Self>, number: usize, seed: u64) -> Vec<Told> {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
        let (mut told, mut asked) = (Vec::new(), Vec::new());
        for serial in 0.. {
            if self.closing.load(Ordering::Relaxed) {
                break;
            }
            let from = rng.u32(..ACCOUNTS);
            let to = (from + rng.u32(1..ACCOUNTS)) % ACCOUNTS;
            let transfer = Transfer { from, to, cents: rng.u32(1..200) };
            let key = format!("transfer-{number}-{serial}");
            let body = serde_json::to_vec(&transfer).unwrap_or_default();
            let ask = post("/transfers", &format!("\"{key}\""), body);
            let twice = rng.u8(..4) == 0;
            let mut answers = if twice {
                let (one, other) = (rng.fork(), rng.fork());
                let (one, other) = tokio::join!(self.until_known(&ask, one), self.until_known(&ask, other));
                one.into_iter().chain(other).collect::<Vec<_>>()
            } else {
                self.until_known(&ask, rng.fork()).await.into_iter().collect()
            };
            if rng.u8(..4) == 0 {
                answers.extend(self.until_known(&ask, rng.fork()).await);
            }
            told.push(Told { key, answers });
            asked.push(ask);
        }
        // Nothing breaks any more: what is in the books by now is what each is told for good.
        for (told, ask) in told.iter_mut().zip(&asked) {
            told.answers.extend(self.until_known(ask, rng.fork()).await);
        }
        told
    }

    /// The answer that says what became of it.
    async fn until_known(&self, ask: &Ask, mut rng: fastrand::Rng) -> Option<(u16, String)> {
        let mut closing_since = None;
        loop {
            let service = self.services[rng.usize(..self.services.len())];
            self.tries.fetch_add(1, Ordering::Relaxed);
            // A client that gives up hangs up.
            if let Ok(Ok(answer)) = timeout(TRY, ask.send(service)).await {
                let (status, text) = (answer.status(), answer.text());
                let again = status >= 500 || status == 429 || status == 409 && retries(&text);
                if !again {
                    return Some((status, text));
                }
            }
            if self.closing.load(Ordering::Relaxed) {
                let since = *closing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return None;
                }
            }
            sleep(Duration::from_millis(rng.u64(5..60))).await;
        }
    }
}

/// Whether a 409 says to come back with the same key.
fn retries(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|problem| problem["retry"] == "same-key")
}
