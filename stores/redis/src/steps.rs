//! The steps, as calls and what their answers mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};
use semel_core::record::{
    ClaimId, Completion, Fence, NotKept, Record, RecordId, RecordView, Retention, Timestamp, codec,
};
use semel_core::store::{
    Acquired, Begin, Begun, Delete, Deleted, Differs, Lease, LeaseRef, ReleaseAs, ReleaseBy, Resolution,
    Resolved, Settled, StoreError, StoreErrorKind, Verdict,
};

use crate::answer::Answer;
use crate::clock::Clock;
use crate::dial::Server;
use crate::error::{error, failed, undecodable_blob, unexpected};
use crate::keys::Keys;
use crate::row::{self, Row};
use crate::scripts::{Call, HANDED_OUT, Step};
use crate::servers::Servers;

/// At most so many renewals in one write.
const BATCH: usize = 256;
/// A fence is remembered for a record's life, and for no less than a day.
const REMEMBERED: Duration = Duration::from_hours(24);
/// What a time-to-live is longer than a life. Redis counts it from a moment of its own, which may be the beginning of
/// the step, while the record's life is counted from the moment that the step has read.
const LATE: Duration = Duration::from_mins(1);
/// How often an answer is looked for that is not where its record says: it was replaced between two reads.
const LOOKS: usize = 3;

/// What the steps need.
pub(crate) struct Steps {
    pub(crate) servers: Servers,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) max_body: u64,
    pub(crate) replicas: Option<Replicas>,
}

/// Replicas that have to acknowledge a claim or a settlement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) count: usize,
    pub(crate) within: Duration,
}

/// The word of a step that did what it was asked to as it is as a rule: it answers a number and no list.
const DONE: &[u8] = b"";

/// A step's answer: a word, and what follows it.
struct Reply {
    word: Vec<u8>,
    rest: std::vec::IntoIter<Value>,
}

