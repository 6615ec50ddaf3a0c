//! Wake-ups by pub/sub, on one connection for all who wait. They are hints: a connection that was lost wakes everybody,
//! who then look for themselves.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use semel_core::record::RecordId;
use semel_core::store::{StoreError, Watch};
use tokio::sync::{mpsc, oneshot};

use crate::dial::Dial;
use crate::error::{failed, no_answer_within};
use crate::keys::Keys;
use crate::link::Bookkeeping;

/// How long a waiter waits for its subscription: without one it still looks by itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// A network that was cut says nothing, so the connection is asked now and then.
const PING_EVERY: Duration = Duration::from_secs(5);
const QUEUE: usize = 1024;
const BATCH: usize = 128;

/// Who waits for which record, and the way to the connection that hears of them.
pub(crate) struct Watchers {
    here: Arc<semel_store_kit::Watchers>,
    wishes: mpsc::Sender<Wish>,
}

enum Wish {
    Subscribe(RecordId, oneshot::Sender<()>),
    /// Nobody waits for this one any more.
    Drop(RecordId),
}

impl Watchers {
    /// Connects when the first waiter comes.
    pub(crate) fn start(on: &Bookkeeping, dial: Dial, keys: Keys) -> Arc<Self> {
        let (wishes, asked) = mpsc::channel(QUEUE);
        let watchers = Arc::new(Self { here: Arc::default(), wishes });
        on.spawn(listen(Arc::downgrade(&watchers), asked, dial, keys));
        watchers
    }

    pub(crate) async fn watch(self: &Arc<Self>, id: RecordId) -> Watch {
        let mut leaving = Leaving { watch: Some(self.here.watch(id)), watchers: Arc::clone(self), id };
        let (told, subscribed) = oneshot::channel();
        let subscribing = async {
            if self.wishes.send(Wish::Subscribe(id, told)).await.is_ok() {
                let _connected = subscribed.await;
            }
        };
        let _in_time = tokio::time::timeout(PATIENCE, subscribing).await;
        Watch::new(async move {
            if let Some(watch) = &mut leaving.watch {
                watch.await;
            }
        })
    }
}

/// Ends its subscription when nobody else waits for the record.
struct Leaving {
    watch: Option<Watch>,
    watchers: Arc<Watchers>,
    id: RecordId,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.watch = None;
        if !self.watchers.here.is_waited_for(&self.id) {
            // Where the queue is full the subscription ends at its next message instead.
            let _queued = self.watchers.wishes.try_send(Wish::Drop(self.id));
        }
    }
}

async fn listen(watchers: Weak<Watchers>, mut asked: mpsc::Receiver<Wish>, dial: Dial, keys: Keys) {
    let mut wishes = Vec::with_capacity(BATCH);
    while asked.recv_many(&mut wishes, BATCH).await > 0 {
        let mut pause = Duration::from_millis(20);
        // Until nobody waits, or the store is closed.
        loop {
            let Some(here) = watchers.upgrade() else { return };
            let wanted = here.here.all();
            if wanted.is_empty() {
                break;
            }
            let connected = Subscriber::connect(&dial, &keys, wanted).await;
            if connected.is_ok() {
                // They may have missed a change while there was no connection.
                here.here.wake_all();
            }
            drop(here);
            wishes.clear();
            match connected {
                Ok(mut subscriber) => {
                    pause = Duration::from_millis(20);
                    if subscriber.serve(&watchers, &mut asked).await == Ended::Closed {
                        return;
                    }
                    if let Some(here) = watchers.upgrade() {
                        here.here.wake_all();
                    }
                }
                Err(error) => {
                    tracing::debug!(server = %dial.server, %error, "no connection for wake-ups");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    // Whoever asked meanwhile must not wait for an answer that does not come.
                    while asked.try_recv().is_ok() {}
                }
            }
        }
        wishes.clear();
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Lost,
    Closed,
}

/// The connection, and what it is subscribed to.
struct Subscriber<'a> {
    sink: PubSubSink,
    messages: PubSubStream,
    keys: &'a Keys,
    subscribed: HashSet<RecordId>,
    patience: Duration,
}

impl<'a> Subscriber<'a> {
    async fn connect(dial: &Dial, keys: &'a Keys, wanted: HashSet<RecordId>) -> Result<Self, StoreError> {
        let connecting = async {
            let (mut sink, messages) = dial.pubsub().await?.split();
            let channels: Vec<_> = wanted.iter().map(|id| keys.record(id)).collect();
            sink.subscribe(&channels).await.map_err(|error| failed(&dial.server, error))?;
            Ok::<_, StoreError>((sink, messages))
        };
        let (sink, messages) = match tokio::time::timeout(dial.timeout, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(no_answer_within(&dial.server, dial.timeout)),
        };
        Ok(Self { sink, messages, keys, subscribed: wanted, patience: dial.timeout })
    }

    async fn serve(&mut self, watchers: &Weak<Watchers>, asked: &mut mpsc::Receiver<Wish>) -> Ended {
        let mut wishes = Vec::with_capacity(BATCH);
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let went_well = tokio::select! {
                message = self.messages.next() => match message {
                    None => return Ended::Lost,
                    Some(message) => {
                        let Some(watchers) = watchers.upgrade() else { return Ended::Closed };
                        match self.keys.id(message.get_channel_name()) {
                            Some(id) if watchers.here.is_waited_for(&id) => {
                                watchers.here.wake(&[id]);
                                true
                            }
                            Some(id) => self.grant(&watchers, std::iter::once(Wish::Drop(id))).await,
                            None => true,
                        }
                    }
                },
                count = asked.recv_many(&mut wishes, BATCH) => {
                    let Some(watchers) = watchers.upgrade().filter(|_| count > 0) else { return Ended::Closed };
                    self.grant(&watchers, wishes.drain(..)).await
                }
                _ = ping.tick() => {
                    let answered = tokio::time::timeout(self.patience, self.sink.ping::<redis::Value>()).await;
                    matches!(answered, Ok(Ok(_)))
                }
            };
            if !went_well {
                return Ended::Lost;
            }
        }
    }

    async fn grant(&mut self, watchers: &Watchers, wishes: impl Iterator<Item = Wish>) -> bool {
        let (mut join, mut leave, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for wish in wishes {
            match wish {
                Wish::Subscribe(id, tell) => {
                    told.push(tell);
                    if self.subscribed.insert(id) {
                        join.push(self.keys.record(&id));
                    }
                }
                Wish::Drop(id) if !watchers.here.is_waited_for(&id) && self.subscribed.remove(&id) => {
                    leave.push(id);
                }
                Wish::Drop(_) => {}
            }
        }
        // One that left and came back within the batch stays.
        let leave: Vec<_> =
            leave.iter().filter(|id| !self.subscribed.contains(id)).map(|id| self.keys.record(id)).collect();
        let talk = async {
            if !join.is_empty() {
                self.sink.subscribe(&join).await?;
            }
            if !leave.is_empty() {
                self.sink.unsubscribe(&leave).await?;
            }
            Ok::<_, redis::RedisError>(())
        };
        let went_well = matches!(tokio::time::timeout(self.patience, talk).await, Ok(Ok(())));
        for tell in told {
            let _gone = tell.send(());
        }
        went_well
    }
}
