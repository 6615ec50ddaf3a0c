//! Schemas are made once, by whoever may, and what is printed is what is run.

use crate::servers::{OwnMariaDb, Postgres, at_mariadb, free_port};
use crate::support::Folder;

/// All that a schema has, in an order of its own.
const SHAPE: &str = "
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
        || a.attstorage::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS line
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE n.nspname = 'NAME' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT replace(pg_get_constraintdef(k.oid), 'NAME', '') FROM pg_constraint k
    JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname = 'NAME'
    UNION ALL SELECT version::text FROM NAME.meta
) AS lines";

#[tokio::test]
async fn a_schema_is_made_once_and_printed_as_it_is_made() {
    let Some(server) = Postgres::start(&["fsync=off"]).await.unwrap() else { return };
    let (url, folder) = (server.url(), Folder::new());
    let made = folder.run(&["migrate", &url]).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.contains("made its schema, version 2"), "{made:?}");
    let again = folder.run(&["migrate", &url]).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("is up to date"), "{again:?}");

    // As the version before has left it.
    let back = "DROP INDEX semel.record_principal; ALTER TABLE semel.meta DROP COLUMN oldest; \
                UPDATE semel.meta SET version = 1";
    server.sql(back).unwrap();
    let pending = folder.run(&["doctor", &url]).await;
    assert_eq!(pending.code, 5, "{pending:?}");
    assert!(pending.out.contains("has version 1 of 2: run `semel migrate`"), "{pending:?}");
    let brought = folder.run(&["migrate", &url]).await;
    assert!(brought.out.contains("from version 1 to 2"), "{brought:?}");

    // Printed without a server, and run by other means.
    let nowhere = format!("postgres://semel:hunter2@127.0.0.1:{}/app", free_port());
    let printed = folder.run(&["migrate", &nowhere, "--schema", "printed", "--print"]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(!printed.out.contains("hunter2"), "{printed:?}");
    server.sql(&printed.out).unwrap();
    let shape = |name: &str| server.sql(&SHAPE.replace("NAME", name)).unwrap();
    assert_eq!(shape("printed"), shape("semel"));
    assert!(shape("semel").lines().count() > 25, "{}", shape("semel"));
    let done = folder.run(&["migrate", &url, "--schema", "printed"]).await;
    assert!(done.out.contains("is up to date"), "{done:?}");
    assert_eq!(folder.run(&["keys", "list", "--store", &url, "--schema", "printed"]).await.code, 0);

    server.sql("CREATE ROLE nobody LOGIN; UPDATE semel.meta SET version = 99, oldest = 99").unwrap();
    for (url, schema, says) in [
        (format!("postgres://nobody:hunter2@127.0.0.1:{}/postgres", server.port()), "other", "grant CREATE"),
        (nowhere, "semel", "cannot be reached"),
        (url.clone(), "semel", "update this program"),
        (url, "no-name", "no name for a schema"),
    ] {
        let refused = folder.run(&["migrate", &url, "--schema", schema]).await;
        assert_eq!(refused.code, 5, "{refused:?}");
        assert!(refused.err.contains(says) && refused.err.lines().count() == 1, "{says}: {refused:?}");
        assert!(!refused.err.contains("hunter2") && refused.out.is_empty(), "{refused:?}");
    }
}

#[tokio::test]
async fn tables_in_mariadb_are_made_once_and_printed_as_they_are_made() {
    let Some(server) = OwnMariaDb::start(&[]).await.unwrap() else { return };
    let (url, address, folder) = (server.url(), server.address().to_string(), Folder::new());
    let made = folder.run(&["migrate", &url]).await;
    assert!(made.code == 0 && made.out.contains("made its schema, version 2"), "{made:?}");
    let again = folder.run(&["migrate", &url]).await;
    assert!(again.code == 0 && again.out.contains("is up to date"), "{again:?}");

    // Printed without a server, run by other means, and taken for what it is.
    let nowhere = format!("mysql://semel:hunter2@127.0.0.1:{}/app", free_port());
    let printed = folder.run(&["migrate", &nowhere, "--schema", "printed_", "--print"]).await;
    assert!(printed.code == 0 && !printed.out.contains("hunter2"), "{printed:?}");
    let sql = |sql: &str| at_mariadb(&address, "app", sql).unwrap();
    sql(&printed.out);
    for table in ["meta", "record", "fence", "slot", "mark"] {
        let shape = |prefix: &str| sql(&format!("SHOW CREATE TABLE {prefix}{table}")).replace(prefix, "");
        assert_eq!(shape("printed_"), shape("semel_"), "{table}");
    }
    let done = folder.run(&["migrate", &url, "--schema", "printed_"]).await;
    assert!(done.out.contains("is up to date"), "{done:?}");
    let doctor = folder.run(&["doctor", "--rounds", "1", &url, "--schema", "printed_"]).await;
    assert!(doctor.code < 2 && doctor.out.contains("the tables printed_* have version 2"), "{doctor:?}");

    sql("DROP TABLE printed_meta");
    let refused = folder.run(&["migrate", &url, "--schema", "printed_"]).await;
    assert!(refused.code == 5 && refused.err.contains("restore it from a backup"), "{refused:?}");
}

#[tokio::test]
async fn files_are_made_and_stores_without_a_schema_say_so() {
    let folder = Folder::new();
    let made = folder.run(&["migrate", "sqlite:semel.db"]).await;
    assert_eq!((made.code, made.out.contains("made its schema, version 1")), (0, true), "{made:?}");
    let before = folder.files();
    let again = folder.run(&["migrate", "sqlite:semel.db"]).await;
    assert_eq!((again.code, again.out.contains("is up to date")), (0, true), "{again:?}");
    assert_eq!(folder.files().get("semel.db"), before.get("semel.db"));
    let printed = folder.run(&["migrate", "sqlite:nowhere/semel.db", "--print"]).await;
    assert!(printed.out.contains("CREATE TABLE record"), "{printed:?}");
    // Nothing answers there, and nothing has to.
    let redis = format!("redis://:hunter2@127.0.0.1:{}/0", free_port());
    for url in ["memory:", &redis] {
        let told = folder.run(&["migrate", url]).await;
        assert_eq!((told.code, told.out.contains("there is nothing to do")), (0, true), "{told:?}");
        let printed = folder.run(&["migrate", url, "--print"]).await;
        assert!(printed.code == 0 && printed.out.starts_with("-- "), "{printed:?}");
        assert!(!told.out.contains("hunter2") && !printed.out.contains("hunter2"));
    }
}
