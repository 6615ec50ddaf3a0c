use axum::body::{Body, to_bytes};
use axum::http::Request;
use semel_testkit::skip::skip;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};
use tower::ServiceExt as _;

async fn pay(app: &axum::Router, key: &str, amount: i64) -> (u16, bool, String) {
    let request = Request::post(format!("/accounts/alice/payments/{amount}"))
        .header("idempotency-key", format!("\"{key}\""))
        .body(Body::empty())
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, replayed) =
        (response.status().as_u16(), response.headers().contains_key("idempotency-replayed"));
    let body = to_bytes(response.into_body(), 1000).await.unwrap();
    (status, replayed, String::from_utf8(body.to_vec()).unwrap())
}

async fn number(pool: &PgPool, text: &'static str) -> i64 {
    sqlx::query(text).fetch_one(pool).await.unwrap().try_get(0).unwrap()
}

/// The curl lines, and what is in the ledger after them.
#[tokio::test]
async fn each_payment_is_booked_once_and_a_declined_one_never() {
    let url = std::env::var("SEMEL_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into());
    let Ok(mut admin) = PgConnection::connect(&url).await else {
        return skip(
            "each_payment_is_booked_once_and_a_declined_one_never",
            "no PostgreSQL at SEMEL_TEST_POSTGRES",
        )
        .unwrap();
    };
    let name = format!("payments_{}_{:08x}", std::process::id(), fastrand::u32(..));
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&mut admin).await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    let theirs = options.options([("search_path", name.as_str())]).disable_statement_logging();
    let pool = PgPoolOptions::new().max_connections(2).connect_with(theirs).await.unwrap();

    let app = super::app(&url, &format!("{name}_keys"), pool.clone()).await.unwrap();
    assert_eq!(pay(&app, "pay-1", 30).await, (201, false, "alice has 70 left\n".into()));
    assert_eq!(pay(&app, "pay-1", 30).await, (201, true, "alice has 70 left\n".into()));
    assert_eq!(pay(&app, "pay-2", 90).await, (402, false, "alice cannot pay 90\n".into()));
    assert_eq!(pay(&app, "pay-2", 90).await, (402, true, "alice cannot pay 90\n".into()));
    assert_eq!(number(&pool, "SELECT count(*) FROM ledger").await, 1);
    assert_eq!(number(&pool, "SELECT balance FROM account").await, 70);

    // Many at once, each sent three times.
    let sent = (0..30).map(|n| {
        let app = app.clone();
        tokio::spawn(async move { pay(&app, &format!("many-{}", n % 10), 1).await.0 })
    });
    for status in sent.collect::<Vec<_>>() {
        assert!(matches!(status.await.unwrap(), 201 | 409), "paid, or still being paid");
    }
    assert_eq!(number(&pool, "SELECT count(*) FROM ledger").await, 11);
    assert_eq!(number(&pool, "SELECT balance FROM account").await, 60);

    pool.close().await;
    let gone = format!(
        "SET client_min_messages = warning; DROP SCHEMA {name} CASCADE; DROP SCHEMA {name}_keys CASCADE"
    );
    sqlx::raw_sql(AssertSqlSafe(gone)).execute(&mut admin).await.unwrap();
}