impl Steps {
    pub(crate) async fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        if ask.quota.is_some() && self.servers.is_cluster() {
            let message = "a cluster keeps no quotas: what a principal keeps is spread over its nodes, and no step reads two";
            return Err(error(StoreErrorKind::Config, format!("{}: {message}", self.servers.name())));
        }
        for _ in 0..LOOKS {
            let (head, rest) = row::claimed(ask);
            let keys = vec![self.keys.record(&ask.id), self.keys.aside(&ask.id)];
            let mut call =
                Call::new(Step::Begin, keys).arg(head).arg(rest).arg(self.offset()).arg(self.waits());
            if ask.quota.is_some() || ask.minted.is_some() || ask.request.is_some() {
                call = call
                    .arg(if ask.quota.is_some() { "q" } else { "" })
                    .arg(ask.request.as_ref().map(codec::encode_request).unwrap_or_default())
                    .maybe(ask.minted.map(Timestamp::as_millis))
                    .maybe(ask.quota.and_then(|quota| quota.records))
                    .maybe(ask.quota.and_then(|quota| quota.bytes));
            }
            let mut reply = self.durably(None, call).await?;
            let begun = match &reply.word[..] {
                DONE => {
                    let fence = self.fence(&mut reply)?;
                    let lease = Lease::new(ask.id, ask.claim, fence);
                    Begun::Acquired(Acquired { lease, attempt: 1, progress: None })
                }
                b"taken" => {
                    let (row, _) = self.row(&ask.id, &mut reply)?;
                    row.record.acquired()
                }
                b"differs" => {
                    let (row, _) = self.row(&ask.id, &mut reply)?;
                    let same_principal = self.number(&mut reply)? == 1;
                    Begun::Differs(Differs {
                        fingerprint: row.record.fingerprint,
                        settings: row.record.settings,
                        same_principal,
                    })
                }
                b"held" => {
                    let remaining = u64::try_from(self.number(&mut reply)?).unwrap_or(0);
                    Begun::Held { remaining: Duration::from_millis(remaining) }
                }
                b"settled" => match self.answered(&ask.id, &mut reply).await? {
                    Some(record) => Begun::Settled(record),
                    None => continue,
                },
                b"unknown" => {
                    let (row, now) = self.row(&ask.id, &mut reply)?;
                    Begun::Unknown(row.record.view(now))
                }
                b"stale" => Begun::Stale,
                b"expired" => Begun::Expired,
                b"quota" => Begun::OverQuota,
                _ => return Err(self.unexpected()),
            };
            return Ok(begun);
        }
        Err(no_answer())
    }

    pub(crate) async fn renew(
        &self,
        leases: &[LeaseRef],
        lease_for: Duration,
    ) -> Result<Vec<Settled>, StoreError> {
        let mut settled = Vec::with_capacity(leases.len());
        for batch in leases.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|lease| {
                    let call = Call::new(Step::Renew, vec![self.keys.record(&lease.id)]);
                    call.arg(self.offset()).number(lease.fence).number(row::millis(lease_for))
                })
                .collect();
            let replies = self.all(&calls).await?;
            for (lease, reply) in batch.iter().zip(replies) {
                settled.push(self.settled(&lease.id, reply?)?);
            }
        }
        Ok(settled)
    }

    pub(crate) async fn complete(
        &self,
        lease: LeaseRef,
        completion: &Completion,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let mut answer = self.encode(completion)?;
        for _ in 0..LOOKS {
            let call = Call::new(Step::Complete, self.keys_with(&lease.id, &answer))
                .arg(row::in_flight(lease.fence, keep))
                .arg(answer.end(keep))
                .number(row::millis(keep.record.max(REMEMBERED)) + row::millis(LATE))
                .arg(self.offset())
                .arg(self.waits());
            match self.durably(answer.stage(&self.keys, &lease.id), call).await {
                Ok(reply) if reply.word == b"unstaged" => {}
                Ok(reply) => return self.settled(&lease.id, reply),
                // A completion is never refused for want of room: its record is there already.
                Err(error) if error.kind() == StoreErrorKind::Full && !answer.is_bare => {
                    answer = Answer::bare(completion);
                }
                Err(error) => return Err(error),
            }
        }
        Err(no_answer())
    }

    pub(crate) async fn release(
        &self,
        by: ReleaseBy,
        how: ReleaseAs,
        keep: &Retention,
    ) -> Result<Settled, StoreError> {
        let (id, fence, claim) = match by {
            ReleaseBy::Lease(lease) => (lease.id, Some(lease.fence), None),
            ReleaseBy::Claim(id, claim) => (id, None, Some(claim)),
        };
        let call = self
            .call(Step::Release, &id)
            .maybe(fence)
            .arg(claim.map(|claim: ClaimId| claim.to_bytes().to_vec()).unwrap_or_default())
            .arg(if how == ReleaseAs::Forgotten { "forgotten" } else { "" })
            .number(row::millis(keep.released));
        let reply = self.durably(None, call).await?;
        self.settled(&id, reply)
    }

    pub(crate) async fn abandon(&self, lease: LeaseRef) -> Result<Settled, StoreError> {
        let call = self.call(Step::Abandon, &lease.id).number(lease.fence);
        let reply = self.durably(None, call).await?;
        self.settled(&lease.id, reply)
    }

    pub(crate) async fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        let call = self.call(Step::Note, &lease.id).number(lease.fence).arg(&progress[..]);
        let reply = self.durably(None, call).await?;
        self.settled(&lease.id, reply)
    }

    pub(crate) async fn inspect(&self, id: &RecordId) -> Result<Option<RecordView>, StoreError> {
        let mut reply = self.once(self.call(Step::Look, id).arg("")).await?;
        match &reply.word[..] {
            b"absent" => Ok(None),
            b"found" => {
                let (row, now) = self.row(id, &mut reply)?;
                Ok(Some(row.record.view(now)))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// The views of many, in their order, without those that are gone.
    pub(crate) async fn inspect_all(&self, ids: &[RecordId]) -> Result<Vec<RecordView>, StoreError> {
        let calls: Vec<_> = ids.iter().map(|id| self.call(Step::Look, id).arg("")).collect();
        let mut views = Vec::with_capacity(ids.len());
        for (id, reply) in ids.iter().zip(self.all(&calls).await?) {
            let mut reply = reply?;
            if reply.word == b"found" {
                let (row, now) = self.row(id, &mut reply)?;
                views.push(row.record.view(now));
            }
        }
        Ok(views)
    }

    pub(crate) async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        for _ in 0..LOOKS {
            let mut reply = self.once(self.call(Step::Look, id).number(HANDED_OUT)).await?;
            match &reply.word[..] {
                b"absent" => return Ok(None),
                b"found" => {}
                _ => return Err(self.unexpected()),
            }
            if let Some(record) = self.answered(id, &mut reply).await? {
                return Ok(
                    Some(record).filter(|record| record.view.state == semel_core::record::State::Completed)
                );
            }
        }
        Err(no_answer())
    }

    pub(crate) async fn resolve(
        &self,
        id: &RecordId,
        resolution: &Resolution,
    ) -> Result<Resolved, StoreError> {
        let mut answer = match &resolution.verdict {
            Verdict::Applied(completion) => Some(self.encode(completion)?),
            Verdict::NotApplied => None,
        };
        for _ in 0..LOOKS {
            let call = match &answer {
                Some(answer) => Call::new(Step::Resolve, self.keys_with(id, answer)).arg(self.offset()),
                None => self.call(Step::Resolve, id),
            };
            let call = call
                .arg(resolution.op.to_bytes())
                .maybe(resolution.expect)
                .number(row::millis(resolution.retention.released))
                .arg(answer.as_ref().map(|answer| answer.end(&resolution.retention)).unwrap_or_default());
            let stage = answer.as_ref().and_then(|answer| answer.stage(&self.keys, id));
            let mut reply = match (self.durably(stage, call).await, &resolution.verdict) {
                (Ok(reply), _) => reply,
                (Err(error), Verdict::Applied(completion))
                    if error.kind() == StoreErrorKind::Full
                        && answer.as_ref().is_some_and(|answer| !answer.is_bare) =>
                {
                    answer = Some(Answer::bare(completion));
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            let word = std::mem::take(&mut reply.word);
            let mut view = || self.row(id, &mut reply).map(|(row, now)| Box::new(row.record.view(now)));
            return match &word[..] {
                b"unstaged" => continue,
                b"absent" => Ok(Resolved::Absent),
                b"applied" => Ok(Resolved::Applied(view()?)),
                b"refused" => Ok(Resolved::Refused(view()?)),
                _ => Err(self.unexpected()),
            };
        }
        Err(no_answer())
    }

    pub(crate) async fn delete(&self, id: &RecordId, which: Delete) -> Result<Deleted, StoreError> {
        let which = match which {
            Delete::Settled => "settled",
            Delete::Any => "any",
        };
        let mut reply = self.durably(None, self.call(Step::Delete, id).arg(which)).await?;
        match &reply.word[..] {
            b"absent" => Ok(Deleted::Absent),
            b"gone" => Ok(Deleted::Gone),
            b"refused" => {
                let (row, now) = self.row(id, &mut reply)?;
                Ok(Deleted::Refused(Box::new(row.record.view(now))))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Writes on each primary, so that one that takes no writes is seen here and not by the first claim.
    pub(crate) async fn health(&self) -> Result<(), StoreError> {
        let probes = self.servers.probes(&self.keys).into_iter();
        let calls: Vec<_> = probes.map(|keys| Call::new(Step::Probe, keys.into())).collect();
        for reply in self.all(&calls).await? {
            if reply?.word != b"ok" {
                return Err(self.unexpected());
            }
        }
        Ok(())
    }

    /// Sweeps one record. The word says what was done.
    pub(crate) async fn sweep(&self, id: &RecordId) -> Result<Vec<u8>, StoreError> {
        let mut reply = self.once(self.call(Step::Sweep, id)).await?;
        if reply.word != b"body" {
            return Ok(reply.word);
        }
        let (row, _) = self.row(id, &mut reply)?;
        let Some(answer) = row.answer else { return Err(self.unexpected()) };
        let mut call = self.call(Step::Sweep, id).arg(answer.seal);
        let blob = match answer.inline {
            Some(blob) => Some(blob),
            None => self.fetch(id).await?,
        };
        if let Some(completion) = blob.and_then(|blob| codec::decode(&blob).ok()) {
            call = call.arg(codec::encode(&codec::without_body(&completion, NotKept::Expired)));
        }
        Ok(self.once(call).await?.word)
    }

    fn call(&self, step: Step, id: &RecordId) -> Call {
        Call::new(step, self.keys_of(id)).arg(self.offset())
    }

    /// What is beside the record is named to a cluster alone: a single server has all keys, and each costs it time.
    fn keys_of(&self, id: &RecordId) -> Vec<String> {
        let mut keys = vec![self.keys.record(id)];
        if self.servers.is_cluster() {
            keys.push(self.keys.aside(id));
        }
        keys
    }

    fn keys_with(&self, id: &RecordId, answer: &Answer) -> Vec<String> {
        if answer.is_inline() {
            return self.keys_of(id);
        }
        vec![self.keys.record(id), self.keys.aside(id), self.keys.staged(id, answer.nonce)]
    }

    /// What a test adds to the server's clock, as a rule nothing.
    fn offset(&self) -> String {
        match self.clock.offset() {
            0 => String::new(),
            offset => offset.to_string(),
        }
    }

    fn waits(&self) -> &'static str {
        if self.replicas.is_some() { "1" } else { "" }
    }

    async fn once(&self, call: Call) -> Result<Reply, StoreError> {
        let mut replies = self.all(std::slice::from_ref(&call)).await?;
        replies.pop().unwrap_or_else(|| Err(self.unexpected()))
    }

    /// Calls that need no order, in one write. Those the server has forgotten are told it again.
    async fn all(&self, calls: &[Call]) -> Result<Vec<Result<Reply, StoreError>>, StoreError> {
        let commands = calls.iter().map(|call| (call.key(), call.by_hash())).collect();
        let mut values = self.servers.send_each(commands).await?;
        let forgotten: Vec<_> = (0..values.len()).filter(|at| is_forgotten(&values[*at])).collect();
        if !forgotten.is_empty() {
            let again = forgotten.iter().map(|at| (calls[*at].key(), calls[*at].by_source())).collect();
            for (at, value) in forgotten.into_iter().zip(self.servers.send_each(again).await?) {
                values[at] = value;
            }
        }
        Ok(values.into_iter().map(|value| reply(self.servers.name(), value)).collect())
    }

    /// A call with what has to be written before it, and with the replicas' acknowledgement where that is asked for.
    /// All goes out in one write, and a server takes the commands of a connection in their order.
    async fn durably(&self, before: Option<Cmd>, call: Call) -> Result<Reply, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(3);
        let staged = before.is_some();
        if let Some(before) = before {
            commands.add_command(before);
        }
        commands.add_command(call.by_hash());
        let mut values = self.send(call.key(), commands).await?;
        let mut answer = values.next();
        if staged {
            if let Some(Value::ServerError(error)) = answer {
                return Err(failed(self.servers.name(), error.into()));
            }
            answer = values.next();
        }
        let mut acknowledged = values.next();
        if answer.as_ref().is_some_and(is_forgotten) {
            let mut again = redis::Pipeline::with_capacity(2);
            again.add_command(call.by_source());
            let mut values = self.send(call.key(), again).await?;
            (answer, acknowledged) = (values.next(), values.next());
        }
        let reply = reply(self.servers.name(), answer.ok_or_else(|| self.unexpected())?)?;
        self.acknowledged(acknowledged)?;
        Ok(reply)
    }

    async fn send(
        &self,
        key: &str,
        mut commands: redis::Pipeline,
    ) -> Result<std::vec::IntoIter<Value>, StoreError> {
        if let Some(Replicas { count, within }) = self.replicas {
            // 0 would wait for ever.
            commands.cmd("WAIT").arg(count).arg(row::millis(within).max(1));
        }
        Ok(self.servers.send(key, &commands).await?.into_iter())
    }

    fn acknowledged(&self, value: Option<Value>) -> Result<(), StoreError> {
        let Some(Replicas { count, .. }) = self.replicas else { return Ok(()) };
        match value {
            Some(Value::Int(replicas))
                if usize::try_from(replicas).is_ok_and(|replicas| replicas >= count) =>
            {
                Ok(())
            }
            Some(Value::Int(replicas)) => Err(error(
                StoreErrorKind::Unavailable,
                format!("{}: {replicas} of {count} replicas acknowledged in time", self.servers.name()),
            )),
            Some(Value::ServerError(error)) => Err(failed(self.servers.name(), error.into())),
            _ => Err(self.unexpected()),
        }
    }

    fn settled(&self, id: &RecordId, mut reply: Reply) -> Result<Settled, StoreError> {
        match &reply.word[..] {
            DONE => Ok(Settled::Applied),
            b"absent" => Ok(Settled::Absent),
            b"superseded" => {
                let (row, now) = self.row(id, &mut reply)?;
                Ok(row.record.superseded(now))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// The record of a reply with its answer. `None`: it was replaced meanwhile, ask again. A record that is not
    /// completed has an empty one.
    async fn answered(&self, id: &RecordId, reply: &mut Reply) -> Result<Option<Record>, StoreError> {
        let (row, now) = self.row(id, reply)?;
        let Some(answer) = row.answer else {
            return Ok(Some(Record { view: row.record.view(now), completion: Arc::default() }));
        };
        let blob = match (answer.inline, reply.rest.next()) {
            (Some(blob), _) => Some(blob),
            (None, Some(Value::BulkString(blob))) => Some(blob.into()),
            (None, _) => self.fetch(id).await?,
        };
        let Some(blob) = blob.filter(|blob| blob.starts_with(&answer.seal)) else { return Ok(None) };
        let mut completion = codec::decode(&blob).map_err(undecodable_blob)?;
        if row.record.body_over(now) {
            completion = codec::without_body(&completion, NotKept::Expired);
        }
        Ok(Some(Record { view: row.record.view(now), completion: Arc::new(completion) }))
    }

    async fn fetch(&self, id: &RecordId) -> Result<Option<Bytes>, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(1);
        let key = self.keys.aside(id);
        commands.cmd("GET").arg(&key);
        match self.servers.send(&key, &commands).await?.pop() {
            Some(Value::BulkString(blob)) => Ok(Some(blob.into())),
            Some(Value::Nil) => Ok(None),
            Some(Value::ServerError(error)) => Err(failed(self.servers.name(), error.into())),
            _ => Err(self.unexpected()),
        }
    }

    fn row(&self, id: &RecordId, reply: &mut Reply) -> Result<(Row, Timestamp), StoreError> {
        let now = Timestamp::from_millis(self.number(reply)?);
        let Some(Value::BulkString(raw)) = reply.rest.next() else { return Err(self.unexpected()) };
        match Row::read(*id, raw)? {
            Some(row) => Ok((row, now)),
            None => Err(self.unexpected()),
        }
    }

    fn number(&self, reply: &mut Reply) -> Result<i64, StoreError> {
        match reply.rest.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(self.unexpected()),
        }
    }

    fn fence(&self, reply: &mut Reply) -> Result<Fence, StoreError> {
        let fence = u64::try_from(self.number(reply)?).ok().and_then(Fence::new);
        fence.ok_or_else(|| self.unexpected())
    }

    fn unexpected(&self) -> StoreError {
        unexpected(self.servers.name())
    }

    fn encode(&self, completion: &Completion) -> Result<Answer, StoreError> {
        let answer = Answer::new(completion);
        if answer.body_bytes() > self.max_body {
            let message = format!(
                "a body of {} bytes is larger than the {} it takes",
                answer.body_bytes(),
                self.max_body
            );
            return Err(error(StoreErrorKind::TooLarge, message));
        }
        Ok(answer)
    }
}

fn is_forgotten(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

fn reply(server: &Server, value: Value) -> Result<Reply, StoreError> {
    let values = match value {
        Value::Array(values) => values,
        Value::Int(_) => return Ok(Reply { word: DONE.to_vec(), rest: vec![value].into_iter() }),
        Value::ServerError(error) => return Err(failed(server, error.into())),
        _ => return Err(unexpected(server)),
    };
    let mut rest = values.into_iter();
    match rest.next() {
        Some(Value::BulkString(word)) => Ok(Reply { word, rest }),
        _ => Err(unexpected(server)),
    }
}

fn no_answer() -> StoreError {
    error(
        StoreErrorKind::Undecodable,
        "a completed record has lost its answer: somebody removed the key, or the server evicts keys",
    )
}
