use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use semel_client::Retries;
use semel_client::reqwest::client;
use semel_testkit::upstream::{Act, Upstream, answer};

const PROBLEM: &str = r#"{"code":"outcome-unknown","retry":"reconcile"}"#;

async fn ordered(first: fn() -> Act, then: fn() -> Act) -> (String, Upstream) {
    let count = AtomicUsize::new(0);
    let script = move |_: &_| if count.fetch_add(1, Ordering::SeqCst) == 0 { first() } else { then() };
    let upstream = Upstream::start(script).await.unwrap();
    let retries = Retries::builder().backoff(Duration::from_millis(1), Duration::from_millis(1)).build();
    let client = client(reqwest::Client::builder().no_proxy(), retries.unwrap()).unwrap();
    (super::order(&client, &upstream.url()).await.unwrap(), upstream)
}

/// What `docs/client.md` shows, with each of its ends that a server can bring about.
#[tokio::test]
async fn the_program_says_what_became_of_its_order() {
    let made = || Act::Answer(answer(201, "order 1"));
    let replayed = || {
        let head = "HTTP/1.1 201 X\r\nIdempotency-Replayed: true\r\nContent-Length: 7\r\n\r\norder 1";
        Act::Answer(head.as_bytes().to_vec())
    };
    let lost = || {
        let head = "HTTP/1.1 409 X\r\nContent-Type: application/problem+json\r\nContent-Length: 46\r\n\r\n";
        assert_eq!(PROBLEM.len(), 46);
        Act::Answer(format!("{head}{PROBLEM}").into_bytes())
    };
    assert_eq!(ordered(made, made).await.0, "made: order 1");
    let (said, upstream) = ordered(|| Act::HangUp, replayed).await;
    assert_eq!((said.as_str(), upstream.count()), ("was made before: order 1", 2));
    assert_eq!(
        ordered(|| Act::Answer(answer(422, "")), made).await.0,
        "refused with 422 Unprocessable Entity"
    );
    let (said, upstream) = ordered(|| Act::HangUp, lost).await;
    let received = upstream.received();
    let key = received[0].message.one("idempotency-key").unwrap();
    assert_eq!(said, format!("unknown; ask again with the key {key}"));
}
