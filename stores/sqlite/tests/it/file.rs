//! What is opened, what is refused, and what a file remembers.

use std::path::Path;

use rusqlite::Connection;
use semel_core::identity::Secret;
use semel_core::record::{Retention, State};
use semel_core::store::{Begun, Delete, Deleted, Query, Settled, Store as _, StoreError, StoreErrorKind};
use semel_store_sqlite::SqliteStore;
use tempfile::tempdir;

use crate::support::{answer, ask, body, claimed, id};

/// Opening it fails in one line that names it, and leaves it as it was.
fn refused(path: &Path) -> StoreError {
    let before = std::fs::read(path).ok();
    let error = SqliteStore::open(path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(!text.contains('\n'), "{text}");
    assert_eq!(std::fs::read(path).ok(), before, "written to");
    error
}

#[test]
fn what_is_not_our_file_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "a shopping list ".repeat(20)).unwrap();
    assert_eq!(refused(&path).kind(), StoreErrorKind::Config);
    std::fs::write(&path, "short").unwrap();
    assert_eq!(refused(&path).kind(), StoreErrorKind::Config);

    let path = folder.path().join("a folder");
    std::fs::create_dir(&path).unwrap();
    assert_eq!(refused(&path).kind(), StoreErrorKind::Config);

    let path = folder.path().join("missing/semel.db");
    assert_eq!(refused(&path).kind(), StoreErrorKind::Config);

    #[cfg(target_os = "linux")]
    assert_eq!(refused(Path::new("/proc/semel.db")).kind(), StoreErrorKind::Config);
}

// `--store sqlite:app.db` by mistake must not put our tables into somebody's database.
#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    for mode in ["DELETE", "WAL"] {
        let path = folder.path().join(format!("app-{mode}.db"));
        let app = Connection::open(&path).unwrap();
        app.execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE orders (id)")).unwrap();
        drop(app);
        assert_eq!(refused(&path).kind(), StoreErrorKind::Config, "{mode}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn an_empty_file_and_a_strange_name_are_files() {
    let folder = tempdir().unwrap();
    for name in [":memory:", "file:x?mode=memory", "a b.db"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.path(), path);
        drop(store);
        assert!(std::fs::metadata(&path).unwrap().len() > 0, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let _store = SqliteStore::open(&path).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = folder.path().join(format!("semel.db{suffix}"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{suffix}: {mode:o}");
    }
}

// Two processes that each made a secret of their own would never find each other's records.
#[test]
fn all_who_open_a_new_file_at_once_get_one_secret() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let secrets: Vec<Secret> = std::thread::scope(|scope| {
        let opening: Vec<_> =
            (0..8).map(|_| scope.spawn(|| SqliteStore::open(&path).unwrap().secret().clone())).collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    assert!(SqliteStore::open(&path).unwrap().secret() == &secrets[0]);
}

#[test]
fn a_configured_secret_is_not_in_the_file_and_no_other_opens_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let secret = Secret::from_bytes(*b"thirty-two bytes of a real key!!");
    let open = |secret: &Secret| SqliteStore::builder(&path).secret(secret.clone()).open();
    assert!(open(&secret).unwrap().secret() == &secret);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(32).any(|window| window == secret.expose()));

    assert!(open(&secret).is_ok());
    assert_eq!(open(&Secret::from_bytes([1; 32])).unwrap_err().kind(), StoreErrorKind::Config);
    assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), StoreErrorKind::Config);
}

#[tokio::test]
async fn fences_grow_across_deletion_and_reopening() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let mut last = 0;
    for _ in 0..3 {
        let store = SqliteStore::open(&path).unwrap();
        let lease = claimed(&store, 1).await;
        assert!(lease.fence().get() > last);
        last = lease.fence().get();
        assert_eq!(store.delete(&id(1), Delete::Any).await.unwrap(), Deleted::Gone);
    }
}

