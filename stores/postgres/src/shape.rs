//! Whether a schema is what the statements are written for: those who run migrations themselves, or change what is there,
//! are told what differs before the first request.

use semel_core::store::StoreErrorKind;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::desk::Connections;
use crate::error::Fault;
use crate::session::Session;
use crate::sql::Schema;

impl Connections {
    /// Refuses a schema that lacks something, and names every difference with the statement that mends it. What is there
    /// beside is nobody's concern, as long as it hinders no claim.
    pub(crate) async fn check_shape(&self, session: &mut Session, schema: &Schema) -> Result<(), Fault> {
        let rows = session.script(&schema.write(SHAPE)).await?;
        let found = rows.iter().map(Part::read).collect::<Result<Vec<_>, _>>()?;
        let differences = differences(&found);
        if differences.is_empty() {
            return Ok(());
        }
        let each: Vec<_> =
            differences.iter().map(|(what, mend)| format!("{what}: {}", schema.write(mend))).collect();
        let what = format!("schema {} differs from what is needed: {}", schema.name(), each.join("; "));
        Err(Fault::Refused(self.place.error(StoreErrorKind::Config, what)))
    }
}

struct Column {
    table: &'static str,
    name: &'static str,
    /// As `format_type` has it.
    r#type: &'static str,
    may_be_null: bool,
    default: Option<&'static str>,
}

const fn column(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column { table, name, r#type, may_be_null: false, default: None }
}

const fn nullable(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column { table, name, r#type, may_be_null: true, default: None }
}

const fn filled(
    table: &'static str,
    name: &'static str,
    r#type: &'static str,
    default: &'static str,
) -> Column {
    Column { table, name, r#type, may_be_null: false, default: Some(default) }
}

const MOMENT: &str = "timestamp with time zone";

/// Those that the migrations make.
const COLUMNS: &[Column] = &[
    filled("meta", "one", "boolean", "true"),
    column("meta", "version", "integer"),
    nullable("meta", "secret", "bytea"),
    nullable("meta", "secret_check", "bytea"),
    filled("meta", "oldest", "integer", "1"),
    column("record", "id", "bytea"),
    column("record", "state", "smallint"),
    column("record", "recovery", "smallint"),
    column("record", "attempt", "bigint"),
    column("record", "fence", "bigint"),
    column("record", "claim", "bytea"),
    nullable("record", "op", "bytea"),
    nullable("record", "fingerprint", "bytea"),
    column("record", "settings", "text"),
    nullable("record", "principal", "bytea"),
    column("record", "created", MOMENT),
    column("record", "changed", MOMENT),
    nullable("record", "lease_until", MOMENT),
    nullable("record", "expires", MOMENT),
    nullable("record", "body_until", MOMENT),
    nullable("record", "due", MOMENT),
    column("record", "life", "bigint"),
    column("record", "released_life", "bigint"),
    nullable("record", "status", "integer"),
    filled("record", "body_bytes", "bigint", "0"),
    filled("record", "watched", "boolean", "false"),
    nullable("record", "progress", "bytea"),
    nullable("record", "request", "bytea"),
    nullable("record", "completion", "bytea"),
];

/// Columns of `record` that have an index of their own, where they are not null.
const INDEXED: &[&str] = &["due", "principal"];

/// What there is, by the catalog, which every user may read. Indexes and keys count under any name.
const SHAPE: &str = "
WITH ours AS (SELECT c.* , c.oid AS number FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = '{name}')
SELECT 'column' AS kind, t.relname::text AS holder, a.attname::text AS name,
    format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
    a.atthasdef OR a.attidentity <> '' AS fit
FROM ours AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.number AND a.attnum > 0 AND NOT a.attisdropped
WHERE t.relkind IN ('r', 'p') AND t.relname IN ('meta', 'record')
UNION ALL
SELECT 'sequence', c.relname::text, '', format_type(s.seqtypid, NULL), false,
    s.seqcache = 1 AND NOT s.seqcycle AND s.seqincrement > 0 AND s.seqtypid = 'bigint'::regtype
FROM ours AS c JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.number WHERE c.relname = 'fence'
UNION ALL
SELECT CASE WHEN i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL THEN 'key' ELSE 'index' END,
    c.relname::text, a.attname::text, '', false,
    i.indisvalid AND i.indisready
        AND coalesce(pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname), true)
FROM ours AS t JOIN pg_catalog.pg_index AS i ON i.indrelid = t.number
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.number AND a.attnum = i.indkey[0]
WHERE t.relname = 'record'";

/// Something that there is.
struct Part {
    kind: String,
    /// The table of a column; an index's or sequence's own name.
    holder: String,
    /// The column; of an index its first.
    name: String,
    r#type: String,
    required: bool,
    /// Of a column: whether it has a default. Else whether it is of use.
    fit: bool,
}

impl Part {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.try_get(0)?,
            holder: row.try_get(1)?,
            name: row.try_get(2)?,
            r#type: row.try_get(3)?,
            required: row.try_get(4)?,
            fit: row.try_get(5)?,
        })
    }

    fn is(&self, column: &Column) -> bool {
        self.kind == "column" && self.holder == column.table && self.name == column.name
    }
}

