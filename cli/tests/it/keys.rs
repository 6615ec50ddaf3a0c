//! `semel keys` beside a running proxy on the same file.

use crate::support::{Act, Folder, Proxy, Upstream, answer, code, order, try_ask, until};

/// `/orders` with `X-Hang` never answers, with `X-Break` hangs up, else it is made.
async fn shop() -> Upstream {
    Upstream::start(|request| {
        if request.message.one("x-hang").is_some() {
            Act::Never
        } else if request.message.one("x-break").is_some() {
            Act::HangUp
        } else {
            Act::Answer(answer(201, "made"))
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn list_pages_through_and_filters() {
    let upstream = shop().await;
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    for key in ["a", "b", "c", "d", "e"] {
        proxy.ask(order(key, "", "{}")).await;
    }
    proxy.ask(order("x", "X-Break: 1\r\n", "{}")).await;

    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut args = vec!["keys", "list", "--json", "--limit", "4"];
        if let Some(after) = &after {
            args.extend(["--after", after]);
        }
        let page = folder.run(&args).await.json();
        ids.extend(
            page["records"]
                .as_array()
                .unwrap()
                .iter()
                .map(|record| record["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(ids.len(), 6);
    assert!(ids.is_sorted());

    for (state, count) in [("completed", 5), ("unknown", 1), ("in-flight", 0), ("released", 0)] {
        let listed = folder.run(&["keys", "list", "--json", "--state", state]).await.json();
        assert_eq!(listed["records"].as_array().unwrap().len(), count, "{state}");
    }
    let table = folder.run(&["keys", "list", "--limit", "2"]).await.out;
    assert!(table.starts_with("ID ") && table.contains("there are more: add --after "), "{table}");
    assert_eq!(folder.run(&["keys", "list", "--state", "released"]).await.out, "no released records\n");
}

#[tokio::test]
async fn a_record_is_found_by_id_by_its_beginning_and_by_key() {
    let upstream = shop().await;
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    proxy.ask(order("k", "Authorization: Bearer a\r\n", "{}")).await;
    let url = upstream.url();
    let by_key = folder.run(&["keys", "show", "--json", "--key", "\"k\"", "--upstream", &url]).await.json();
    let id = by_key["id"].as_str().unwrap();
    for name in [id, &id[..6], &id[..16].to_uppercase()] {
        assert_eq!(folder.run(&["keys", "show", "--json", name]).await.json(), by_key, "{name}");
    }
    assert_eq!(
        (&by_key["state"], &by_key["status"], &by_key["body_bytes"]),
        (&"completed".into(), &201.into(), &4.into())
    );
    assert_eq!((&by_key["bound"], &by_key["attempt"]), (&true.into(), &1.into()));

    let page = folder.run(&["keys", "show", id]).await.out;
    assert!(page.contains("the kept answer: 201 Created") && page.contains("one caller"), "{page}");
    let other = if id.starts_with('0') { "ffffff" } else { "000000" };
    for (args, code) in [
        (&["keys", "show", other][..], 1),
        (&["keys", "show", "12345"], 2),
        (&["keys", "show", "nothex"], 2),
        (&["keys", "show", "--key", "k"], 2),
        (&["keys", "show", "--key", "other", "--upstream", &url], 1),
    ] {
        let ended = folder.run(args).await;
        assert_eq!((ended.code, ended.err.lines().count()), (code, 1), "{args:?}: {ended:?}");
    }
}

#[tokio::test]
async fn what_somebody_resolves_as_applied_is_replayed() {
    let upstream = shop().await;
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let url = upstream.url();
    for key in ["full", "bare"] {
        proxy.ask(order(key, "X-Break: 1\r\n", "{}")).await;
    }
    std::fs::write(folder.path().join("body"), b"\x00made\xff").unwrap();
    let args = ["keys", "resolve", "--key", "full", "--upstream", &url, "--applied", "--status", "201"];
    let answer = ["--header", "Location: /orders/7", "--header", "Set-Cookie: a=b", "--body-file", "body"];
    let resolved = folder.run(&[&args[..], &answer[..]].concat()).await;
    assert_eq!(resolved.code, 0, "{resolved:?}");
    assert!(resolved.out.contains("completed"), "{resolved:?}");
    let retry = proxy.ask(order("full", "X-Break: 1\r\n", "{}")).await;
    assert_eq!((retry.status(), retry.body.as_slice()), (201, &b"\x00made\xff"[..]));
    assert_eq!((retry.one("location"), retry.one("idempotency-replayed")), (Some("/orders/7"), Some("true")));
    assert_eq!(retry.one("set-cookie"), None);

    assert_eq!(
        folder.run(&["keys", "resolve", "--key", "bare", "--upstream", &url, "--applied"]).await.code,
        0
    );
    assert_eq!(code(&proxy.ask(order("bare", "X-Break: 1\r\n", "{}")).await), "replay-unavailable");
    assert_eq!(upstream.count(), 2);

    // Settled is settled.
    let again = folder.run(&["keys", "resolve", "--key", "full", "--upstream", &url, "--not-applied"]).await;
    assert_eq!((again.code, again.out.as_str()), (1, ""), "{again:?}");
    assert!(again.err.contains("is completed"), "{}", again.err);
}

/// Whoever releases a record of a run that only took long has two runs: that is said where it is done.
#[tokio::test]
async fn a_run_past_its_longest_goes_on_beside_the_retry_that_was_let_through_and_that_is_said() {
    let upstream = shop().await;
    let folder = Folder::new();
    let flags = ["--lease", "1s", "--max-run", "1s"];
    let proxy = Proxy::start(&folder, &upstream.url(), &flags).await;
    let hanging = order("k", "X-Hang: 1\r\n", "{}");
    assert!(proxy.ask(&hanging).await.status() >= 500);
    let url = upstream.url();
    let which = ["--key", "k", "--upstream", &url];
    // The last renewal may have come just before: then the lease still runs for a moment.
    until("its lease is over and said so", async || {
        let shown = folder.run(&[&["keys", "show"], &which[..]].concat()).await.out;
        shown.contains("unknown") && shown.contains("still going on past --max-run")
    })
    .await;

    let resolved = folder.run(&[&["keys", "resolve", "--not-applied"], &which[..]].concat()).await;
    assert_eq!(resolved.code, 0, "{resolved:?}");
    assert!(resolved.out.contains("STILL be going on") && resolved.out.contains("beside it"), "{resolved:?}");
    assert_eq!(proxy.ask(order("k", "", "{}")).await.status(), 201);
    assert_eq!(upstream.count(), 2);
}

/// Settled with a status that cannot be sent, a record is stuck for its whole life.
#[tokio::test]
async fn a_body_is_refused_where_its_status_has_none() {
    let upstream = shop().await;
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let url = upstream.url();
    proxy.ask(order("k", "X-Break: 1\r\n", "{}")).await;
    std::fs::write(folder.path().join("body"), "made").unwrap();
    let args = ["keys", "resolve", "--key", "k", "--upstream", &url, "--applied", "--status", "204"];
    let refused = folder.run(&[&args[..], &["--body-file", "body"]].concat()).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--body-file"), "{refused:?}");
    assert_eq!(folder.run(&args).await.code, 0);
    assert_eq!(proxy.ask(order("k", "X-Break: 1\r\n", "{}")).await.status(), 204);
}

/// Deleting a live record lets its request run a second time: nobody does that by a slip.
#[tokio::test]
async fn delete_needs_force_for_what_may_have_happened() {
    let upstream = shop().await;
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let (url, address) = (upstream.url(), proxy.address);
    proxy.ask(order("done", "", "{}")).await;
    proxy.ask(order("unknown", "X-Break: 1\r\n", "{}")).await;
    let running = tokio::spawn(async move { try_ask(address, order("live", "X-Hang: 1\r\n", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 3).await);

    for key in ["unknown", "live"] {
        let delete = ["keys", "delete", "--upstream", &url, "--key", key];
        let refused = folder.run(&delete).await;
        assert_eq!(refused.code, 1, "{key}: {refused:?}");
        assert!(refused.err.contains("--force") && refused.err.contains("second time"), "{}", refused.err);
        assert_eq!(
            folder.run(&[&delete[..], &["--force", "--json"]].concat()).await.json()["deleted"],
            true,
            "{key}"
        );
        assert_eq!(folder.run(&delete).await.code, 1);
    }
    let deleted = folder.run(&["keys", "delete", "--upstream", &url, "--key", "done"]).await;
    assert_eq!(deleted.code, 0, "{deleted:?}");
    assert_eq!(proxy.ask(order("done", "", "{}")).await.one("idempotency-replayed"), None);
    assert_eq!(upstream.count(), 4);
    running.abort();
}
