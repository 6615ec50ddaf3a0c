//! Schemas that somebody has changed, or made by hand.

use semel_core::identity::Secret;
use semel_core::store::{Begun, Store as _, StoreErrorKind as Kind};

use crate::open::refused;
use crate::support::{Schema, ask, body, completed, test};

/// What is done to a schema, what is said of it, and with what: `{q}` is the schema as it is quoted.
const CHANGES: &[(&str, &str, &str)] = &[
    ("DROP TABLE {s}.record", "table record is missing", "CREATE TABLE {q}.record (id bytea NOT NULL, "),
    (
        "ALTER TABLE {s}.record DROP COLUMN due",
        "column record.due is missing",
        "ALTER TABLE {q}.record ADD COLUMN due timestamp with time zone",
    ),
    (
        "ALTER TABLE {s}.record DROP COLUMN body_bytes",
        "column record.body_bytes is missing",
        "ALTER TABLE {q}.record ADD COLUMN body_bytes bigint NOT NULL DEFAULT 0",
    ),
    (
        "ALTER TABLE {s}.meta DROP COLUMN secret_check",
        "column meta.secret_check is missing",
        "ALTER TABLE {q}.meta ADD COLUMN secret_check bytea",
    ),
    (
        "ALTER TABLE {s}.record ALTER COLUMN fence TYPE integer",
        "column record.fence is of type integer, not bigint",
        "ALTER TABLE {q}.record ALTER COLUMN fence TYPE bigint USING fence::bigint",
    ),
    (
        "ALTER TABLE {s}.record ALTER COLUMN due TYPE timestamp",
        "column record.due is of type timestamp without time zone, not timestamp with time zone",
        "ALTER TABLE {q}.record ALTER COLUMN due TYPE timestamp with time zone USING due::timestamp with time zone",
    ),
    (
        "ALTER TABLE {s}.record ALTER COLUMN expires SET NOT NULL",
        "column record.expires takes no NULL",
        "ALTER TABLE {q}.record ALTER COLUMN expires DROP NOT NULL",
    ),
    (
        "ALTER TABLE {s}.record ALTER COLUMN watched DROP DEFAULT",
        "column record.watched has no default",
        "ALTER TABLE {q}.record ALTER COLUMN watched SET DEFAULT false",
    ),
    // A claim would be made with an end that has come.
    (
        "ALTER TABLE {s}.record ALTER COLUMN expires SET DEFAULT '1970-01-01 00:00:00+00'",
        "column record.expires has the default '1970-01-01 00:00:00+00'::timestamp with time zone, not NULL",
        "ALTER TABLE {q}.record ALTER COLUMN expires DROP DEFAULT",
    ),
    (
        "ALTER TABLE {s}.record DROP COLUMN status, ADD COLUMN status integer GENERATED ALWAYS AS (attempt) STORED",
        "column record.status is computed",
        "ALTER TABLE {q}.record ALTER COLUMN status DROP EXPRESSION",
    ),
    (
        "DELETE FROM {s}.record; ALTER TABLE {s}.record ADD COLUMN \"a b\" text NOT NULL",
        "column record.a b is not one of ours",
        "ALTER TABLE {q}.record ALTER COLUMN \"a b\" DROP NOT NULL",
    ),
    (
        "DROP INDEX {s}.record_due",
        "index record_due is missing",
        "CREATE INDEX record_due ON {q}.record (due) WHERE due IS NOT NULL",
    ),
    (
        "DROP INDEX {s}.record_principal; CREATE INDEX record_principal ON {s}.record (principal) WHERE state = 1",
        "index record_principal is of no use",
        "DROP INDEX {q}.record_principal; CREATE INDEX record_principal ON {q}.record (principal) WHERE principal IS NOT NULL",
    ),
    (
        "ALTER TABLE {s}.record DROP CONSTRAINT record_pkey",
        "table record has no primary key (id)",
        "ALTER TABLE {q}.record ADD PRIMARY KEY (id)",
    ),
    (
        "DROP SEQUENCE {s}.fence",
        "sequence fence is missing",
        "CREATE SEQUENCE {q}.fence AS bigint CACHE 1 NO CYCLE; SELECT setval('{q}.fence', coalesce(max(fence), 0) + 1000000000) FROM {q}.record",
    ),
    (
        "ALTER SEQUENCE {s}.fence CACHE 100",
        "sequence fence does not count up",
        "ALTER SEQUENCE {q}.fence AS bigint INCREMENT 1 CACHE 1 NO CYCLE",
    ),
    // A crash of the server empties it.
    ("ALTER TABLE {s}.record SET UNLOGGED", "table record is unlogged", "ALTER TABLE {q}.record SET LOGGED"),
    ("ALTER TABLE {s}.meta SET UNLOGGED", "table meta is unlogged", "ALTER TABLE {q}.meta SET LOGGED"),
    (
        "ALTER SEQUENCE {s}.fence SET UNLOGGED",
        "sequence fence is unlogged",
        "ALTER SEQUENCE {q}.fence SET LOGGED",
    ),
    // The second record of somebody would be refused.
    (
        "ALTER TABLE {s}.record ADD CONSTRAINT \"a b\" UNIQUE (principal, state)",
        "index a b of table record lets no two rows have the same (principal, state)",
        "ALTER TABLE {q}.record DROP CONSTRAINT \"a b\"",
    ),
    (
        "CREATE UNIQUE INDEX one_each ON {s}.record (principal) WHERE state = 7",
        "index one_each of table record lets no two rows have the same (principal)",
        "DROP INDEX {q}.\"one_each\"",
    ),
];

