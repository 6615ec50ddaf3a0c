//! What whoever runs a file should know.

use std::path::Path;

use rusqlite::Connection;
use semel_core::store::Finding;

use crate::Synchronous;
use crate::file::File;
use crate::network;

/// Below this many bytes the next checkpoint or a few large answers may find the disk full.
const LITTLE_ROOM: u64 = 256 << 20;
/// A log that is larger than this was not taken into the database for a while.
const LONG_LOG: u64 = 256 << 20;

/// What SQLite says of an open file.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    version: i64,
    journal: String,
    pages: u64,
    free_pages: u64,
    page_size: u64,
}

impl Seen {
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let number =
            |name: &str| connection.query_row(&format!("PRAGMA {name}"), (), |row| row.get::<_, i64>(0));
        let count = |name: &str| number(name).map(|n| u64::try_from(n).unwrap_or(0));
        Ok(Self {
            version: number("user_version")?,
            journal: connection.query_row("PRAGMA journal_mode", (), |row| row.get(0))?,
            pages: count("page_count")?,
            free_pages: count("freelist_count")?,
            page_size: count("page_size")?,
        })
    }
}

/// Looks at the file from outside as well.
pub(crate) fn findings(seen: &Seen, file: &File) -> Vec<Finding> {
    let path = file.path();
    let used = seen.pages.saturating_sub(seen.free_pages).saturating_mul(seen.page_size);
    let size = seen.pages.saturating_mul(seen.page_size);
    let mut findings = vec![
        Finding::fine("server", format!("SQLite {} on {}", rusqlite::version(), path.display())),
        Finding::fine("schema", format!("version {} of {}", seen.version, File::newest())),
        journal(seen),
        durability(file.synchronous),
        Finding::fine("room", format!("{used} of the file's {size} bytes are in use")),
    ];
    let folder = path.parent().unwrap_or(path);
    findings.extend(disk(folder));
    findings.push(match network::name_of(folder) {
        None => Finding::fine("file system", "local, as far as the system tells"),
        Some(name) => Finding::warning(
            "file system",
            format!("it is on {name}, where a lost lock may run a request a second time"),
            "move the file to a local disk, or use a store on a server",
        ),
    });
    findings.extend(log(path));
    findings.extend(mode(path));
    findings
}

fn journal(seen: &Seen) -> Finding {
    let text = format!("journal_mode is {}", seen.journal);
    if seen.journal == "wal" {
        return Finding::fine("durability", text);
    }
    Finding::warning("durability", text, "find out which program changed it, and start again")
}

fn durability(synchronous: Synchronous) -> Finding {
    let text = format!("synchronous is {}", synchronous.word());
    if synchronous == Synchronous::Full {
        return Finding::fine("durability", text);
    }
    Finding::warning(
        "durability",
        format!("{text}: a loss of power takes back the last commits, and their keys run a second time"),
        "open the file with Synchronous::Full",
    )
}

fn disk(folder: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let text = format!("{} MiB are free on its disk", free >> 20);
    Some(if free >= LITTLE_ROOM {
        Finding::fine("room", text)
    } else {
        Finding::warning(
            "room",
            format!("{text}: without room nothing is claimed and nothing replayed"),
            "free some, or move the file to a larger disk while no process has it open",
        )
    })
}

fn log(path: &Path) -> Option<Finding> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let bytes = std::fs::metadata(name).ok()?.len();
    (bytes > LONG_LOG).then(|| {
        Finding::warning(
            "room",
            format!("its log has {} MiB: something reads for so long that it cannot be emptied", bytes >> 20),
            "end long readers of the file, such as an open sqlite3 shell or a backup that hangs",
        )
    })
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            "rights",
            format!("its mode is {mode:03o}: others can read answers, and the secret of its identities"),
            "chmod 600 the file, its -wal and its -shm",
        )
    })
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<Finding> {
    None
}
