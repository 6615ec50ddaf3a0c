//! SIGKILL while the application works.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Act, Folder, Proxy, Upstream, answer, code, order, try_ask, until};

#[tokio::test]
async fn after_a_kill_the_outcome_is_unknown_until_somebody_settles_it() {
    let works = AtomicBool::new(false);
    let works: &'static AtomicBool = Box::leak(Box::new(works));
    let upstream = Upstream::start(move |_| {
        if works.load(Ordering::SeqCst) { Act::Answer(answer(201, "made")) } else { Act::Never }
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let flags = ["--lease", "1s", "--prefer-wait", "30s"];
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    let address = proxy.address;
    let request = tokio::spawn(async move { try_ask(address, order("k", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    proxy.kill().await;
    assert!(request.await.unwrap().is_none());

    works.store(true, Ordering::SeqCst);
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    let retry = proxy.ask(order("k", "Prefer: wait=20\r\n", "{}")).await;
    assert_eq!((retry.status(), code(&retry).as_str()), (409, "outcome-unknown"));
    assert_eq!(upstream.count(), 1);

    let listed = folder.run(&["keys", "list", "--state", "unknown"]).await;
    assert_eq!((listed.code, listed.out.lines().count()), (0, 2), "{listed:?}");
    let id = listed.out.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let shown = folder.run(&["keys", "show", id]).await.out;
    for said in ["outcome-unknown", "semel keys resolve", "or is still going on past --max-run"] {
        assert!(shown.contains(said), "{shown}");
    }

    let stale = folder.run(&["keys", "resolve", id, "--not-applied", "--expect-fence", "99"]).await;
    assert_eq!((stale.code, stale.err.lines().count()), (1, 1), "{stale:?}");
    let resolved = folder.run(&["keys", "resolve", id, "--not-applied", "--json"]).await;
    assert_eq!(
        (resolved.code, resolved.json()["record"]["state"].as_str()),
        (0, Some("released")),
        "{resolved:?}"
    );
    let rerun = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((rerun.status(), rerun.text().as_str()), (201, "made"));
    assert_eq!(upstream.received()[1].message.one("idempotency-attempt"), Some("2"));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn under_takeover_the_retry_runs_once_the_lease_is_over() {
    let works: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let upstream = Upstream::start(move |_| {
        if works.load(Ordering::SeqCst) { Act::Answer(answer(201, "made")) } else { Act::Never }
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let flags = ["--lease", "1s", "--recovery", "takeover"];
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    let address = proxy.address;
    let request = tokio::spawn(async move { try_ask(address, order("k", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 1).await);
    proxy.kill().await;
    assert!(request.await.unwrap().is_none());

    works.store(true, Ordering::SeqCst);
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    until("the lease is over", async || proxy.ask(order("k", "", "{}")).await.status() == 201).await;
    assert_eq!(upstream.count(), 2);
}