// A record that cannot be read is not an absent one: its request ran.
#[tokio::test]
async fn a_damaged_answer_is_an_error_and_is_never_claimed() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let store = SqliteStore::open(&path).unwrap();
    let lease = claimed(&store, 1).await;
    let settled = store.complete(lease.as_ref(), &answer("paid: 10"), &Retention::default()).await.unwrap();
    assert_eq!(settled, Settled::Applied);
    let Begun::Settled(record) = store.begin(&ask(1)).await.unwrap() else { panic!("not settled") };
    assert_eq!(body(&record.completion), "paid: 10");

    let sql = Connection::open(&path).unwrap();
    let mut blob: Vec<u8> = sql.query_row("SELECT completion FROM record", (), |row| row.get(0)).unwrap();
    // The last byte of the body: `paid: 10` becomes `paid: 11`.
    *blob.last_mut().unwrap() ^= 1;
    assert_eq!(sql.execute("UPDATE record SET completion = ?1", [blob]).unwrap(), 1);
    assert_eq!(store.begin(&ask(1)).await.unwrap_err().kind(), StoreErrorKind::Undecodable);

    for damage in ["completion = substr(completion, 1, 20)", "completion = NULL", "state = 17"] {
        assert_eq!(sql.execute(&format!("UPDATE record SET {damage}"), ()).unwrap(), 1);
        assert_eq!(store.begin(&ask(1)).await.unwrap_err().kind(), StoreErrorKind::Undecodable, "{damage}");
        assert!(!store.read(&id(1)).await.unwrap_err().can_retry(), "{damage}");
    }
    // The other records do not suffer for it.
    let _ = claimed(&store, 2).await;
}

#[tokio::test]
async fn a_damaged_answer_can_be_listed_and_deleted() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let store = SqliteStore::open(&path).unwrap();
    let lease = claimed(&store, 1).await;
    let _ = store.complete(lease.as_ref(), &answer("x"), &Retention::default()).await.unwrap();
    Connection::open(&path).unwrap().execute("UPDATE record SET completion = x'00'", ()).unwrap();
    let page = store.list(&Query { state: Some(State::Completed), after: None, limit: 10 }).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(store.delete(&id(1), Delete::Settled).await.unwrap(), Deleted::Gone);
}

#[tokio::test]
async fn what_is_in_line_is_done_before_the_file_closes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("semel.db");
    let store = SqliteStore::open(&path).unwrap();
    for n in 0..64 {
        let ask = ask(n);
        let mut begin = std::pin::pin!(store.begin(&ask));
        // One poll puts it in line; then its caller goes away.
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(begin.as_mut().poll(cx).is_ready())).await;
    }
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let page = store.list(&Query { state: None, after: None, limit: 100 }).await.unwrap();
    assert_eq!(page.records.len(), 64);
}

#[tokio::test]
async fn pages_of_a_list_meet_every_record_once() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("semel.db")).unwrap();
    for n in 0..40 {
        let lease = claimed(&store, n).await;
        if n % 4 == 0 {
            assert_eq!(store.abandon(lease.as_ref()).await.unwrap(), Settled::Applied);
        }
    }
    for (state, limit, expected) in
        [(None, 7, 40), (Some(State::Unknown), 3, 10), (Some(State::Released), 3, 0)]
    {
        let (mut after, mut met) = (None, Vec::new());
        loop {
            let page = store.list(&Query { state, after, limit }).await.unwrap();
            assert!(page.records.len() <= limit);
            met.extend(page.records.iter().map(|view| view.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(met.is_sorted());
        met.dedup();
        assert_eq!(met.len(), expected, "{state:?}");
    }
}

/// `rm semel.db` under a running program, or a backup copied over it: the open file would go on to take claims that
/// no other process sees, and none after a restart.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_takes_nothing_more() {
    let folder = tempdir().unwrap();
    let (path, away) = (folder.path().join("semel.db"), folder.path().join("away.db"));
    let store = SqliteStore::open(&path).unwrap();
    let _before = claimed(&store, 1).await;
    std::fs::rename(&path, &away).unwrap();
    let error = store.begin(&ask(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("removed or replaced"), "{error}");
    std::fs::copy(&away, &path).unwrap();
    assert_eq!(store.inspect(&id(1)).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    // It is put back.
    std::fs::rename(&away, &path).unwrap();
    assert!(store.inspect(&id(1)).await.unwrap().is_some());
    let _after = claimed(&store, 3).await;
}
