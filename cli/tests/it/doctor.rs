//! A doctor is believed: what is broken has its exit code and its fix, and what is well is not called ill.

use crate::servers::{DURABLE, OwnMariaDb, Postgres, Redis, at_mariadb, free_port};
use crate::support::{Ended, Folder};

const PASSWORD: &str = "hunter2";

async fn doctor(args: &[&str]) -> Ended {
    let folder = Folder::new();
    let ended = folder.run(&[&["doctor", "--rounds", "5"], args].concat()).await;
    assert!(!ended.out.contains(PASSWORD) && !ended.err.contains(PASSWORD), "{ended:?}");
    ended
}

/// The findings that are not fine, but for how long something took: others use this machine, too.
fn troubles(report: &serde_json::Value) -> Vec<&serde_json::Value> {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["severity"] != "fine" && finding["about"] != "latency").collect()
}

async fn healthy(url: &str) {
    let ended = doctor(&[url, "--json"]).await;
    let report = ended.json();
    assert!(troubles(&report).is_empty(), "{report:#}");
    assert_eq!(report["self_test"], "passed");
    assert!(report["clock"]["uncertainty_ms"].as_i64().is_some_and(|ms| ms >= 1), "{report:#}");
    assert_eq!(report["latency"]["rounds"], 5);
    assert!(report["latency"]["claim_p99_us"].as_u64() >= report["latency"]["claim_median_us"].as_u64());
    let slow = report["verdict"] == "findings";
    assert_eq!(ended.code, i32::from(slow), "{report:#}");
    // It leaves nothing behind.
    let listed = Folder::new().run(&["keys", "list", "--store", url, "--json"]).await;
    assert_eq!(listed.json()["records"].as_array().map(Vec::len), Some(0), "{listed:?}");
}

/// Its exit code, and a finding whose text and whose fix say this.
async fn ill(args: &[&str], code: i32, what: &str, fix: &str) {
    let ended = doctor(&[args, &["--json"]].concat()).await;
    let report = ended.json();
    assert_eq!(ended.code, code, "{args:?}: {report:#}");
    assert_eq!(report["verdict"], if code == 1 { "findings" } else { "unusable" });
    let said = |finding: &&serde_json::Value| {
        let says =
            |member: &str, text: &str| finding[member].as_str().is_some_and(|said| said.contains(text));
        says("what", what) && says("fix", fix)
    };
    assert!(troubles(&report).iter().any(said), "{args:?}: {what:?}, {fix:?} is not said: {report:#}");
    let human = doctor(args).await;
    assert_eq!(human.code, code, "{human:?}");
    assert!(human.out.contains(what) && human.out.contains("fix: ") && human.out.contains(fix), "{human:?}");
}

#[tokio::test]
async fn postgres_well_and_ill() {
    let Some(server) = Postgres::start(&[]).await.unwrap() else { return };
    let url = server.url();
    ill(&[&url], 5, "version 0 of", "change what is named").await;
    assert_eq!(Folder::new().run(&["migrate", &url]).await.code, 0);
    healthy(&url).await;
    let as_user = |user: &str, database: &str| {
        format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/{database}", server.port())
    };
    server
        .sql("CREATE ROLE asks_password LOGIN PASSWORD 'another'; CREATE ROLE nobody LOGIN; CREATE ROLE looks LOGIN; \
              GRANT USAGE ON SCHEMA semel TO looks; GRANT SELECT ON semel.meta TO looks")
        .unwrap();
    ill(&[&as_user("asks_password", "postgres")], 5, "check name, password", "the URL, the user's rights")
        .await;
    ill(&[&as_user("nobody", "postgres")], 5, "rights", "the user's rights").await;
    ill(&[&as_user("looks", "postgres")], 5, "GRANT SELECT, INSERT", "the user's rights").await;
    ill(&[&as_user("postgres", "nowhere")], 5, "no such database", "the URL").await;
    ill(&[&url, "--schema", "elsewhere"], 5, "run `semel migrate`", "the schema").await;

    server.sql("DROP INDEX semel.record_due; ALTER TABLE semel.record ALTER COLUMN op TYPE text").unwrap();
    for mend in [
        "CREATE INDEX record_due ON \"semel\".record (due) WHERE due IS NOT NULL",
        "ALTER TABLE \"semel\".record ALTER COLUMN op TYPE bytea USING op::bytea",
    ] {
        ill(&[&url], 5, mend, "change what is named").await;
        server.sql(mend).unwrap();
    }

    let standby = server.standby(server.address()).await.unwrap();
    server.until("SELECT count(*) FROM pg_stat_replication", "1").await.unwrap();
    ill(&[&standby.url()], 5, "is a standby", "connect to the primary").await;
    ill(&[&url], 1, "follow asynchronously", "synchronous_standby_names").await;
    drop(standby);

    server.sql("UPDATE semel.meta SET version = 99, oldest = 99").unwrap();
    ill(&[&url], 5, "version 99", "update this program").await;
    let nobody = format!("postgres://semel:{PASSWORD}@127.0.0.1:{}/app", free_port());
    ill(&[&nobody], 5, "cannot be reached", "start the server").await;
}

#[tokio::test]
async fn postgres_that_does_not_sync() {
    let Some(server) = Postgres::start(&["fsync=off", "full_page_writes=off"]).await.unwrap() else { return };
    let url = server.url();
    assert_eq!(Folder::new().run(&["migrate", &url]).await.code, 0);
    ill(&[&url], 1, "fsync is off", "set fsync = on").await;
    ill(&[&url], 1, "full_page_writes is off", "set full_page_writes = on").await;
}

