//! What cannot work is named in one line, has an exit code of its own, and leaves nothing behind.

use std::net::TcpListener;

use crate::support::Folder;

const UP: &str = "http://127.0.0.1:9";

/// Arguments, exit code, and what the line on standard error has to name.
const REFUSED: &[(&[&str], i32, &[&str])] = &[
    (&["proxy"], 2, &["--upstream"]),
    (&["prxy"], 2, &["proxy"]),
    (&["proxy", "--upstream", UP, "--lese", "30s"], 2, &["--lese", "--lease"]),
    (&["proxy", "--upstream", UP, "--lease", "30"], 2, &["--lease", "30s"]),
    (&["proxy", "--upstream", UP, "--body-limit", "lots"], 2, &["--body-limit", "1MiB"]),
    (&["proxy", "--upstream", UP, "--listen", "8080"], 2, &["--listen", "127.0.0.1:8080"]),
    (&["demo", "--listen", "shop.example:80"], 2, &["--listen", "127.0.0.1:8080"]),
    (&["proxy", "--upstream", UP, "--methods", "POST,,PATCH"], 2, &["--methods", "POST,PATCH"]),
    (&["proxy", "--upstream", UP, "--lease", "0s"], 3, &["--lease is 0s:"]),
    (&["proxy", "--upstream", UP, "--admin", "no"], 2, &["--admin", "off"]),
    (&["proxy", "--upstream", UP, "--scope", "tenant"], 2, &["--scope", "header:NAME"]),
    (&["proxy", "--upstream", UP, "--recovery", "retry"], 2, &["--recovery", "hold"]),
    (&["proxy", "--upstream", UP, "--keep", "all"], 2, &["--keep", "definitive"]),
    (&["proxy", "--upstream", UP, "--key-format", "ulid"], 2, &["--key-format", "uuid"]),
    (&["proxy", "--upstream", UP, "--exclude", "meta"], 2, &["--exclude", "/meta"]),
    (&["proxy", "--upstream", UP, "--exclude", "/ts,"], 2, &["--exclude", "--fingerprint off"]),
    (&["proxy", "--upstream", UP, "--exclude", "$..a["], 2, &["--exclude", "RFC 9535"]),
    (&["proxy", "--upstream", UP, "--exclude", "$.a[?@.b]"], 2, &["--exclude", "the filter", "@['b']"]),
    (&["proxy", "--upstream", UP, "--exclude", "$.a[1:]"], 2, &["--exclude", "the slice"]),
    (&["proxy", "--upstream", UP, "--workers", "0"], 2, &["--workers"]),
    (&["proxy", "--upstream", "localhost:3000"], 3, &["--upstream", "http://"]),
    (&["proxy", "--upstream", "https://shop.example"], 3, &["--upstream", "https", "h2c://"]),
    (&["proxy", "--upstream", "http://u:p@shop.example"], 3, &["--upstream", "user name"]),
    (
        &["proxy", "--upstream", UP, "--store", "mongodb://u:hunter2@db"],
        3,
        &["--store", "mongodb", "sqlite:PATH"],
    ),
    (&["proxy", "--upstream", UP, "--store", "semel.db"], 3, &["--store", "sqlite:"]),
    (&["proxy", "--upstream", UP, "--max-run", "5s"], 3, &["--max-run", "--lease"]),
    (&["proxy", "--upstream", UP, "--wait", "20m"], 3, &["--wait (20m)", "--max-run (10m)"]),
    (
        &["proxy", "--upstream", UP, "--wait", "9s", "--prefer-wait", "5s"],
        3,
        &["--prefer-wait (5s)", "--wait (9s)"],
    ),
    (
        &["proxy", "--upstream", UP, "--exclude", "$..ts", "--fingerprint", "off"],
        3,
        &["--exclude ($..['ts'])", "--fingerprint is off"],
    ),
    (
        &["proxy", "--upstream", UP, "--exclude", "/ts", "--fingerprint", "raw"],
        3,
        &["--exclude (/ts)", "raw"],
    ),
    (
        &["proxy", "--upstream", UP, "--scope", "header:Idempotency-Key"],
        3,
        &["the field of keys is idempotency-key", "--scope (header idempotency-key)"],
    ),
    (
        &[
            "proxy",
            "--upstream",
            UP,
            "--key-format",
            "uuidv7",
            "--keep-records",
            "2m",
            "--keep-bodies",
            "1m",
            "--max-run",
            "1m",
        ],
        3,
        &["--key-format is UUIDv7", "--keep-records is 2m"],
    ),
    (
        &["proxy", "--upstream", UP, "--body-limit", "99GB"],
        3,
        &["--body-limit (92.2 GiB)", "--max-bytes-in-flight (256 MiB)"],
    ),
    (
        &["proxy", "--upstream", UP, "--listen", "127.0.0.1:8097", "--admin", "127.0.0.1:8097"],
        3,
        &["--listen and --admin are both 127.0.0.1:8097"],
    ),
    (&["proxy", "--upstream", UP, "--store", "sqlite://a/b.db"], 3, &["sqlite:/a/b.db", "sqlite:a/b.db"]),
    (&["proxy", "--upstream", UP, "--methods", "GET"], 3, &["--methods", "GET"]),
    (&["proxy", "--upstream", UP, "--keep-records", "1h"], 3, &["--keep-records (1h)", "--keep-bodies (1d)"]),
    (&["proxy", "--upstream", UP, "--upstream-timeout", "0"], 3, &["--upstream-timeout"]),
    (&["proxy", "--upstream", UP, "--connect-timeout", "0"], 3, &["--connect-timeout"]),
    (&["proxy", "--upstream", UP, "--listen", "192.0.2.1:0"], 3, &["--listen", "192.0.2.1"]),
    (&["proxy", "--upstream", UP, "--capture-limit", "2GB"], 5, &["2000000000"]),
    (&["proxy", "--upstream", UP, "--store", "sqlite:nowhere/semel.db"], 5, &["nowhere/semel.db", "folder"]),
    (&["proxy", "--upstream", UP, "--store", "sqlite:."], 5, &["is not a file"]),
    (&["keys", "list"], 5, &["sqlite:semel.db", "does not exist", "--store"]),
    (&["keys", "list", "--store", "memory:"], 3, &["memory:", "sqlite:PATH"]),
    (&["keys", "list", "--state", "lost"], 2, &["--state", "unknown"]),
    (&["keys", "list", "--after", "ab"], 2, &["--after"]),
    (&["keys", "show"], 2, &["ID", "--key"]),
    (&["keys", "resolve", "abcdef"], 2, &["--applied", "--not-applied"]),
    (&["keys", "resolve", "abcdef", "--applied", "--not-applied"], 2, &["--applied"]),
    (&["keys", "resolve", "abcdef", "--applied", "--header", "A: b"], 2, &["--status"]),
    (&["keys", "resolve", "abcdef", "--applied", "--status", "100"], 2, &["--status", "200 to 599"]),
    (&["keys", "resolve", "abcdef", "--applied", "--status", "199"], 2, &["200 to 599"]),
    (&["keys", "resolve", "abcdef", "--applied", "--status", "600"], 2, &["200 to 599"]),
    (&["keys", "resolve", "abcdef", "--applied", "--status", "999"], 2, &["200 to 599"]),
    (
        &["keys", "resolve", "abcdef", "--applied", "--keep-records", "1h"],
        2,
        &["--keep-records", "--keep-bodies"],
    ),
];

