//! SIGTERM lets running requests end.

use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::support::{Act, Folder, Proxy, Upstream, answer, order, try_ask, until};

/// A deploy that cuts running requests leaves an unknown record for each.
#[tokio::test]
async fn sigterm_lets_a_running_request_finish_and_settles_it() {
    let go = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go);
    let upstream = Upstream::start(move |_| {
        let held = Arc::clone(&held);
        Act::Take(Box::new(move |mut stream| {
            Box::pin(async move {
                let _permit = held.acquire().await;
                let _ = stream.get_mut().write_all(&answer(201, "made")).await;
            })
        }))
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let address = proxy.address;
    let request = tokio::spawn(async move { try_ask(address, order("k", "", "{}")).await });
    // Its client goes away; its run goes on.
    let gone = tokio::spawn(async move { try_ask(address, order("gone", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 2).await);
    gone.abort();

    proxy.signal(Signal::TERM);
    until("it stops listening", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    go.add_permits(2);
    let made = request.await.unwrap().expect("an answer");
    assert_eq!((made.status(), made.text().as_str()), (201, "made"));
    assert_eq!(proxy.ended().await, Some(0));
    for key in ["k", "gone"] {
        let shown =
            folder.run(&["keys", "show", "--key", key, "--upstream", &upstream.url(), "--json"]).await;
        assert_eq!(shown.json()["state"], "completed", "{key}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let address = proxy.address;
    let request = tokio::spawn(async move { try_ask(address, order("k", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    proxy.signal(Signal::INT);
    until("the first signal was heard", async || folder.log().contains("ending gracefully")).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await, Some(130));
    assert!(request.await.unwrap().is_none());
}

/// What does not end within --drain is cut, and the program still ends.
#[tokio::test]
async fn drain_bounds_the_wait() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &["--drain", "200ms"]).await;
    let address = proxy.address;
    let request = tokio::spawn(async move { try_ask(address, order("k", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await, Some(0));
    assert!(request.await.unwrap().is_none());
}
