//! The one connection that hears of changes made by other processes.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::RecordId;
use semel_store_kit::Watchers;
use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

/// How long it waits before it tries again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// After so long without a word it asks whether the server is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it waits for that answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens for as long as the store lives. What is told while nobody listens is lost, so everybody is woken after
/// each new beginning.
pub(crate) async fn listen(options: PgConnectOptions, channel: String, watchers: Arc<Watchers>) {
    let mut pause = PAUSE.0;
    loop {
        if let Ok(mut listener) = subscribe(&options, &channel).await {
            pause = PAUSE.0;
            watchers.wake_all();
            hear(&mut listener, &watchers).await;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn subscribe(options: &PgConnectOptions, channel: &str) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}

/// Until the connection is lost.
async fn hear(listener: &mut PgListener, watchers: &Watchers) {
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(told))) => {
                if let Some(id) = RecordId::from_hex(told.payload()) {
                    watchers.wake(&[id]);
                }
            }
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                // A peer that vanished without a word is noticed by nothing else.
                let asked = tokio::time::timeout(PATIENCE, listener.execute("SELECT 1")).await;
                if !matches!(asked, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
