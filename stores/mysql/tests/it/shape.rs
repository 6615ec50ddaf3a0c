//! Tables that somebody has changed, or made by hand.

use semel_core::identity::Secret;
use semel_core::store::{Begun, Severity, Store as _, StoreErrorKind as Kind};
use semel_store_mysql::{Builder, MySqlStore};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, Row as _};

use crate::support::{Database, ask, body, completed, server, test};

/// What is done to the tables, what is said of it, and with what.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "DROP TABLE semel_record",
        "table semel_record is missing",
        "CREATE TABLE semel_record (id BINARY(32) NOT NULL, state TINYINT NOT NULL, ",
    ),
    (
        "DROP TABLE semel_slot",
        "table semel_slot is missing",
        "CREATE TABLE semel_slot (n SMALLINT NOT NULL, ",
    ),
    ("DROP TABLE semel_mark", "table semel_mark is missing", "CREATE TABLE semel_mark (n BIGINT NOT NULL, "),
    (
        "DROP TABLE semel_fence",
        "table semel_fence is missing",
        "INSERT INTO semel_fence (n) SELECT COALESCE(MAX(fence), 0) + 1000000000 FROM semel_record",
    ),
    (
        "ALTER TABLE semel_fence MODIFY COLUMN n BIGINT NOT NULL",
        "column semel_fence.n does not count by itself",
        "ALTER TABLE semel_fence MODIFY COLUMN n BIGINT NOT NULL AUTO_INCREMENT",
    ),
    // Such a counter is not undone with the claim that took its number.
    (
        "ALTER TABLE semel_fence ENGINE=Aria",
        "table semel_fence is of the engine Aria, not InnoDB",
        "ALTER TABLE semel_fence ENGINE=InnoDB",
    ),
    (
        "ALTER TABLE semel_mark ENGINE=MyISAM",
        "table semel_mark is of the engine MyISAM, not InnoDB",
        "ALTER TABLE semel_mark ENGINE=InnoDB",
    ),
    (
        "ALTER TABLE semel_record DROP COLUMN due, DROP KEY record_due",
        "column semel_record.due is missing",
        "ALTER TABLE semel_record ADD COLUMN due BIGINT",
    ),
    (
        "ALTER TABLE semel_record DROP COLUMN body_bytes",
        "column semel_record.body_bytes is missing",
        "ALTER TABLE semel_record ADD COLUMN body_bytes BIGINT NOT NULL",
    ),
    (
        "ALTER TABLE semel_meta DROP COLUMN secret_check",
        "column semel_meta.secret_check is missing",
        "ALTER TABLE semel_meta ADD COLUMN secret_check VARBINARY(64)",
    ),
    (
        "ALTER TABLE semel_record MODIFY COLUMN fence INT UNSIGNED NOT NULL",
        "column semel_record.fence is of type int unsigned, not bigint",
        "ALTER TABLE semel_record MODIFY COLUMN fence BIGINT NOT NULL",
    ),
    (
        "ALTER TABLE semel_record MODIFY COLUMN completion MEDIUMBLOB",
        "column semel_record.completion is of type mediumblob, not longblob",
        "ALTER TABLE semel_record MODIFY COLUMN completion LONGBLOB",
    ),
    (
        "DELETE FROM semel_record; ALTER TABLE semel_record MODIFY COLUMN claim BINARY(8) NOT NULL",
        "column semel_record.claim is of type binary(8), not binary(16)",
        "ALTER TABLE semel_record MODIFY COLUMN claim BINARY(16) NOT NULL",
    ),
    // Two ids would be one.
    (
        "ALTER TABLE semel_record MODIFY COLUMN settings TEXT CHARACTER SET latin1 COLLATE latin1_german1_ci NOT NULL",
        "column semel_record.settings is of type text CHARACTER SET latin1 COLLATE latin1_german1_ci, not blob",
        "ALTER TABLE semel_record MODIFY COLUMN settings BLOB NOT NULL",
    ),
    // Read in a session's time zone, it would be another moment.
    (
        "DELETE FROM semel_record; ALTER TABLE semel_record MODIFY COLUMN due TIMESTAMP NULL",
        "column semel_record.due is of type timestamp, not bigint",
        "ALTER TABLE semel_record MODIFY COLUMN due BIGINT",
    ),
    (
        "ALTER TABLE semel_record MODIFY COLUMN expires BIGINT NOT NULL",
        "column semel_record.expires takes no NULL",
        "ALTER TABLE semel_record MODIFY COLUMN expires BIGINT",
    ),
    // A claim would be made with an end that has come.
    (
        "ALTER TABLE semel_record ALTER COLUMN expires SET DEFAULT 5",
        "column semel_record.expires has the default 5, not NULL",
        "ALTER TABLE semel_record MODIFY COLUMN expires BIGINT",
    ),
    (
        "DELETE FROM semel_record; ALTER TABLE semel_record MODIFY COLUMN expires INT NOT NULL DEFAULT 5",
        "column semel_record.expires is of type int, not bigint, and takes no NULL, and has the default 5, not NULL",
        "ALTER TABLE semel_record MODIFY COLUMN expires BIGINT",
    ),
    (
        "ALTER TABLE semel_record DROP COLUMN status, ADD COLUMN status SMALLINT AS (state) VIRTUAL",
        "column semel_record.status is computed",
        "ALTER TABLE semel_record DROP COLUMN status, ADD COLUMN status SMALLINT",
    ),
    // The slot 0 would be another one each time.
    (
        "ALTER TABLE semel_slot MODIFY COLUMN n SMALLINT NOT NULL AUTO_INCREMENT",
        "column semel_slot.n counts by itself",
        "ALTER TABLE semel_slot MODIFY COLUMN n SMALLINT NOT NULL",
    ),
    (
        "DELETE FROM semel_record; ALTER TABLE semel_record ADD COLUMN `a b` VARCHAR(5) CHARACTER SET latin1 NOT NULL",
        "column semel_record.a b is not one of ours, and has to be given",
        "ALTER TABLE semel_record MODIFY COLUMN `a b` varchar(5) CHARACTER SET latin1 COLLATE latin1_swedish_ci NULL",
    ),
    (
        "DROP INDEX record_due ON semel_record",
        "index record_due is missing",
        "CREATE INDEX record_due ON semel_record (due)",
    ),
    (
        "ALTER TABLE semel_record ALTER INDEX record_principal IGNORED",
        "index record_principal is of no use",
        "DROP INDEX record_principal ON semel_record; CREATE INDEX record_principal ON semel_record (principal)",
    ),
    (
        "ALTER TABLE semel_record DROP PRIMARY KEY",
        "table semel_record has no primary key (id)",
        "ALTER TABLE semel_record ADD PRIMARY KEY (id)",
    ),
    (
        "ALTER TABLE semel_slot DROP PRIMARY KEY",
        "table semel_slot has no primary key (n)",
        "ALTER TABLE semel_slot ADD PRIMARY KEY (n)",
    ),
    (
        "ALTER TABLE semel_record DROP PRIMARY KEY, ADD PRIMARY KEY (id, fence)",
        "table semel_record has the primary key (id, fence), and no unique one (id)",
        "ALTER TABLE semel_record ADD UNIQUE KEY (id)",
    ),
    // The second record of somebody would be taken for the first.
    (
        "ALTER TABLE semel_record DROP KEY record_principal, ADD UNIQUE KEY record_principal (principal)",
        "key record_principal of table semel_record lets no two rows have the same (principal)",
        "ALTER TABLE semel_record DROP INDEX `record_principal`",
    ),
    (
        "ALTER TABLE semel_record ADD UNIQUE KEY short (id(4))",
        "key short of table semel_record lets no two rows have the same (the beginning of id)",
        "ALTER TABLE semel_record DROP INDEX `short`",
    ),
];

