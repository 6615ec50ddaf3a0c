//! Claim, writes and answer in one commit.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use semel_core::record::{Retention, State};
use semel_core::store::{
    Acquired, Begin, Begun, Ended, Ending, ReleaseAs, Store as _, StoreError, StoreErrorKind, Transact as _,
    Transacted, Writes,
};
use semel_store_sqlite::{Effects, SqliteStore};

use crate::support::{answer, ask, body, child, claimed, id, part, tell, told};

const LEDGER: &str = "CREATE TABLE ledger (n INTEGER PRIMARY KEY, who INTEGER NOT NULL) STRICT";

async fn opened(folder: &tempfile::TempDir) -> SqliteStore {
    let store = SqliteStore::open(folder.path().join("app.db")).unwrap();
    store.tables(LEDGER).await.unwrap();
    store
}

/// What anybody else sees in the file.
fn lines(store: &SqliteStore) -> i64 {
    let outside = Connection::open(store.path()).unwrap();
    outside.query_row("SELECT count(*) FROM ledger", (), |row| row.get(0)).unwrap()
}

fn write(tx: &Effects<'_>, who: u32) {
    tx.execute("INSERT INTO ledger (who) VALUES (?1)", [who]).unwrap();
}

fn complete(text: &'static str, writes: Writes) -> Ended<()> {
    Ended { record: Ending::Complete(answer(text), Retention::default(), writes), with: () }
}

async fn in_one<F>(store: &SqliteStore, ask: Begin, run: F) -> Result<Transacted<()>, StoreError>
where
    F: for<'t> FnMut(&Effects<'t>, Acquired) -> Ended<()> + Send + 'static,
{
    store.transact(&ask, run).await
}

async fn pay(store: &SqliteStore, ask: &Begin, who: u32) -> Transacted<()> {
    let paid = store.transact(ask, move |tx, _| {
        write(tx, who);
        complete("paid", Writes::Commit)
    });
    paid.await.unwrap()
}

// A crash between the charge and the record is what everybody asks about: there is no between.
#[tokio::test]
async fn claim_writes_and_answer_are_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    assert!(matches!(pay(&store, &ask(1), 1).await, Transacted::Ran(())));
    assert_eq!(lines(&store), 1);
    let view = store.inspect(&id(1)).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempt), (State::Completed, 1));

    // A retry is told the answer and writes nothing; another request under the key changes nothing.
    let Transacted::Answered(Begun::Settled(record)) = pay(&store, &ask(1), 2).await else { panic!() };
    assert_eq!(body(&record.completion), "paid");
    let mut other = ask(1);
    other.fingerprint = semel_core::record::Fingerprint::from_bytes([9; 32]);
    assert!(matches!(pay(&store, &other, 3).await, Transacted::Answered(Begun::Differs(_))));
    assert_eq!(lines(&store), 1);
}

// Many retries at once, beside claims of the ordinary kind in the same batches.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_parallel_equal_requests_one_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(opened(&folder).await);
    let mut tasks = Vec::new();
    for n in 0..20_u32 {
        for _ in 0..8 {
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                drop(claimed(&*store, 1000 + fastrand::u32(..1 << 30)).await);
                matches!(pay(&store, &ask(n), n).await, Transacted::Ran(()))
            }));
        }
    }
    let mut ran = 0;
    for task in tasks {
        ran += u32::from(task.await.unwrap());
    }
    assert_eq!((ran, lines(&store)), (20, 20));
}

#[tokio::test]
async fn an_answer_can_be_kept_without_the_writes_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    let refused = in_one(&store, ask(1), |tx, _| {
        write(tx, 1);
        complete("declined", Writes::RollBack)
    });
    assert!(matches!(refused.await.unwrap(), Transacted::Ran(())));
    assert_eq!(lines(&store), 0);
    let record = store.read(&id(1)).await.unwrap().unwrap();
    assert_eq!(body(&record.completion), "declined");
}

// "Not done, try again" has to be true of the writes, and the next try has to be let in.
#[tokio::test]
async fn a_run_that_releases_leaves_no_writes_and_may_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    let busy = in_one(&store, ask(1), |tx, acquired| {
        write(tx, 1);
        assert_eq!(acquired.attempt, 1);
        Ended { record: Ending::Release(ReleaseAs::Retry, Retention::default()), with: () }
    });
    assert!(matches!(busy.await.unwrap(), Transacted::Ran(())));
    assert_eq!(lines(&store), 0);
    let again = in_one(&store, ask(1), |tx, acquired| {
        write(tx, 1);
        assert_eq!(acquired.attempt, 2);
        complete("paid", Writes::Commit)
    });
    assert!(matches!(again.await.unwrap(), Transacted::Ran(())));
    assert_eq!(lines(&store), 1);
}

// A panic on the writer's thread would end the store for everybody.
#[tokio::test]
async fn a_run_that_panics_leaves_neither_claim_nor_writes_and_harms_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(opened(&folder).await);
    let here = Arc::clone(&store);
    let panicked = tokio::spawn(async move {
        let run = in_one(&here, ask(1), |tx, _| -> Ended<()> {
            write(tx, 1);
            panic!("a bug of the application")
        });
        let _never = run.await;
    });
    let (panicked, _neighbour) = tokio::join!(panicked, claimed(&*store, 2));
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(store.inspect(&id(1)).await.unwrap(), None);
    assert_eq!(lines(&store), 0);
    assert!(matches!(pay(&store, &ask(1), 1).await, Transacted::Ran(())));
}