#[tokio::test]
async fn mariadb_well_and_ill() {
    let durable = ["--log-bin=bin", "--binlog-format=ROW", "--sync-binlog=1", "--server-id=1"];
    let Some(server) = OwnMariaDb::start(&durable).await.unwrap() else { return };
    let (url, address) = (server.url(), server.address().to_string());
    let sql = |sql: &str| at_mariadb(&address, "app", sql).unwrap();
    ill(&[&url], 5, "version 0 of", "change what is named").await;
    assert_eq!(Folder::new().run(&["migrate", &url]).await.code, 0);
    healthy(&url).await;
    let as_user = |user: &str, database: &str| format!("mysql://{user}:{PASSWORD}@{address}/{database}");
    sql(&format!(
        "CREATE USER asks_password IDENTIFIED BY 'another'; CREATE USER nobody IDENTIFIED BY '{PASSWORD}'; \
         CREATE USER looks IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON app.* TO looks"
    ));
    ill(&[&as_user("asks_password", "app")], 5, "check name and password", "the URL, the user's rights")
        .await;
    ill(&[&as_user("nobody", "app")], 5, "may not use this database", "the user's rights").await;
    ill(&[&as_user("looks", "app")], 5, "GRANT SELECT, INSERT", "the user's rights").await;
    ill(&[&format!("mysql://root@{address}/nowhere")], 5, "no such database", "the URL").await;
    ill(&[&url, "--schema", "elsewhere_"], 5, "run `semel migrate`", "the schema").await;

    sql("DROP INDEX record_due ON semel_record; ALTER TABLE semel_record MODIFY COLUMN op TEXT; \
         ALTER TABLE semel_mark ENGINE=MyISAM");
    for mend in [
        "CREATE INDEX record_due ON semel_record (due)",
        "ALTER TABLE semel_record MODIFY COLUMN op BINARY(16)",
        "ALTER TABLE semel_mark ENGINE=InnoDB",
    ] {
        ill(&[&url], 5, mend, "change what is named").await;
        sql(mend);
    }

    let replica = OwnMariaDb::start(&["--server-id=2"]).await.unwrap().unwrap();
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root', \
         MASTER_USE_GTID = slave_pos; START SLAVE",
        server.address().port()
    );
    at_mariadb(&replica.address().to_string(), "app", &follow).unwrap();
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !sql("SHOW STATUS LIKE 'Slaves_connected'").trim().ends_with('1') {
        assert!(std::time::Instant::now() < give_up, "the replica does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    ill(&[&url], 1, "1 replicas follow asynchronously", "rpl_semi_sync_master_enabled").await;
    drop(replica);

    sql("UPDATE semel_meta SET version = 99");
    ill(&[&url], 5, "version 99", "update this program").await;
    sql("DROP TABLE semel_meta");
    ill(&[&url], 5, "restore it from a backup", "the schema").await;
    let nobody = format!("mysql://semel:{PASSWORD}@127.0.0.1:{}/app", free_port());
    ill(&[&nobody], 5, "cannot be reached", "start the server").await;
}

#[tokio::test]
async fn mariadb_that_does_not_sync() {
    let settings = ["--innodb-flush-log-at-trx-commit=2", "--log-bin=bin", "--sync-binlog=0"];
    let Some(server) = OwnMariaDb::start(&settings).await.unwrap() else { return };
    let url = server.url();
    assert_eq!(Folder::new().run(&["migrate", &url]).await.code, 0);
    ill(&[&url], 1, "innodb_flush_log_at_trx_commit is 2", "set innodb_flush_log_at_trx_commit = 1").await;
    ill(&[&url], 1, "sync_binlog is 0", "set sync_binlog = 1").await;
}

#[tokio::test]
async fn redis_well_and_ill() {
    let Some(durable) = Redis::start(DURABLE) else { return };
    healthy(&durable.url()).await;
    let wrong = format!("redis://nobody:{PASSWORD}@127.0.0.1:{}/0", durable.port);
    ill(&[&wrong], 5, "user or the password", "the URL, the user's rights").await;
    for (settings, code, what, fix) in [
        (&["--save", ""][..], 1, "keeps nothing on disk", "appendfsync always"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], 1, "once a second", "appendfsync always"),
        (
            &["--maxmemory-policy", "allkeys-lru"],
            5,
            "maxmemory-policy is allkeys-lru",
            "the server's setting",
        ),
        (&["--replicaof", "127.0.0.1 1"], 5, "is a replica", "change what is named"),
        (
            &["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-evalsha"],
            5,
            "may not do",
            "the user's rights",
        ),
    ] {
        let Some(server) = Redis::start(settings) else { return };
        ill(&[&server.url()], code, what, fix).await;
    }
    let nobody = format!("redis://:{PASSWORD}@127.0.0.1:{}/0", free_port());
    ill(&[&nobody], 5, "refuses connections", "start the server").await;
}

#[tokio::test]
async fn files_and_memory_well_and_ill() {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.path().join("semel.db").display());
    ill(&[&url], 5, "does not exist", "change what is named").await;
    assert!(folder.files().is_empty(), "the doctor made a file");
    assert_eq!(folder.run(&["migrate", &url]).await.code, 0);
    healthy(&url).await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(folder.path().join("semel.db"), open).unwrap();
        ill(&[&url], 1, "its mode is 644", "chmod 600").await;
    }
    let file = rusqlite::Connection::open(folder.path().join("semel.db")).unwrap();
    file.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(file);
    ill(&[&url], 5, "version 99", "update this program").await;
    ill(&["memory:"], 1, "a restart forgets every key", "sqlite:PATH").await;
    let unknown = doctor(&[&format!("nosuch://semel:{PASSWORD}@db/x")]).await;
    assert_eq!(unknown.code, 3, "{unknown:?}");
    assert!(unknown.err.contains("STORE_URL: unknown store \"nosuch\""), "{unknown:?}");
}