/// The error that opening ends with.
async fn refused(builder: Builder, names: &[&str]) -> String {
    let error = builder.open().await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::Config, "{text}");
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
    }
    text
}

async fn mended(database: &Database, text: &str) {
    let (_, listed) = text.split_once("differs from what is needed: ").unwrap();
    // Each is what differs, a colon and a statement or two; and they are the whole of what is needed.
    for part in listed.split("; ") {
        database.run(part.split_once(": ").map_or(part, |(_, mend)| mend)).await;
    }
}

// "Something is wrong with your tables" would leave whoever runs migrations by hand to compare them by eye.
#[test]
fn what_differs_in_the_tables_is_named_with_the_statement_that_mends_it() {
    test(async || {
        for (change, what, mend) in CHANGES {
            let database = Database::new();
            completed(&database.open().await, 1, "before").await;
            database.run(change).await;
            let text = refused(database.builder().migrate(false), &[what, mend]).await;
            assert_eq!(refused(database.builder(), &[]).await, text, "migrating hides nothing");
            mended(&database, &text).await;
            // An index that takes the place of a key that was in the way.
            if let Err(error) = database.builder().migrate(false).open().await {
                assert!(error.to_string().contains("index record_principal is missing"), "{error}");
                mended(&database, &error.to_string()).await;
            }
            let store = database.builder().migrate(false).open().await.unwrap();
            completed(&store, 2, "after").await;
        }
    });
}

#[test]
fn everything_that_differs_in_the_tables_is_named_at_once() {
    test(async || {
        let database = Database::new();
        drop(database.open().await);
        database
            .run("DROP INDEX record_due ON semel_record; ALTER TABLE semel_record DROP COLUMN op; DROP TABLE semel_fence")
            .await;
        let names = ["record_due", "column semel_record.op is missing", "table semel_fence is missing"];
        let text = refused(database.builder().migrate(false), &names).await;
        mended(&database, &text).await;
        completed(&database.builder().migrate(false).open().await.unwrap(), 1, "x").await;
    });
}