#[tokio::test]
async fn each_is_named_with_its_fix_and_nothing_is_written() {
    for (args, code, named) in REFUSED {
        let folder = Folder::new();
        let mut args = args.to_vec();
        if args[0] == "proxy" && code != &2 {
            // Not the fixed ports: something may listen there.
            for (flag, value) in [("--listen", "127.0.0.1:0"), ("--admin", "off")] {
                if !args.contains(&flag) {
                    args.extend([flag, value]);
                }
            }
        }
        let ended = folder.run(&args).await;
        assert_eq!(ended.code, *code, "{args:?}: {ended:?}");
        assert_eq!(ended.out, "", "{args:?}");
        for name in *named {
            assert!(ended.err.contains(name), "{args:?} does not name {name}: {}", ended.err);
        }
        if *code != 2 {
            assert!(
                ended.err.starts_with("semel: ") && ended.err.lines().count() == 1,
                "{args:?}: {}",
                ended.err
            );
        }
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        assert!(folder.files().is_empty(), "{args:?} left {:?}", folder.files().keys());
    }
}

#[tokio::test]
async fn an_address_in_use_is_found_before_the_store_is_made() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, admin, flag) in
        [(address.as_str(), "off", "--listen"), ("127.0.0.1:0", address.as_str(), "--admin")]
    {
        let folder = Folder::new();
        let ended = folder.run(&["proxy", "--upstream", UP, "--listen", listen, "--admin", admin]).await;
        assert_eq!(ended.code, 4, "{ended:?}");
        assert!(ended.err.contains(flag) && ended.err.contains(&address), "{}", ended.err);
        assert_eq!((ended.err.lines().count(), ended.out.as_str()), (1, ""));
        assert!(folder.files().is_empty());
    }
}

