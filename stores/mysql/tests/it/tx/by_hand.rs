//! The completion as SQL, over connections that nothing else of the store knows.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use http::Extensions;
use semel_core::record::{Completion, RecordId, Retention};
use semel_core::store::{
    Committed, LeaseRef, LendError, Lender, Opened, Pending, RolledBack, Transactions, Undertaking, Writes,
};
use semel_store_mysql::{ByHand, Isolation, Mark, Says, Statement};
use semel_tower::Tx;
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::{App, Bank, COMPLETED, Gate, RELEASED, app, created, execute, write};
use crate::support::{server as url, test};

/// A connection for each run.
#[derive(Clone)]
struct Own(ByHand);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl Transactions for Own {
    fn origin(&self) -> &RecordId {
        self.0.origin()
    }

    fn tolerates_renewals(&self) -> bool {
        true
    }

    fn lend(&self, lease: LeaseRef, extensions: &mut Extensions) -> Box<dyn Undertaking> {
        let slot = Slot { hand: self.0.clone(), open: Arc::default() };
        extensions.insert(slot.clone());
        Box::new(Run { slot, lease })
    }
}

type Open = Option<(MySqlConnection, Mark)>;

#[derive(Clone)]
struct Slot {
    hand: ByHand,
    open: Arc<Mutex<Open>>,
}

/// `Tx<ByHandMySql>`.
struct ByHandMySql;

impl Lender for ByHandMySql {
    type Slot = Slot;
    type Connection = MySqlConnection;
    type Guard = OwnedMappedMutexGuard<Open, MySqlConnection>;

    fn take(slot: &Slot) -> Pending<'_, Result<Self::Guard, LendError>> {
        Box::pin(async move {
            let mut open = Arc::clone(&slot.open).lock_owned().await;
            if open.is_none() {
                let mut connection = MySqlConnection::connect(&url()).await.unwrap();
                execute(&mut connection, "SET SESSION time_zone = '+05:30'").await.unwrap();
                let (mark, text) = slot.hand.begin(Isolation::ReadCommitted);
                execute(&mut connection, text).await.unwrap();
                *open = Some((connection, mark));
            }
            OwnedMutexGuard::try_map(open, |open| open.as_mut().map(|(connection, _)| connection))
                .map_err(|_| LendError::Over)
        })
    }
}

struct Run {
    slot: Slot,
    lease: LeaseRef,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Run")
    }
}

impl Undertaking for Run {
    fn opened(&mut self) -> Opened {
        match self.slot.open.try_lock() {
            Ok(open) if open.is_some() => Opened::Back,
            Ok(_) => Opened::Never,
            Err(_) => Opened::Lent,
        }
    }

    fn commit<'a>(
        &'a mut self,
        completion: &'a Arc<Completion>,
        keep: &'a Retention,
        writes: Writes,
    ) -> Pending<'a, Committed> {
        Box::pin(async move {
            let (mut connection, mark) = self.slot.open.lock().await.take().unwrap();
            let hand = &self.slot.hand;
            let end = hand.end(mark, self.lease, completion, keep, writes).unwrap();
            if let Some(Statement { sql, value, .. }) = end.ahead {
                sqlx::query(sql).bind(value).execute(&mut connection).await.unwrap();
            }
            let came = match execute(&mut connection, end.sql).await {
                Ok(()) => {
                    hand.wake(&self.lease.id);
                    settings_are_back(&mut connection).await;
                    return Committed::Applied;
                }
                Err(error) => match ByHand::says(number(&error)) {
                    Says::Over | Says::Conflict => Committed::Conflict,
                    Says::Lost => Committed::Lost,
                    Says::Nothing => return Committed::Unheard,
                },
            };
            self.looked(connection, mark, came).await
        })
    }

    fn roll_back(&mut self) -> Pending<'_, RolledBack> {
        Box::pin(async move {
            let Some((mut connection, mark)) = self.slot.open.lock().await.take() else {
                return RolledBack::Undone;
            };
            if execute(&mut connection, self.slot.hand.undo(mark)).await.is_ok() {
                settings_are_back(&mut connection).await;
                return RolledBack::Undone;
            }
            match self.looked(connection, mark, Committed::Never).await {
                Committed::Torn => RolledBack::Torn,
                _ => RolledBack::Undone,
            }
        })
    }
}

impl Run {
    async fn looked(&self, mut connection: MySqlConnection, mark: Mark, came: Committed) -> Committed {
        let hand = &self.slot.hand;
        let row = sqlx::raw_sql(AssertSqlSafe(hand.look(mark))).fetch_one(&mut connection).await.unwrap();
        if row.try_get_unchecked::<i64, _>(0).unwrap() == 0 {
            return came;
        }
        execute(&mut connection, hand.forget(mark)).await.unwrap();
        settings_are_back(&mut connection).await;
        Committed::Torn
    }
}