// With another secret no record of before would be found, and its key would run again.
#[test]
fn records_without_their_settings_are_not_made_anew() {
    test(async || {
        let database = Database::new();
        completed(&database.open().await, 1, "before").await;
        database.run("RENAME TABLE semel_meta TO backup").await;
        refused(database.builder(), &["semel_meta is missing", "restore it from a backup"]).await;
        let error = database.builder().bring_up_to_date().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        database.run("RENAME TABLE backup TO semel_meta").await;
        drop(database.open().await);
        database.run("CREATE TABLE backup AS SELECT * FROM semel_meta; DELETE FROM semel_meta").await;
        for builder in [database.builder(), database.builder().migrate(false)] {
            refused(builder, &["semel_meta is empty", "restore its row from a backup"]).await;
        }
        let error = database.builder().bring_up_to_date().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert_eq!(database.number("SELECT COUNT(*) FROM semel_meta").await, 0, "nothing is made");
        database.run("INSERT INTO semel_meta SELECT * FROM backup").await;
        let Begun::Settled(record) = database.open().await.begin(&ask(1)).await.unwrap() else {
            panic!("it runs again")
        };
        assert_eq!(body(&record.completion), "before");
    });
}

// The mend of a lost column gives back the column and not what was in it.
#[test]
fn a_secret_that_has_lost_its_check_is_kept_and_a_lost_one_is_not_made_anew() {
    test(async || {
        let database = Database::new();
        let first = database.open().await;
        completed(&first, 1, "before").await;
        database.run("UPDATE semel_meta SET secret_check = NULL").await;
        refused(database.builder().secret(Secret::from_bytes([7; 32])), &["have a secret of their own"])
            .await;
        let again = database.open().await;
        assert_eq!(again.secret().expose(), first.secret().expose());
        database.run("UPDATE semel_meta SET secret = NULL, secret_check = NULL").await;
        refused(database.builder(), &["have lost their secret", "restore it from a backup"]).await;
    });
}

#[test]
fn a_view_or_a_sequence_by_the_name_of_a_table_is_told_from_one() {
    test(async || {
        let database = Database::new();
        drop(database.open().await);
        database.run("RENAME TABLE semel_slot TO slots; CREATE VIEW semel_slot AS SELECT n FROM slots").await;
        refused(database.builder(), &["semel_slot is a view, not a table"]).await;
        database.run("DROP VIEW semel_slot; DROP TABLE semel_fence; CREATE SEQUENCE semel_fence").await;
        refused(database.builder(), &["semel_fence is a sequence, not a table", "semel_slot is missing"])
            .await;
    });
}

// What an application adds for itself is its own.
#[test]
fn what_is_there_beside_the_tables_and_names_of_indexes_are_no_difference() {
    test(async || {
        let database = Database::new();
        drop(database.open().await);
        database
            .run(
                "ALTER TABLE semel_record ADD COLUMN note VARCHAR(20) UNIQUE, ADD COLUMN made DATETIME NOT NULL DEFAULT now(),
                     ADD COLUMN twice INT AS (state * 2) VIRTUAL, RENAME KEY record_due TO due_of_ours,
                     DROP KEY record_principal, ADD KEY principal_of_ours (principal, state), ADD KEY (status),
                     DROP PRIMARY KEY, ADD COLUMN serial BIGINT AUTO_INCREMENT PRIMARY KEY, ADD UNIQUE KEY key_of_ours (id),
                     MODIFY COLUMN state TINYINT(1), MODIFY COLUMN life BIGINT(9) NOT NULL DEFAULT 0,
                     MODIFY COLUMN completion LONGBLOB COMPRESSED;
                 CREATE TABLE semel_more (a INT NOT NULL) ENGINE=Aria; CREATE TABLE semelarecord (a INT)",
            )
            .await;
        let store = database.builder().migrate(false).open().await.unwrap();
        completed(&store, 1, "x").await;
        completed(&store, 2, "y").await;
    });
}