/// What differs, and the statement that mends it, with `{schema}` in it.
fn differences(found: &[Part]) -> Vec<(String, String)> {
    let mut differences = Vec::new();
    let mut add = |what: String, mend: String| differences.push((what, mend));
    for table in ["meta", "record"] {
        if !found.iter().any(|part| part.kind == "column" && part.holder == table) {
            add(
                format!("table {table} is missing"),
                format!("CREATE TABLE {{schema}}.{table} ({})", body(table)),
            );
            continue;
        }
        let alter = format!("ALTER TABLE {{schema}}.{table}");
        for column in COLUMNS.iter().filter(|column| column.table == table) {
            let name = column.name;
            let Some(part) = found.iter().find(|part| part.is(column)) else {
                add(
                    format!("column {table}.{name} is missing"),
                    format!("{alter} ADD COLUMN {}", definition(column)),
                );
                continue;
            };
            if part.r#type != column.r#type {
                let what = format!("column {table}.{name} is of type {}, not {}", part.r#type, column.r#type);
                add(what, format!("{alter} ALTER COLUMN {name} TYPE {0} USING {name}::{0}", column.r#type));
            }
            if part.required && column.may_be_null {
                let what = format!("column {table}.{name} takes no NULL");
                add(what, format!("{alter} ALTER COLUMN {name} DROP NOT NULL"));
            }
            if let Some(default) = column.default.filter(|_| !part.fit) {
                let what = format!("column {table}.{name} has no default");
                add(what, format!("{alter} ALTER COLUMN {name} SET DEFAULT {default}"));
            }
        }
        let foreign = |part: &&Part| {
            part.kind == "column"
                && part.holder == table
                && part.required
                && !part.fit
                && !COLUMNS.iter().any(|column| part.is(column))
        };
        for part in found.iter().filter(foreign) {
            let what = format!("column {table}.{} is not one of ours, and has to be given", part.name);
            add(what, format!("{alter} ALTER COLUMN {} DROP NOT NULL", quoted(&part.name)));
        }
    }
    add_indexes(found, &mut add);
    match found.iter().find(|part| part.kind == "sequence") {
        None => add("sequence fence is missing".to_owned(), format!("CREATE SEQUENCE {SEQUENCE}; {BEYOND}")),
        Some(part) if !part.fit => {
            let what = "sequence fence does not count up in steps that every session shares".to_owned();
            add(what, "ALTER SEQUENCE {schema}.fence AS bigint INCREMENT 1 CACHE 1 NO CYCLE".to_owned());
        }
        Some(_) => {}
    }
    differences
}

const SEQUENCE: &str = "{schema}.fence AS bigint CACHE 1 NO CYCLE";

/// Records that were deleted had fences too, and workers of theirs may still come: far beyond all that are there.
const BEYOND: &str =
    "SELECT setval('{schema}.fence', coalesce(max(fence), 0) + 1000000000) FROM {schema}.record";

fn add_indexes(found: &[Part], add: &mut impl FnMut(String, String)) {
    // One that is missing is made with its key.
    let there = found.iter().any(|part| part.kind == "column" && part.holder == "record");
    if there && !found.iter().any(|part| part.kind == "key" && part.name == "id" && part.fit) {
        let mend = "ALTER TABLE {schema}.record ADD PRIMARY KEY (id)";
        add("table record has no primary key (id)".to_owned(), mend.to_owned());
    }
    for column in INDEXED {
        let of_use =
            |part: &&Part| matches!(part.kind.as_str(), "index" | "key") && part.name == *column && part.fit;
        if found.iter().any(|part| of_use(&part)) {
            continue;
        }
        let name = format!("record_{column}");
        // Such as one whose making was broken off.
        let taken = found.iter().any(|part| part.kind == "index" && part.holder == name);
        let first = if taken { format!("DROP INDEX {{schema}}.{name}; ") } else { String::new() };
        let how = if taken { "of no use" } else { "missing" };
        add(
            format!("index {name} is {how}"),
            format!("{first}CREATE INDEX {name} ON {{schema}}.record ({column}) WHERE {column} IS NOT NULL"),
        );
    }
}

/// The columns of a table, as they are written to make it.
fn body(table: &str) -> String {
    let key = if table == "meta" {
        "PRIMARY KEY (one), CHECK (one)"
    } else {
        "PRIMARY KEY (id), CHECK (octet_length(id) = 32)"
    };
    let columns = COLUMNS.iter().filter(|column| column.table == table).map(definition);
    columns.chain([key.to_owned()]).collect::<Vec<_>>().join(", ")
}

fn definition(column: &Column) -> String {
    let null = if column.may_be_null { "" } else { " NOT NULL" };
    let default = column.default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
    format!("{} {}{null}{default}", column.name, column.r#type)
}

/// A name that is somebody else's.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