/// Makes a file as a case needs it.
type Make = fn(&std::path::Path);

#[tokio::test]
async fn files_that_are_not_ours_stay_as_they_are() {
    let cases: [(&str, Make, &str); 3] = [
        (
            "text",
            |path| std::fs::write(path, "a shopping list ".repeat(20)).unwrap(),
            "not a SQLite database",
        ),
        (
            "another program's",
            |path| {
                let file = rusqlite::Connection::open(path).unwrap();
                file.execute_batch("CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('x')")
                    .unwrap();
            },
            "another program's database",
        ),
        (
            "a newer version's",
            |path| {
                drop(semel_store_sqlite::SqliteStore::open(path).unwrap());
                let file = rusqlite::Connection::open(path).unwrap();
                file.execute_batch("PRAGMA user_version = 99").unwrap();
            },
            "update this program",
        ),
    ];
    for (name, make, said) in cases {
        let folder = Folder::new();
        make(&folder.path().join("semel.db"));
        let before = folder.files();
        let proxy: &[&str] = &["proxy", "--upstream", UP, "--listen", "127.0.0.1:0", "--admin", "off"];
        for args in [proxy, &["keys", "list"]] {
            let ended = folder.run(args).await;
            assert_eq!(ended.code, 5, "{name}: {ended:?}");
            assert!(ended.err.contains(said) && ended.err.contains("semel.db"), "{name}: {}", ended.err);
            assert_eq!((ended.err.lines().count(), ended.out.as_str()), (1, ""), "{name}");
            assert!(folder.files() == before, "{name}: the file was changed, or others were made");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_takes_no_files_is_said() {
    let folder = Folder::new();
    let args = [
        "proxy",
        "--upstream",
        UP,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--store",
        "sqlite:/proc/x.db",
    ];
    let ended = folder.run(&args).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.err.contains("/proc/x.db") && ended.err.contains("permissions"), "{}", ended.err);
}

/// An empty file is what a failed copy leaves: to look at it must not make a store of it.
#[tokio::test]
async fn looking_at_an_empty_file_makes_no_store_of_it() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("semel.db"), "").unwrap();
    let ended = folder.run(&["keys", "list"]).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(folder.files().values().map(Vec::len).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn help_and_version_are_answers() {
    let folder = Folder::new();
    for args in [
        &["--help"][..],
        &["--version"],
        &["proxy", "--help"],
        &["keys", "resolve", "--help"],
        &["demo", "-h"],
        &["help"],
        &["help", "proxy"],
        &["keys", "help", "resolve"],
    ] {
        let ended = folder.run(args).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{args:?}");
        assert!(!ended.out.is_empty());
    }
    let help = folder.run(&["--help"]).await.out;
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  ", "6  ", "130  "] {
        assert!(help.contains(code), "{help}");
    }
    let help = folder.run(&["help", "keys", "resolve"]).await.out;
    assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains("STILL be going on"), "{help}");
    let help = folder.run(&["proxy", "--help"]).await.out;
    assert_eq!(help, folder.run(&["help", "proxy"]).await.out);
    assert!(!help.contains("end-with-stdin"), "{help}");
    for word in
        ["[default: 30s]", "SEMEL_WAIT", "Examples:", "semel keys list --state unknown", "MB (1,000,000)"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}