fn number(error: &sqlx::Error) -> u16 {
    error.as_database_error().unwrap().downcast_ref::<MySqlDatabaseError>().number()
}

/// What is true of a connection that goes back to its pool.
async fn settings_are_back(connection: &mut MySqlConnection) {
    let text = "SELECT CAST(@@autocommit = 1 AND @@in_transaction = 0 AND @@tx_read_only = 0 AND @@time_zone = '+05:30' AS SIGNED)";
    let row = sqlx::raw_sql(text).fetch_one(connection).await.unwrap();
    assert_eq!(row.try_get_unchecked::<i64, _>(0).unwrap(), 1);
}

async fn serve<H, T>(bank: &Bank, handler: H) -> App
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    let store = bank.store().await;
    let own = Own(store.by_hand());
    app(store, own, |policy| policy, handler)
}

#[test]
fn by_hand_writes_and_answer_are_one_commit_and_a_refusal_undoes_its_writes() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = serve(&bank, async move |mut tx: Tx<ByHandMySql>, body: String| {
            write(&mut tx, &name, "line").await.unwrap();
            if body == "8" { (StatusCode::CONFLICT, "declined") } else { created() }
        })
        .await;
        for _ in 0..2 {
            assert_eq!(app.send("k").await.brief(), (201, "paid"));
            assert_eq!(app.send_body("other", "8").await.brief(), (409, "declined"));
        }
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await, app.runs()), (1, 2, 2));
        assert_eq!(bank.marks().await, 0);
    });
}

#[test]
fn by_hand_what_says_not_done_is_rolled_back_and_runs_again() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let app = serve(&bank, async move |mut tx: Tx<ByHandMySql>| {
            write(&mut tx, &name, "line").await.unwrap();
            StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
        for runs in 1..3 {
            assert_eq!(app.send("k").await.status, 503);
            assert_eq!((bank.lines().await, bank.records(RELEASED).await, app.runs()), (0, 1, runs));
        }
        assert_eq!(bank.marks().await, 0);
    });
}

#[test]
fn by_hand_an_answer_that_is_too_long_for_one_message_is_sent_ahead() {
    test(async || {
        let bank = Bank::open().await;
        let name = bank.name();
        let store = bank.schema.builder().max_body(1 << 20).open().await.unwrap();
        let own = Own(store.by_hand());
        let app = app(
            store,
            own,
            |policy| policy,
            async move |mut tx: Tx<ByHandMySql>| {
                write(&mut tx, &name, "line").await.unwrap();
                "x".repeat(400 << 10)
            },
        );
        for _ in 0..2 {
            assert_eq!(app.send("k").await.body.len(), 400 << 10);
        }
        assert_eq!((bank.lines().await, app.runs()), (1, 1));
    });
}

#[test]
fn by_hand_a_handler_that_commits_is_told_from_one_that_rolls_back() {
    test(async || {
        for (text, told, lines) in [("COMMIT", "outcome-unknown", 1), ("ROLLBACK", "rolled-back", 0)] {
            let bank = Bank::open().await;
            let name = bank.name();
            let app = serve(&bank, async move |mut tx: Tx<ByHandMySql>| {
                write(&mut tx, &name, "line").await.unwrap();
                execute(&mut tx, text).await.unwrap();
                created()
            })
            .await;
            assert_eq!(app.send("k").await.brief().1, told);
            assert_eq!((bank.lines().await, bank.marks().await), (lines, 0), "{text}");
        }
    });
}

// The fence is in the text: without it the late worker would complete what somebody else has in hand.
#[test]
fn by_hand_a_run_that_lost_its_record_commits_nothing() {
    test(async || {
        let bank = Bank::open().await;
        let (name, gate) = (bank.name(), Gate::new());
        let handler = {
            let gate = gate.clone();
            async move |mut tx: Tx<ByHandMySql>| {
                write(&mut tx, &name, "line").await.unwrap();
                gate.pass().await;
                created()
            }
        };
        let app = serve(&bank, handler).await;
        let late = tokio::spawn({
            let app = app.clone();
            async move { app.send("k").await }
        });
        gate.reached().await;
        bank.schema.run("UPDATE semel_record SET fence = fence + 1").await;
        gate.open();
        let told = late.await.unwrap();
        assert_ne!(told.status, 201, "{}", told.body);
        assert_eq!((bank.lines().await, bank.records(COMPLETED).await, bank.marks().await), (0, 0, 0));
    });
}
