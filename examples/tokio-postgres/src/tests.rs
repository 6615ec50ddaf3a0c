use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use semel::postgres::Clock;
use semel_testkit::skip::skip;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::*;

/// A schema of our own for the tables and one for the records, removed at the end.
struct Bank {
    url: String,
    name: String,
    admin: TokioTransactions,
    store: PostgresStore,
}

impl Bank {
    async fn open(test: &str) -> Option<Self> {
        let url = std::env::var("SEMEL_TEST_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into());
        let name = format!("tokio_{}_{:08x}", std::process::id(), fastrand::u32(..));
        let builder = PostgresStore::builder(&url).schema(format!("{name}_keys")).clock(Clock::Shifted);
        let Ok(store) = builder.open().await else {
            skip(test, "no PostgreSQL at SEMEL_TEST_POSTGRES").unwrap();
            return None;
        };
        let admin = TokioTransactions::new(&store, url.parse().unwrap());
        admin.script(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let bank = Self { url, name, admin, store };
        bank.transactions(&bank.store).script(TABLES).await.unwrap();
        Some(bank)
    }

    fn transactions(&self, store: &PostgresStore) -> TokioTransactions {
        let mut config: tokio_postgres::Config = self.url.parse().unwrap();
        config.options(format!("-c search_path={}", self.name));
        TokioTransactions::new(store, config)
    }

    async fn store(&self) -> PostgresStore {
        let builder = PostgresStore::builder(&self.url).schema(format!("{}_keys", self.name));
        builder.clock(Clock::Shifted).open().await.unwrap()
    }

    /// Another process, over the same records.
    async fn serve(&self, routes: Router) -> Router {
        let store = self.store().await;
        let transactions = self.transactions(&store);
        guarded(store, transactions, routes).unwrap()
    }

    async fn number(&self, text: &str) -> i64 {
        let mut config: tokio_postgres::Config = self.url.parse().unwrap();
        config.options(format!("-c search_path={}", self.name));
        let (client, wire) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let wire = tokio::spawn(wire);
        let number = client.query_one(text, &[]).await.unwrap().get(0);
        drop(client);
        wire.await.unwrap().unwrap();
        number
    }

    async fn end(self) {
        let (name, quiet) = (&self.name, "SET client_min_messages = warning");
        let gone = format!("{quiet}; DROP SCHEMA {name} CASCADE; DROP SCHEMA {name}_keys CASCADE");
        self.admin.script(&gone).await.unwrap();
    }
}

async fn send(app: &Router, path: &str, key: &str) -> (u16, bool, String) {
    let request =
        Request::post(path).header("idempotency-key", format!("\"{key}\"")).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, replayed) =
        (response.status().as_u16(), response.headers().contains_key("idempotency-replayed"));
    let body = to_bytes(response.into_body(), 5000).await.unwrap();
    (status, replayed, String::from_utf8(body.to_vec()).unwrap())
}

async fn pays(app: &Router, key: &str, amount: i64) -> (u16, bool, String) {
    send(app, &format!("/accounts/alice/payments/{amount}"), key).await
}

const LINES: &str = "SELECT count(*) FROM ledger";

#[tokio::test]
async fn each_payment_is_booked_once_and_a_declined_one_never() {
    let Some(bank) = Bank::open("each_payment_is_booked_once_and_a_declined_one_never").await else { return };
    let app = bank.serve(Router::new().route(PAY, post(pay))).await;
    assert_eq!(pays(&app, "pay-1", 30).await, (201, false, "alice has 70 left\n".into()));
    assert_eq!(pays(&app, "pay-1", 30).await, (201, true, "alice has 70 left\n".into()));
    // Its line was written before it was declined.
    assert_eq!(pays(&app, "pay-2", 90).await, (402, false, "alice cannot pay 90\n".into()));
    assert_eq!(pays(&app, "pay-2", 90).await, (402, true, "alice cannot pay 90\n".into()));
    assert_eq!(bank.number(LINES).await, 1);

    // Many at once, each sent three times, over a pool of four.
    let sent = (0..30).map(|n| {
        let app = app.clone();
        tokio::spawn(async move { pays(&app, &format!("many-{}", n % 10), 1).await.0 })
    });
    for status in sent.collect::<Vec<_>>() {
        assert!(matches!(status.await.unwrap(), 201 | 409), "paid, or still being paid");
    }
    assert_eq!(bank.number(LINES).await, 11);
    assert_eq!(bank.number("SELECT balance FROM account").await, 60);
    bank.end().await;
}

// Whether by its text or by the driver's own transactions: what was committed cannot be undone, so nothing runs again.
#[tokio::test]
async fn a_handler_that_commits_by_itself_is_found_out_and_never_runs_again() {
    let Some(bank) = Bank::open("a_handler_that_commits_by_itself_is_found_out_and_never_runs_again").await
    else {
        return;
    };
    for (lines, status) in [(1, 201), (2, 422), (3, 500)] {
        let handler = async move |mut tx: Tx<TokioPostgres>| {
            let text = "INSERT INTO ledger (account, amount) VALUES ('alice', 1)";
            if lines == 2 {
                let own = tx.transaction().await.unwrap();
                own.batch_execute(text).await.unwrap();
                own.commit().await.unwrap();
            } else {
                tx.batch_execute(&format!("{text}; COMMIT; BEGIN")).await.unwrap();
            }
            StatusCode::from_u16(status).unwrap()
        };
        let app = bank.serve(Router::new().route("/pay", post(handler))).await;
        let key = format!("torn-{lines}");
        let told = send(&app, "/pay", &key).await;
        assert!(told.0 == 500 && told.2.contains("outcome-unknown"), "{told:?}");
        let again = send(&app, "/pay", &key).await;
        assert!(again.0 == 409 && again.2.contains("replay-unavailable"), "{again:?}");
        assert_eq!(bank.number(LINES).await, lines);
    }
    bank.end().await;
}

/// Two processes: the second takes over while the first is at work.
#[tokio::test]
async fn a_run_that_lost_its_lease_writes_nothing_and_answers_with_the_winners() {
    let Some(bank) =
        Bank::open("a_run_that_lost_its_lease_writes_nothing_and_answers_with_the_winners").await
    else {
        return;
    };
    let (reached, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let slow = {
        let (reached, gate) = (Arc::clone(&reached), Arc::clone(&gate));
        async move |tx: Tx<TokioPostgres>| {
            tx.batch_execute("INSERT INTO ledger (account, amount) VALUES ('late', 1)").await.unwrap();
            reached.add_permits(1);
            drop(gate.acquire().await.unwrap());
            "late"
        }
    };
    let quick = async |tx: Tx<TokioPostgres>| {
        tx.batch_execute("INSERT INTO ledger (account, amount) VALUES ('winner', 1)").await.unwrap();
        "winner"
    };
    let first = bank.serve(Router::new().route("/pay", post(slow))).await;
    let second = bank.serve(Router::new().route("/pay", post(quick))).await;
    let late = tokio::spawn(async move { send(&first, "/pay", "k").await });
    drop(reached.acquire().await.unwrap());
    bank.store.shift_clock(Duration::from_secs(31)).await.unwrap();
    assert_eq!(send(&second, "/pay", "k").await, (200, false, "winner".into()));
    gate.add_permits(1);
    assert_eq!(late.await.unwrap(), (200, true, "winner".into()));
    assert_eq!(bank.number(LINES).await, 1);
    assert_eq!(bank.number("SELECT count(*) FROM ledger WHERE account = 'winner'").await, 1);
    bank.end().await;
}
