//! Several processes on one file, and kills at random moments.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use semel_core::record::{Retention, State};
use semel_core::store::{Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_store_sqlite::SqliteStore;
use tempfile::tempdir;

use crate::support::{answer, ask, body, child, claimed, id, part, tell, told};

const KEYS: u32 = 150;
const CLAIMANTS: u32 = 16;
const PROCESSES: usize = 4;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

// The main promise over processes: each attempt of each key has one owner, whatever is killed when.
#[test]
fn four_processes_with_sixteen_claimants_each_and_one_is_killed() {
    const TEST: &str = "crash::four_processes_with_sixteen_claimants_each_and_one_is_killed";
    if let Some(path) = part(TEST) {
        runtime().block_on(claim_everything(&path));
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let mut children: Vec<Child> = (0..PROCESSES).map(|_| child(TEST, &path).spawn().unwrap()).collect();

    let stories: Vec<Vec<String>> = std::thread::scope(|scope| {
        let readers: Vec<_> = children
            .iter_mut()
            .enumerate()
            .map(|(at, child)| {
                scope.spawn(move || {
                    let kill_after = if at == 0 { fastrand::usize(20..60) } else { usize::MAX };
                    let mut lines = Vec::new();
                    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                        let line = line.unwrap();
                        if told(&line).is_some() {
                            lines.push(line);
                        }
                        if lines.len() == kill_after {
                            child.kill().unwrap();
                        }
                    }
                    let status = child.wait().unwrap();
                    assert!(at == 0 || status.success(), "child {at}: {status}");
                    lines
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    runtime().block_on(judge(&path, &stories));
}

/// One claimant after another over all keys, until each is completed or held by somebody else for good.
async fn claim_everything(path: &Path) {
    // SQLite's waiting is not fair: on a busy machine one of four may wait for long.
    let wait = std::time::Duration::from_mins(1);
    let store = Arc::new(SqliteStore::builder(path).busy_timeout(wait).open().unwrap());
    let claimants: Vec<_> = (0..CLAIMANTS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut keys: Vec<u32> = (0..KEYS).collect();
                fastrand::shuffle(&mut keys);
                for key in keys {
                    claim_one(&store, key).await;
                }
            })
        })
        .collect();
    for claimant in claimants {
        claimant.await.unwrap();
    }
}

async fn claim_one(store: &SqliteStore, key: u32) {
    let ask = ask(key);
    match store.begin(&ask).await.unwrap() {
        Begun::Acquired(acquired) => {
            let lease = acquired.lease;
            tell(format_args!("acquired {key} {} {}", acquired.attempt, lease.fence()));
            if fastrand::u8(..4) == 0 {
                let by = ReleaseBy::Lease(lease.as_ref());
                let settled = store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap();
                assert_eq!(settled, Settled::Applied);
                tell(format_args!("released {key} {}", lease.fence()));
            } else {
                let text = format!("by {}", lease.fence());
                let settled =
                    store.complete(lease.as_ref(), &answer(text), &Retention::default()).await.unwrap();
                assert_eq!(settled, Settled::Applied);
                tell(format_args!("completed {key} {}", lease.fence()));
            }
        }
        Begun::Settled(record) => {
            let text = body(&record.completion);
            assert_eq!(text, format!("by {}", record.view.fence));
            tell(format_args!("replayed {key} {}", record.view.fence));
        }
        Begun::Held { .. } => {}
        other => panic!("{key}: {other:?}"),
    }
}

async fn judge(path: &Path, stories: &[Vec<String>]) {
    let store = SqliteStore::open(path).unwrap();
    let (mut attempts, mut fences, mut finals) = (HashSet::new(), HashSet::new(), HashMap::new());
    let mut survivors_owe = HashSet::new();
    for (at, story) in stories.iter().enumerate() {
        for line in story {
            let words = told(line).unwrap();
            let key: u32 = words[1].parse().unwrap();
            let fence: u64 = words.last().unwrap().parse().unwrap();
            match words[0] {
                "acquired" => {
                    assert!(attempts.insert((key, words[2].to_owned())), "{key}: attempt {} twice", words[2]);
                    assert!(fences.insert(fence), "fence {fence} twice");
                    if at != 0 {
                        survivors_owe.insert(fence);
                    }
                }
                "released" => {
                    survivors_owe.remove(&fence);
                }
                "completed" | "replayed" => {
                    survivors_owe.remove(&fence);
                    let first = *finals.entry(key).or_insert(fence);
                    assert_eq!(first, fence, "{key}: two answers");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(survivors_owe.is_empty(), "not settled: {survivors_owe:?}");
    assert!(stories[1..].iter().all(|story| !story.is_empty()));
    for (key, fence) in finals {
        let record = store.read(&id(key)).await.unwrap().unwrap_or_else(|| panic!("{key} is gone"));
        assert_eq!(record.view.fence.get(), fence, "{key}: not the answer that was shown");
        assert_eq!(body(&record.completion), format!("by {fence}"));
    }
    for key in 0..KEYS {
        let view = store.inspect(&id(key)).await.unwrap().unwrap();
        assert!(
            view.state != State::InFlight || !fences.contains(&view.fence.get()) || {
                // Only the one that was killed may leave a claim behind.
                stories[0].iter().any(|line| line.ends_with(&format!(" {}", view.fence)))
            }
        );
    }
}

// Group commit that answers before its commit loses exactly what was acknowledged last.
#[test]
fn whatever_was_acknowledged_before_a_kill_is_there_after_it() {
    const TEST: &str = "crash::whatever_was_acknowledged_before_a_kill_is_there_after_it";
    if let Some(path) = part(TEST) {
        runtime().block_on(complete_for_ever(&path));
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let mut last_fence = 0;
    for _ in 0..6 {
        let mut child = child(TEST, &path).spawn().unwrap();
        let kill_after = fastrand::usize(1..400);
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(words) = told(&line) else { continue };
            acknowledged.push((words[1].parse::<u32>().unwrap(), words[2].parse::<u64>().unwrap()));
            if acknowledged.len() == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= kill_after);

        runtime().block_on(async {
            let store = SqliteStore::open(&path).unwrap();
            for (key, fence) in acknowledged {
                let record = store.read(&id(key)).await.unwrap().unwrap_or_else(|| panic!("{key} is gone"));
                assert_eq!(body(&record.completion), format!("by {fence}"));
                last_fence = last_fence.max(fence);
            }
            let lease = claimed(&store, fastrand::u32(..) | 1 << 31).await;
            assert!(lease.fence().get() > last_fence, "fences went back");
            last_fence = lease.fence().get();
        });
    }
}

async fn complete_for_ever(path: &Path) {
    let store = Arc::new(SqliteStore::open(path).unwrap());
    let mut claimants = tokio::task::JoinSet::new();
    for _ in 0..CLAIMANTS {
        let store = Arc::clone(&store);
        claimants.spawn(async move {
            loop {
                let key = fastrand::u32(..1 << 31);
                let Begun::Acquired(acquired) = store.begin(&ask(key)).await.unwrap() else { continue };
                let fence = acquired.lease.fence();
                let text = answer(format!("by {fence}"));
                let settled = store.complete(acquired.lease.as_ref(), &text, &Retention::default()).await;
                assert_eq!(settled.unwrap(), Settled::Applied);
                tell(format_args!("completed {key} {fence}"));
            }
        });
    }
    // A parent that is gone closed the pipe, and the first line that fails ends this.
    claimants.join_next().await.unwrap().unwrap();
}
