//! Full disks, failing disks, and bodies that do not fit.

use semel_core::record::{Retention, State};
use semel_core::store::{Begun, Delete, Quota, Settled, Store as _, StoreErrorKind};
use semel_store_sqlite::SqliteStore;
use tempfile::tempdir;

use crate::support::{answer, ask, body, child, claimed, id, part};

const BODY: usize = 20_000;

// A completion that was answered as done while the disk was full was a payment nobody remembered.
#[tokio::test]
async fn without_room_nothing_is_done_and_with_room_it_goes_on() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::builder(folder.path().join("semel.db")).max_file(400_000).open().unwrap();
    let keep = Retention::default();
    let mut done = 0;
    let lease = loop {
        assert!(done < 100, "it never fills");
        let lease = claimed(&store, done).await;
        match store.complete(lease.as_ref(), &answer(vec![1; BODY]), &keep).await {
            Ok(settled) => assert_eq!(settled, Settled::Applied),
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
                break lease;
            }
        }
        done += 1;
    };
    let view = store.inspect(&id(done)).await.unwrap().unwrap();
    assert_eq!((view.state, view.fence), (State::InFlight, lease.fence()));

    let _ = store.delete(&id(0), Delete::Settled).await.unwrap();
    let _ = store.delete(&id(1), Delete::Settled).await.unwrap();
    let settled = store.complete(lease.as_ref(), &answer(vec![2; BODY]), &keep).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    let record = store.read(&id(done)).await.unwrap().unwrap();
    assert_eq!(body(&record.completion), vec![2; BODY]);
}

#[tokio::test]
async fn a_step_without_room_does_not_fail_its_batch() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::builder(folder.path().join("semel.db")).max_file(400_000).open().unwrap();
    let keep = Retention::default();
    let (large, small) = (claimed(&store, 0).await, claimed(&store, 1).await);
    let too_much = answer(vec![1; 1_000_000]);
    let little = answer("little");
    let seen = id(1);
    let (refused, settled, seen) = tokio::join!(
        store.complete(large.as_ref(), &too_much, &keep),
        store.complete(small.as_ref(), &little, &keep),
        store.inspect(&seen),
    );
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(settled.unwrap(), Settled::Applied);
    assert!(seen.unwrap().is_some());
    assert_eq!(store.inspect(&id(0)).await.unwrap().unwrap().state, State::InFlight);
}

#[tokio::test]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::builder(folder.path().join("semel.db")).max_body(1000).open().unwrap();
    let lease = claimed(&store, 1).await;
    let keep = Retention::default();
    let error = store.complete(lease.as_ref(), &answer(vec![1; 1001]), &keep).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    let settled = store.complete(lease.as_ref(), &answer(vec![1; 1000]), &keep).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    assert_eq!(store.capabilities().max_body, Some(1000));

    let beyond = SqliteStore::builder(folder.path().join("semel.db")).max_body(1 << 40).open();
    assert_eq!(beyond.unwrap_err().kind(), StoreErrorKind::Config);
}

// An index on every principal is one more random page a claim.
#[tokio::test]
async fn only_a_claim_with_a_quota_makes_the_index_for_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let store = SqliteStore::open(&path).unwrap();
    let indexes = || -> i64 {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'record_quota'";
        rusqlite::Connection::open(&path).unwrap().query_row(sql, (), |row| row.get(0)).unwrap()
    };
    let _ = claimed(&store, 1).await;
    assert_eq!(indexes(), 0);
    let mut limited = ask(2);
    limited.quota = Some(Quota { records: Some(1), bytes: None });
    assert_eq!(store.begin(&limited).await.unwrap(), Begun::OverQuota);
    assert_eq!(indexes(), 1);
    limited.quota = Some(Quota { records: Some(2), bytes: None });
    assert!(matches!(store.begin(&limited).await.unwrap(), Begun::Acquired(_)));
}

// The kernel refuses to write: the error is told, nothing is half there, and it goes on when the kernel does.
#[cfg(target_os = "linux")]
#[test]
fn a_failing_disk_is_an_error_and_nothing_else() {
    use std::process::Command;

    const TEST: &str = "room::a_failing_disk_is_an_error_and_nothing_else";
    if let Some(path) = part(TEST) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(on_a_failing_disk(&path));
        return;
    }
    let folder = tempdir().unwrap();
    let inner = child(TEST, &folder.path().join("semel.db"));
    // Beyond the limit the kernel sends SIGXFSZ first; ignored, which exec keeps, the write fails instead.
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = outer.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[cfg(target_os = "linux")]
async fn on_a_failing_disk(path: &std::path::Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let store = SqliteStore::open(path).unwrap();
    let keep = Retention::default();
    let (one, other) = (claimed(&store, 1).await, claimed(&store, 2).await);
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), maximum: unlimited.maximum }).unwrap();
    let large = answer(vec![1; 4 << 20]);
    let small = answer("small");
    let (failed, settled) = tokio::join!(
        store.complete(one.as_ref(), &large, &keep),
        store.complete(other.as_ref(), &small, &keep),
    );
    let kind = failed.unwrap_err().kind();
    assert_eq!(kind, StoreErrorKind::Unavailable);
    let view = store.inspect(&id(1)).await.unwrap().unwrap();
    assert_eq!((view.state, view.fence), (State::InFlight, one.fence()));
    // Whoever shared its transaction was answered by what is in the file.
    let state = store.inspect(&id(2)).await.unwrap().unwrap().state;
    assert_eq!(settled.is_ok_and(|settled| settled == Settled::Applied), state == State::Completed);

    setrlimit(Resource::Fsize, unlimited).unwrap();
    let settled = store.complete(one.as_ref(), &large, &keep).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    let settled = store.complete(other.as_ref(), &small, &keep).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    drop(store);
    let store = SqliteStore::open(path).unwrap();
    assert_eq!(body(&store.read(&id(1)).await.unwrap().unwrap().completion).len(), 4 << 20);
    let _ = store.begin(&ask(3)).await.unwrap();
}