fn there(schema: &Schema, text: &str) -> String {
    text.replace("{q}", &format!("\"{}\"", schema.0))
}

// "Something is wrong with your schema" would leave whoever runs migrations by hand to compare them by eye.
#[test]
fn what_differs_in_a_schema_is_named_with_the_statement_that_mends_it() {
    test(async || {
        let schema = Schema::new();
        completed(&schema.open().await, 1, "before").await;
        for (key, (change, what, mend)) in (2..).zip(CHANGES) {
            schema.run(change).await;
            let names = [*what, &there(&schema, mend)];
            let text = refused(schema.builder().migrate(false), Kind::Config, &names).await;
            assert_eq!(refused(schema.builder(), Kind::Config, &[]).await, text, "migrating hides nothing");
            // Each is what differs, a colon and a statement or two; and they are the whole of what is needed.
            let (_, listed) = text.split_once("differs from what is needed: ").unwrap();
            for part in listed.split("; ") {
                schema.run(part.split_once(": ").map_or(part, |(_, mend)| mend)).await;
            }
            let store = schema.builder().migrate(false).open().await.unwrap();
            completed(&store, key, "after").await;
        }
    });
}

#[test]
fn everything_that_differs_is_named_at_once() {
    test(async || {
        let schema = Schema::new();
        drop(schema.open().await);
        let changes =
            ["DROP INDEX {s}.record_due", "ALTER TABLE {s}.record DROP COLUMN op", "DROP SEQUENCE {s}.fence"];
        for change in changes {
            schema.run(change).await;
        }
        let names = ["record_due", "column record.op is missing", "sequence fence"];
        refused(schema.builder().migrate(false), Kind::Config, &names).await;
    });
}

// With another secret no record of before would be found, and its key would run again.
#[test]
fn records_without_their_settings_are_not_made_anew() {
    test(async || {
        let schema = Schema::new();
        completed(&schema.open().await, 1, "before").await;
        for (lost, what, restored) in [
            (
                "ALTER TABLE {s}.meta RENAME TO backup",
                "table meta is missing",
                "ALTER TABLE {s}.backup RENAME TO meta",
            ),
            (
                "CREATE TABLE {s}.backup AS SELECT * FROM {s}.meta; DELETE FROM {s}.meta",
                "table meta is empty",
                "INSERT INTO {s}.meta SELECT * FROM {s}.backup",
            ),
        ] {
            schema.run(lost).await;
            let names = [what, "restore it from a backup"];
            for builder in [schema.builder(), schema.builder().migrate(false)] {
                refused(builder, Kind::Config, &names).await;
            }
            let error = schema.builder().bring_up_to_date().await.unwrap_err();
            assert!(error.kind() == Kind::Config && error.to_string().contains(what), "{error}");
            schema.run(restored).await;
            let Begun::Settled(record) = schema.open().await.begin(&ask(1)).await.unwrap() else {
                panic!("it runs again")
            };
            assert_eq!(body(&record.completion), "before");
        }
    });
}

// The mend of a lost column gives back the column and not what was in it.
#[test]
fn a_secret_that_has_lost_its_check_is_kept_and_a_lost_one_is_not_made_anew() {
    test(async || {
        let schema = Schema::new();
        let first = schema.open().await;
        completed(&first, 1, "before").await;
        schema.run("UPDATE {s}.meta SET secret_check = NULL").await;
        let configured = schema.builder().secret(Secret::from_bytes([7; 32]));
        refused(configured, Kind::Config, &["has a secret of its own"]).await;
        assert_eq!(schema.open().await.secret().expose(), first.secret().expose());
        schema.run("UPDATE {s}.meta SET secret = NULL, secret_check = NULL").await;
        refused(schema.builder(), Kind::Config, &["has lost", "restore it from a backup"]).await;
    });
}

#[test]
fn a_view_by_the_name_of_a_table_is_told_from_one() {
    test(async || {
        let schema = Schema::new();
        drop(schema.open().await);
        schema
            .run(
                "ALTER TABLE {s}.record RENAME TO records; CREATE VIEW {s}.record AS SELECT * FROM {s}.records;
                 DROP SEQUENCE {s}.fence; CREATE TABLE {s}.fence (n bigint)",
            )
            .await;
        let names = ["record is a view, not a table", "fence is a table, not a sequence"];
        let text = refused(schema.builder(), Kind::Config, &names).await;
        assert!(!text.contains("missing"), "{text}");
    });
}

// What an application adds for itself is its own.
#[test]
fn what_is_there_beside_and_names_of_indexes_are_no_difference() {
    test(async || {
        let schema = Schema::new();
        drop(schema.open().await);
        schema
            .run(
                "ALTER TABLE {s}.record ADD COLUMN note text, ADD COLUMN made timestamptz NOT NULL DEFAULT now(),
                     ADD UNIQUE (note), ADD UNIQUE (principal, note), ADD UNIQUE (id, state);
                 ALTER INDEX {s}.record_due RENAME TO due_of_ours; CREATE INDEX ON {s}.record (status);
                 DROP INDEX {s}.record_principal; CREATE INDEX ON {s}.record (principal);
                 ALTER TABLE {s}.record RENAME CONSTRAINT record_pkey TO key_of_ours; CREATE TABLE {s}.more (a int)",
            )
            .await;
        let store = schema.builder().migrate(false).open().await.unwrap();
        completed(&store, 1, "x").await;
    });
}
