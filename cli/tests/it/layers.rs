//! Layers from the command line: what they hide is hidden, and what they refuse names both settings.

use crate::support::{Act, Folder, Proxy, Upstream, answer, code, order};

const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Long enough to be compressed.
const MARK: &str = "account-4711-";

#[tokio::test]
async fn sealed_answers_outlive_a_rotation_and_open_for_nobody_else() {
    let upstream = Upstream::start(|_| Act::Answer(answer(200, MARK.repeat(200)))).await.unwrap();
    let folder = Folder::new();
    let keys = |text: &str| std::fs::write(folder.path().join("keys"), text).unwrap();
    let sealed = ["--seal-keys", "keys", "--compress", "--local-cache", "64MiB"];
    let replays = async |args: &[&str]| {
        let proxy = Proxy::start(&folder, &upstream.url(), args).await;
        // The second one from the cache.
        for _ in 0..2 {
            let answer = proxy.ask(order("k", "", "{}")).await;
            assert_eq!((answer.status(), answer.text()), (200, MARK.repeat(200)), "{args:?}");
        }
        assert_eq!(upstream.count(), 1, "{args:?}: it ran again");
        let banner = proxy.banner.clone();
        proxy.kill().await;
        banner
    };
    keys(&format!("seal 1 {OLD}\n"));
    let banner = replays(&sealed).await;
    assert!(banner.contains("local cache, compressed, sealed"), "{banner}");
    for (name, bytes) in folder.files() {
        let found = bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes());
        assert!(!found || name == "log", "{name} holds an answer in the clear");
    }
    keys(&format!("open 1 {OLD}\nseal 2 {NEW}\n"));
    replays(&sealed).await;

    // Without the key it is refused, and never taken for absent.
    keys(&format!("seal 2 {NEW}\n"));
    let proxy = Proxy::start(&folder, &upstream.url(), &sealed).await;
    assert_eq!(code(&proxy.ask(order("k", "", "{}")).await), "store-unavailable");
    assert_eq!(upstream.count(), 1);
    proxy.kill().await;

    // A process without any keys once replayed what lies in the store, as the answer.
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    assert_eq!(code(&proxy.ask(order("k", "", "{}")).await), "store-unavailable");
    assert_eq!(upstream.count(), 1);
}

// The flag is removed, or one of two proxies never had it: zstd's bytes are no answer to a payment.
#[tokio::test]
async fn what_was_compressed_is_read_by_a_proxy_that_does_not_compress() {
    let upstream = Upstream::start(|_| Act::Answer(answer(200, MARK.repeat(200)))).await.unwrap();
    let folder = Folder::new();
    for args in [&["--compress"][..], &[]] {
        let proxy = Proxy::start(&folder, &upstream.url(), args).await;
        let answer = proxy.ask(order("k", "", "{}")).await;
        assert_eq!((answer.status(), answer.text()), (200, MARK.repeat(200)), "{args:?}");
        proxy.kill().await;
    }
    assert_eq!(upstream.count(), 1);
    assert!(
        folder.files().iter().all(|(_, bytes)| {
            bytes.windows(MARK.len()).filter(|window| *window == MARK.as_bytes()).count() < 2
        }),
        "it was not compressed"
    );
}

// An answer that is written by hand without the proxy's keys would be refused by the proxy for good.
#[tokio::test]
async fn an_answer_by_hand_is_sealed_too() {
    let upstream = Upstream::start(|_| Act::HangUp).await.unwrap();
    let folder = Folder::new();
    std::fs::write(folder.path().join("keys"), format!("seal 1 {OLD}\n")).unwrap();
    std::fs::write(folder.path().join("answer"), MARK).unwrap();
    let proxy = Proxy::start(&folder, &upstream.url(), &["--seal-keys", "keys"]).await;
    assert_eq!(code(&proxy.ask(order("k", "", "{}")).await), "outcome-unknown");
    let url = upstream.url();
    let resolve = ["keys", "resolve", "--key", "k", "--upstream", &url, "--applied", "--status", "201"];
    let more = ["--body-file", "answer", "--seal-keys", "keys"];
    let resolved = folder.run(&[&resolve[..], &more].concat()).await;
    assert_eq!(resolved.code, 0, "{resolved:?}");
    let answer = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((answer.status(), answer.text()), (201, MARK.to_owned()));
}

#[tokio::test]
async fn contradictions_name_both_settings() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("keys"), format!("seal 1 {OLD}\nseal 2 {NEW}\n")).unwrap();
    let before = folder.files();
    for (args, named) in [
        (&["--guard", "off", "--store-timeout", "1s"][..], &["--guard off", "--store-timeout"][..]),
        (&["--store-timeout", "1s"], &["--store-timeout", "--store sqlite:semel.db", "--guard on"]),
        (&["--guard", "on", "--store-timeout", "20s"], &["--store-timeout (20s", "--lease (30s)"]),
        (&["--guard", "on", "--store-timeout", "0"], &["--store-timeout", "500ms"]),
        (&["--local-cache", "64MiB", "--store", "memory:"], &["--local-cache", "--store memory:"]),
        (&["--local-cache", "0"], &["--local-cache", "64MiB"]),
        (&["--accept-unsealed"], &["--accept-unsealed", "--seal-keys"]),
        (&["--seal-keys", "nowhere"], &["--seal-keys", "nowhere"]),
        (&["--seal-keys", "keys"], &["--seal-keys", "line 2", "`open`"]),
        (&["--schema", "orders"], &["--schema", "--store sqlite:semel.db"]),
    ] {
        let proxy =
            ["proxy", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin", "off"];
        let ended = folder.run(&[&proxy[..], args].concat()).await;
        assert_eq!(ended.code, 3, "{args:?}: {ended:?}");
        for name in named {
            assert!(ended.err.contains(name), "{args:?} does not name {name}: {}", ended.err);
        }
        assert!(ended.err.starts_with("semel: ") && ended.err.lines().count() == 1, "{ended:?}");
        assert!(!ended.err.contains(&OLD[..32]), "a key is told: {ended:?}");
        assert_eq!(folder.files(), before, "{args:?}");
    }
}
