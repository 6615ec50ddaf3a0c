//! Flags and variables reach what they are for.

use crate::support::{Act, Folder, Proxy, Upstream, answer, code, order};

#[tokio::test]
async fn variables_stand_for_flags_and_flags_win() {
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let mut command = folder.semel();
    for (name, value) in [
        ("SEMEL_UPSTREAM", upstream.url().as_str()),
        ("SEMEL_LISTEN", "127.0.0.1:0"),
        ("SEMEL_ADMIN", "off"),
        ("SEMEL_STORE", "memory:"),
        ("SEMEL_REQUIRE_KEY", "true"),
        ("SEMEL_STRICT_KEYS", "1"),
        ("SEMEL_METHODS", "POST,PUT"),
        ("SEMEL_NAMESPACE", "by-variable"),
        ("SEMEL_RECOVERY", "takeover"),
        ("SEMEL_EXCLUDE", "/ts,/meta/id,$.items[*]['id', 'at']"),
    ] {
        command.env(name, value);
    }
    command.args(["proxy", "--namespace", "by-flag"]);
    let proxy = Proxy::of(&folder, command).await;
    for said in ["memory:", "NOT durable", "POST, PUT", "required", "by-flag", "takeover", "admin      off"] {
        assert!(proxy.banner.contains(said), "{said}: {}", proxy.banner);
    }
    assert!(!proxy.banner.contains("by-variable"));

    let no_key = "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(code(&proxy.ask(no_key).await), "key-missing");
    let bare = order("k", "", "{}").replace("\"k\"", "k");
    assert_eq!(code(&proxy.ask(bare).await), "key-invalid");
    let body = |n: u8, a: u8| {
        format!(r#"{{"a":{a},"ts":{n},"meta":{{"id":{n}}},"items":[{{"id":{n}}},{{"at":{n},"b":1}}]}}"#)
    };
    assert_eq!(proxy.ask(order("k", "", &body(1, 1))).await.status(), 200);
    let retry = proxy.ask(order("k", "", &body(2, 1))).await;
    assert_eq!(retry.one("idempotency-replayed"), Some("true"));
    assert_eq!(code(&proxy.ask(order("k", "", &body(2, 2))).await), "key-reused");
    assert!(!folder.path().join("semel.db").exists());
}

#[tokio::test]
async fn a_bad_variable_names_the_flag() {
    for (name, value, code, named) in [
        ("SEMEL_WAIT", "soon", 2, "--wait"),
        ("SEMEL_FAIL_OPEN", "maybe", 2, "--fail-open"),
        ("SEMEL_LOG", "semel=loud", 3, "SEMEL_LOG"),
    ] {
        let folder = Folder::new();
        let mut command = folder.semel();
        command.env(name, value).args([
            "proxy",
            "--upstream",
            "http://127.0.0.1:9",
            "--listen",
            "127.0.0.1:0",
        ]);
        let ended = crate::support::end(&mut command).await;
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(ended.err.contains(named), "{name}: {}", ended.err);
        assert!(folder.files().is_empty());
    }
}

/// A profile sets what these flags set: one of the two would be ignored.
#[tokio::test]
async fn a_profile_and_a_flag_that_it_sets_are_refused_together() {
    let folder = Folder::new();
    let begin = ["proxy", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--profile"];
    for (more, named) in [
        (&["stripe-v1", "--keep", "success"][..], "--keep"),
        (&["stripe-v1", "--methods", "PUT"], "--methods"),
        (&["stripe-v1", "--strict-keys"], "--strict-keys"),
        (&["stripe"], "stripe-v1"),
    ] {
        let ended = folder.run(&[&begin[..], more].concat()).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(named) && ended.err.contains("--profile"), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_scope_keeps_tenants_apart() {
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &["--scope", "header:X-Tenant"]).await;
    for tenant in ["a", "b", "a"] {
        let fields = format!("X-Tenant: {tenant}\r\n");
        assert_eq!(proxy.ask(order("order-1", &fields, "{}")).await.status(), 200);
    }
    assert_eq!(upstream.count(), 2);
    assert_eq!(code(&proxy.ask(order("order-1", "", "{}")).await), "principal-missing");

    let shown = folder
        .run(&["keys", "show", "--key", "order-1", "--principal", "b", "--upstream", &upstream.url()])
        .await;
    assert!(shown.out.contains("completed"), "{shown:?}");
    let missed = folder.run(&["keys", "show", "--key", "order-1", "--upstream", &upstream.url()]).await;
    assert_eq!(missed.code, 1, "{missed:?}");
    assert!(missed.err.contains("principal"), "{}", missed.err);
}

#[tokio::test]
async fn endpoint_scope_makes_the_same_key_another() {
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &["--endpoint-scope"]).await;
    assert_eq!(proxy.ask(order("k", "", "{}")).await.status(), 200);
    assert_eq!(proxy.ask(order("k", "", "{}").replace("/orders", "/refunds")).await.status(), 200);
    let url = upstream.url();
    let args = ["keys", "show", "--key", "k", "--upstream", &url, "--endpoint", "POST /refunds"];
    assert_eq!(folder.run(&args).await.code, 0);
}

/// A replayed login without its cookie has no session; with it, it is opted into.
#[tokio::test]
async fn cookies_are_replayed_only_where_somebody_said_so() {
    let upstream = Upstream::start(|_| {
        let login =
            "HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\nSet-Cookie: theme=2\r\nContent-Length: 0\r\n\r\n";
        Act::Answer(login.into())
    })
    .await
    .unwrap();
    for (flags, replayed) in [(&[][..], &[][..]), (&["--keep-set-cookie"], &["sid=1", "theme=2"])] {
        let folder = Folder::new();
        let proxy = Proxy::start(&folder, &upstream.url(), flags).await;
        let cookies = async || {
            let answer = proxy.ask(order("k", "", "{}")).await;
            let fields = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
            fields.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(cookies().await, ["sid=1", "theme=2"], "{flags:?}");
        assert_eq!(cookies().await, replayed, "{flags:?}");
    }
    assert_eq!(upstream.count(), 2);
}

/// Answers with secrets in them are not for a store; what was stored before the flag came is replayed all the same.
#[tokio::test]
async fn a_tombstone_keeps_no_answer_and_leaves_older_records_alone() {
    let upstream = Upstream::start(|_| {
        let made =
            "HTTP/1.1 201 Created\r\nLocation: /orders/7\r\nX-Token: s3cret\r\nContent-Length: 2\r\n\r\nok";
        Act::Answer(made.into())
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    assert_eq!(proxy.ask(order("old", "", "{}")).await.status(), 201);
    drop(proxy);
    let proxy = Proxy::start(&folder, &upstream.url(), &["--keep-answers", "tombstone"]).await;
    assert_eq!(proxy.ask(order("old", "", "{}")).await.one("x-token"), Some("s3cret"));
    assert_eq!(proxy.ask(order("new", "", "{}")).await.one("x-token"), Some("s3cret"));
    let retry = proxy.ask(order("new", "", "{}")).await;
    assert_eq!((code(&retry), retry.one("location")), ("replay-unavailable".to_owned(), Some("/orders/7")));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_tombstone_with_cookies_to_keep_is_refused_by_both_flags() {
    let folder = Folder::new();
    let ended = folder
        .run(&[
            "proxy",
            "--upstream",
            "http://127.0.0.1:9",
            "--keep-answers",
            "tombstone",
            "--keep-set-cookie",
        ])
        .await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("--keep-answers") && ended.err.contains("--keep-set-cookie"), "{}", ended.err);
}

#[tokio::test]
async fn limits_and_rules_reach_the_engine() {
    let upstream = Upstream::start(|request| {
        let status = request.message.one("x-status").and_then(|status| status.parse().ok()).unwrap_or(200);
        Act::Answer(answer(status, "an answer of some length"))
    })
    .await
    .unwrap();
    let folder = Folder::new();
    let flags = ["--body-limit", "16", "--capture-limit", "8", "--keep", "everything"];
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    assert_eq!(code(&proxy.ask(order("large", "", &"1".repeat(17))).await), "content-too-large");
    assert_eq!(proxy.ask(order("k", "", "{}")).await.status(), 200);
    assert_eq!(code(&proxy.ask(order("k", "", "{}")).await), "replay-unavailable");
    assert_eq!(proxy.ask(order("e", "X-Status: 500\r\n", "{}")).await.status(), 500);
    assert_eq!(code(&proxy.ask(order("e", "X-Status: 500\r\n", "{}")).await), "replay-unavailable");
    assert_eq!(upstream.count(), 2);
}