// A COMMIT by the application would commit the claims of others with their counters unwritten, and hand the same
// fence out twice.
#[tokio::test]
async fn what_begins_ends_or_leaves_the_transaction_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    let other = folder.path().join("other.db");
    let attach = format!("ATTACH '{}' AS other", other.display());
    let all: Vec<String> = [
        "COMMIT",
        "END",
        "ROLLBACK",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "SAVEPOINT mine",
        "RELEASE semel",
        "ROLLBACK TO semel",
        "/* hidden */ commit",
        "DETACH main",
        "VACUUM",
        &attach,
    ]
    .map(str::to_owned)
    .into();
    for statement in &all {
        assert_eq!(store.tables(statement).await.unwrap_err().kind(), StoreErrorKind::Config, "{statement}");
        let two = format!("CREATE TABLE x (n); {statement}");
        assert_eq!(store.tables(&two).await.unwrap_err().kind(), StoreErrorKind::Config, "{two}");
    }
    let statements = all.clone();
    let run = in_one(&store, ask(1), move |tx, _| {
        for statement in &statements {
            assert!(tx.execute(statement, ()).is_err(), "{statement}");
        }
        write(tx, 1);
        complete("paid", Writes::Commit)
    });
    assert!(matches!(run.await.unwrap(), Transacted::Ran(())));
    assert_eq!(lines(&store), 1);
    let first = store.inspect(&id(1)).await.unwrap().unwrap().fence;
    assert!(claimed(&store, 2).await.fence() > first);
}

// A conflict clause can end the transaction of everybody in the batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_clause_that_rolls_everything_back_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(opened(&folder).await);
    let mut tasks = Vec::new();
    for n in 0..64_u32 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            if n % 8 > 0 {
                return matches!(pay(&store, &ask(n), n).await, Transacted::Ran(()));
            }
            let run = in_one(&store, ask(n), move |tx, _| {
                let sql = "INSERT OR ROLLBACK INTO ledger (n, who) VALUES (1, 1), (1, 1)";
                let _refused = tx.execute(sql, ());
                complete("paid", Writes::Commit)
            });
            assert_eq!(run.await.unwrap_err().kind(), StoreErrorKind::Internal);
            assert_eq!(store.inspect(&id(n)).await.unwrap(), None);
            false
        }));
    }
    let mut ran = 0;
    for task in tasks {
        ran += u32::from(task.await.unwrap());
    }
    assert_eq!((ran, lines(&store)), (56, 56));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::builder(folder.path().join("app.db")).max_body(10).open().unwrap();
    store.tables(LEDGER).await.unwrap();
    let run = in_one(&store, ask(1), |tx, _| {
        write(tx, 1);
        complete("longer than ten bytes", Writes::Commit)
    });
    assert_eq!(run.await.unwrap_err().kind(), StoreErrorKind::TooLarge);
    assert_eq!(lines(&store), 0);
    assert_eq!(store.inspect(&id(1)).await.unwrap(), None);
}

#[tokio::test]
async fn foreign_keys_are_enforced() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    store.tables("CREATE TABLE part (line INTEGER REFERENCES ledger (n))").await.unwrap();
    let run = in_one(&store, ask(1), |tx, _| {
        assert!(tx.execute("INSERT INTO part VALUES (7)", ()).is_err());
        complete("refused", Writes::Commit)
    });
    assert!(matches!(run.await.unwrap(), Transacted::Ran(())));
}

// At whatever moment the process ends, there is a line for each answer and an answer for each line.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_there_are_as_many_writes_as_answers() {
    let test = "within::killed_at_any_moment_there_are_as_many_writes_as_answers";
    if let Some(file) = part(test) {
        let store = Arc::new(SqliteStore::open(file).unwrap());
        let from = fastrand::u32(..1 << 20) << 10;
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for n in 0.. {
                        let key = from + n * 8 + caller;
                        let Transacted::Ran(()) = pay(&store, &ask(key), key).await else { continue };
                        tell(key);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder).await;
    let file = store.path().to_owned();
    drop(store);
    for _ in 0..5 {
        let mut running = child(test, &file).stderr(Stdio::null()).spawn().unwrap();
        let out = running.stdout.take().unwrap();
        let until = Instant::now() + Duration::from_millis(fastrand::u64(50..300));
        let mut acknowledged = Vec::new();
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)) {
            let Ok(line) = line else { break };
            if let Some(words) = told(&line) {
                acknowledged.push(words[0].parse::<u32>().unwrap());
            }
            if Instant::now() > until && !acknowledged.is_empty() {
                running.kill().unwrap();
            }
        }
        running.wait().unwrap();
        assert!(!acknowledged.is_empty());
        let outside = Connection::open(&file).unwrap();
        let both: (i64, i64) = outside
            .query_row("SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM record)", (), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(both.0, both.1);
        let mut line = outside.prepare("SELECT count(*) FROM ledger WHERE who = ?1").unwrap();
        for key in acknowledged {
            assert_eq!(line.query_row([key], |row| row.get::<_, i64>(0)).unwrap(), 1, "{key}");
        }
        let unsettled: i64 =
            outside.query_row("SELECT count(*) FROM record WHERE state <> 1", (), |row| row.get(0)).unwrap();
        assert_eq!(unsettled, 0);
    }
}