// Among other tables, as a tool for migrations writes them, under another prefix and other names of indexes.
#[test]
fn tables_that_are_written_by_somebody_else_are_taken_as_they_are() {
    test(async || {
        let database = Database::new();
        database
            .run(
                "CREATE TABLE shop_meta (`one` tinyint NOT NULL, `version` int NOT NULL, `secret` varbinary(32) DEFAULT NULL,
                     `secret_check` varbinary(64) DEFAULT NULL, PRIMARY KEY (`one`)) DEFAULT CHARSET=utf8mb3;
                 CREATE TABLE shop_fence (n bigint NOT NULL AUTO_INCREMENT, CONSTRAINT n_is_one UNIQUE (n));
                 CREATE TABLE shop_slot (n smallint NOT NULL PRIMARY KEY);
                 CREATE TABLE shop_mark (n bigint NOT NULL PRIMARY KEY);
                 CREATE TABLE shop_record (
                     request longblob, completion longblob, progress longblob, body_bytes bigint NOT NULL, status smallint,
                     released_life bigint NOT NULL, life bigint NOT NULL, due bigint, body_until bigint, expires bigint,
                     lease_until bigint, changed bigint NOT NULL, created bigint NOT NULL, principal char(32) CHARACTER SET binary,
                     settings text CHARACTER SET binary NOT NULL, fingerprint binary(32), op binary(16),
                     claim binary(16) NOT NULL, fence bigint NOT NULL, attempt bigint NOT NULL, recovery tinyint NOT NULL,
                     state tinyint NOT NULL, id binary(32) NOT NULL, CONSTRAINT pk PRIMARY KEY (id),
                     KEY idx_1 (due), KEY idx_2 (principal)) ROW_FORMAT=COMPACT;
                 INSERT INTO shop_meta (one, version) VALUES (1, 2)",
            )
            .await;
        let store = database.builder().prefix("shop_").migrate(false).open().await.unwrap();
        completed(&store, 1, "x").await;
        assert!(store.examine().await.unwrap().iter().all(|finding| finding.severity != Severity::Unusable));
    });
}

/// As the server would make a table.
async fn definition(database: &Database, table: &str) -> String {
    let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
    let row = sqlx::raw_sql(AssertSqlSafe(format!("SHOW CREATE TABLE {table}")))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let text: String = row.try_get_unchecked(1).unwrap();
    text.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ")
}

// The same thing is written twice, in the migrations and in what they are compared with.
#[test]
fn a_table_that_a_mend_makes_is_the_one_that_the_migrations_make() {
    test(async || {
        let (made, mended_one) = (Database::new(), Database::new());
        for migration in MySqlStore::migrations("semel_").unwrap() {
            made.run(&migration.sql).await;
        }
        drop(mended_one.open().await);
        mended_one.run("DROP TABLE semel_record, semel_fence, semel_slot, semel_mark").await;
        let text = refused(mended_one.builder().migrate(false), &[]).await;
        mended(&mended_one, &text).await;
        for table in ["semel_record", "semel_fence", "semel_slot", "semel_mark"] {
            assert_eq!(definition(&made, table).await, definition(&mended_one, table).await);
        }
    });
}

// The store's user has no right to the table of marks, and a pool's user none to the others.
#[test]
fn each_user_is_told_of_what_it_may_see() {
    test(async || {
        let database = Database::new();
        drop(database.open().await);
        let (name, user) = (database.0.clone(), format!("u{:08x}", fastrand::u32(..)));
        let address = server().rsplit('@').next().unwrap().to_owned();
        let (store_user, pool_user) = (format!("{user}s"), format!("{user}p"));
        for (user, grants) in [
            (
                &store_user,
                &[
                    "SELECT, INSERT, UPDATE, DELETE ON {s}.semel_record",
                    "SELECT, INSERT, DELETE ON {s}.semel_fence",
                    "SELECT, INSERT, UPDATE ON {s}.semel_slot",
                    "SELECT, UPDATE ON {s}.semel_meta",
                ][..],
            ),
            (&pool_user, &["SELECT, UPDATE ON {s}.semel_record", "SELECT, INSERT, DELETE ON {s}.semel_mark"]),
        ] {
            database.run(&format!("CREATE USER {user}@'%'")).await;
            for grant in grants {
                database.run(&format!("GRANT {grant} TO {user}@'%'")).await;
            }
        }
        database.run("ALTER TABLE semel_mark ENGINE=Aria").await;
        let url = |user: &str| format!("mysql://{user}@{address}/{name}");
        let store = MySqlStore::builder(url(&store_user)).migrate(false).open().await.unwrap();
        let pool = crate::tx::pool(2, &url(&pool_user)).await;
        let error = store.transactions(pool.clone()).open().await.unwrap_err();
        assert!(
            error.kind() == Kind::Config
                && error.to_string().contains("of the engine Aria, not InnoDB: ALTER TABLE"),
            "{error}"
        );
        database.run("ALTER TABLE semel_mark ENGINE=InnoDB").await;
        drop(store.transactions(pool.clone()).open().await.unwrap());
        database.run("DROP TABLE semel_fence").await;
        let hidden = MySqlStore::builder(url(&store_user)).migrate(false).open().await.unwrap_err();
        assert!(hidden.to_string().contains("semel_fence"), "{hidden}");
        pool.close().await;
        database.run(&format!("DROP USER {store_user}@'%', {pool_user}@'%'")).await;
    });
}
