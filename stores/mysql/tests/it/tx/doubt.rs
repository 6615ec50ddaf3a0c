//! The acknowledgement of a commit that never comes.

use std::time::Duration;

use semel_store_mysql::MySql;
use semel_testkit::cable::{Cable, Fault};
use semel_tower::Tx;
use std::sync::Arc;

use super::{App, Bank, COMPLETED, RELEASED, created, write};
use crate::support::{test, through};

/// The pool goes through the cable, and the store does not.
async fn over_a_cable() -> (Bank, Arc<Cable>) {
    let (cable, through) = through();
    (Bank::with_pool(2, &through).await, Arc::new(cable))
}

/// A handler that breaks the cable for what comes after its last statement, which is the completion with the commit.
async fn serve(bank: &Bank, cable: &Arc<Cable>, faults: &'static [Fault]) -> App {
    let (name, cable) = (bank.name(), Arc::clone(cable));
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    bank.serve(async move |mut tx: Tx<MySql>| {
        write(&mut tx, &name, "line").await.unwrap();
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            for fault in faults {
                cable.next(*fault);
            }
        }
        created()
    })
    .await
}

const LATE: &[Fault] = &[Fault::LateRequest(Duration::from_millis(1500))];

#[test]
fn a_commit_whose_acknowledgement_is_lost_is_found_and_its_answer_goes_out() {
    test(async || {
        let (bank, cable) = over_a_cable().await;
        prepare(&bank, &cable).await;
        let app = serve(&bank, &cable, &[Fault::Swallow]).await;
        let told = app.send("k").await;
        assert_eq!(told.brief(), (201, "paid"));
        assert!(!told.replayed());
        assert_eq!(cable.pending(), 0);
        assert_eq!((bank.records(COMPLETED).await, bank.records(RELEASED).await), (1, 0));
        assert!(app.send("k").await.replayed());
        assert_eq!((bank.lines().await, app.runs()), (1, 1));
    });
}

/// The server answers each statement of the message by itself, so the cut may come before the last of them.
#[test]
fn a_connection_cut_within_the_end_is_settled_and_never_guessed() {
    test(async || {
        let (bank, cable) = over_a_cable().await;
        prepare(&bank, &cable).await;
        let app = serve(&bank, &cable, &[Fault::CutAfter]).await;
        let told = app.send("k").await;
        let found = (bank.lines().await, bank.records(COMPLETED).await, bank.records(RELEASED).await);
        match told.brief() {
            (201, "paid") => assert_eq!(found, (1, 1, 0)),
            (503, "store-unavailable") => assert_eq!(found, (0, 0, 1)),
            other => panic!("{other:?}"),
        }
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 1);
    });
}

#[test]
fn a_commit_that_never_arrived_is_known_not_to_have_happened_and_the_retry_runs() {
    test(async || {
        for faults in [&[Fault::CutBefore], &[Fault::BlackHole]] as [&'static [Fault]; 2] {
            let (bank, cable) = over_a_cable().await;
            prepare(&bank, &cable).await;
            let app = serve(&bank, &cable, faults).await;
            let told = app.send("k").await;
            assert_eq!(told.brief(), (503, "store-unavailable"), "{faults:?}");
            assert!(told.body.contains("nothing was committed"), "{}", told.body);
            assert_eq!((bank.lines().await, bank.records(RELEASED).await), (0, 1), "{faults:?}");
            assert_eq!(app.send("k").await.brief(), (201, "paid"), "{faults:?}");
            assert_eq!((bank.lines().await, app.runs()), (1, 2), "{faults:?}");
        }
    });
}

/// A commit under way while its client gives up, and the server takes its time: whoever comes next waits for it.
#[test]
fn a_late_commit_is_waited_for_and_never_guessed() {
    test(async || {
        let (bank, cable) = over_a_cable().await;
        prepare(&bank, &cable).await;
        // Longer than the time-out of a second.
        let app = serve(&bank, &cable, LATE).await;
        let told = app.send("k").await;
        let lines = bank.lines().await;
        match told.brief() {
            (201, "paid") => assert_eq!((lines, bank.records(COMPLETED).await), (1, 1)),
            (503, "store-unavailable") => assert_eq!((lines, bank.records(RELEASED).await), (0, 1)),
            other => panic!("{other:?}"),
        }
        assert_eq!(app.send("k").await.brief(), (201, "paid"));
        assert_eq!(bank.lines().await, 1);
    });
}

/// A connection of the pool is there, and nothing is under way on it.
async fn prepare(bank: &Bank, cable: &Cable) {
    let name = bank.name();
    let app = bank
        .serve(async move |mut tx: Tx<MySql>| {
            write(&mut tx, &name, "warm").await.unwrap();
            created()
        })
        .await;
    assert_eq!(app.send("warm").await.status, 201);
    // The pool looks at what it gets back.
    while bank.pool.num_idle() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bank.schema.run("DELETE FROM {s}.ledger; DELETE FROM {s}.semel_record").await;
    cable.new_trips();
}
