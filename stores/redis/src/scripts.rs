//! The atomic steps: Lua files, called by their hash.

use std::sync::LazyLock;

use redis::Cmd;

/// A body up to this size comes with the claim's answer; a larger one is fetched by a second round trip, outside Lua.
pub(crate) const HANDED_OUT: usize = 16 * 1024;

/// A step. Each runs whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    Complete,
    Release,
    Abandon,
    Renew,
    Note,
    Look,
    Resolve,
    Delete,
    Sweep,
    Probe,
}

pub(crate) struct Script {
    source: String,
    hash: String,
}

const FIRST: &str = include_str!("lua/first.lua");
const RECORD: &str = include_str!("lua/record.lua");
const QUOTA: &str = include_str!("lua/quota.lua");
const SETTLE: &str = include_str!("lua/settle.lua");

/// Settling takes little room and often gives some back, so it goes on where `maxmemory` is reached: a run that has
/// ended must not become unknown for want of bytes. A claim has no such right.
const EVEN_WHEN_FULL: &str = "#!lua flags=allow-oom\n";

static SCRIPTS: LazyLock<Vec<(Step, Script)>> = LazyLock::new(|| {
    [
        (Step::Begin, begin()),
        (Step::Complete, settling(include_str!("lua/complete_first.lua"), include_str!("lua/complete.lua"))),
        (Step::Release, settling(FIRST, include_str!("lua/release.lua"))),
        (Step::Abandon, [EVEN_WHEN_FULL, FIRST, RECORD, include_str!("lua/abandon.lua")].concat()),
        (Step::Renew, [EVEN_WHEN_FULL, FIRST, RECORD, include_str!("lua/renew.lua")].concat()),
        (Step::Note, [FIRST, RECORD, include_str!("lua/note.lua")].concat()),
        (Step::Look, [FIRST, RECORD, include_str!("lua/look.lua")].concat()),
        (Step::Resolve, settling(FIRST, include_str!("lua/resolve.lua"))),
        (Step::Delete, settling(FIRST, include_str!("lua/delete.lua"))),
        (Step::Sweep, settling(FIRST, include_str!("lua/sweep.lua"))),
        (Step::Probe, include_str!("lua/probe.lua").to_owned()),
    ]
    .map(|(step, source)| {
        let hash = redis::Script::new(&source).get_hash().to_owned();
        (step, Script { source, hash })
    })
    .into()
});

/// What most claims need comes first, and returns before anything else is set up.
fn begin() -> String {
    let most = format!("local HANDED_OUT = {HANDED_OUT}\n");
    [include_str!("lua/begin_first.lua"), &most, RECORD, QUOTA, include_str!("lua/begin.lua")].concat()
}

fn settling(first: &str, step: &str) -> String {
    [EVEN_WHEN_FULL, first, RECORD, QUOTA, SETTLE, step].concat()
}

/// Commands that load every script.
pub(crate) fn load() -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for (_, script) in SCRIPTS.iter() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.source);
    }
    pipeline
}

/// A call of a step on the keys of one record.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    step: Step,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Call {
    pub(crate) fn new(step: Step, keys: Vec<String>) -> Self {
        Self { step, keys, args: Vec::with_capacity(5) }
    }

    /// The record's: all keys of a call are in its slot.
    pub(crate) fn key(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }

    pub(crate) fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// In decimal digits, as Lua reads numbers.
    pub(crate) fn number(self, number: impl Copy + ToString) -> Self {
        self.arg(number.to_string())
    }

    /// Nothing is an empty argument.
    pub(crate) fn maybe<T: ToString>(self, number: Option<T>) -> Self {
        self.arg(number.map(|number| number.to_string()).unwrap_or_default())
    }

    /// Calls it by its hash, as a server that has seen it knows it.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.with("EVALSHA", |script| &script.hash)
    }

    /// Calls it by its text, which a server that restarted or took over has to be told.
    pub(crate) fn by_source(&self) -> Cmd {
        self.with("EVAL", |script| &script.source)
    }

    /// Empty arguments at the end are left out: a server's time goes into each.
    fn with(&self, command: &str, name: impl Fn(&Script) -> &str) -> Cmd {
        let script = SCRIPTS.iter().find(|(step, _)| *step == self.step);
        let name = script.map_or("", |(_, script)| name(script));
        let given = self.args.iter().rposition(|arg| !arg.is_empty()).map_or(0, |last| last + 1);
        let args = &self.args[..given];
        let bytes = self.keys.iter().map(String::len).chain(args.iter().map(Vec::len)).sum::<usize>();
        let mut cmd = Cmd::with_capacity(3 + self.keys.len() + given, command.len() + name.len() + 2 + bytes);
        cmd.arg(command).arg(name).arg(self.keys.len());
        for key in &self.keys {
            cmd.arg(key);
        }
        for arg in args {
            cmd.arg(&arg[..]);
        }
        cmd
    }
}
