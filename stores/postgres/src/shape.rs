//! Whether a schema is what the statements are written for: those who run migrations themselves, or change what is there,
//! are told what differs before the first request.

use semel_core::store::StoreErrorKind;
use semel_store_kit::shape::{self, Column, Dialect, Difference, Filled, LeftOut, Present, Wrong};
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
        let holder = format!("schema {}", schema.name());
        match shape::told(&holder, &differences(schema, &found)) {
            None => Ok(()),
            Some(what) => Err(Fault::Refused(self.place.error(StoreErrorKind::Config, what))),
        }
    }
}

const fn column(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column::new(table, name, r#type)
}

const fn nullable(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column::new(table, name, r#type).left_out(LeftOut::Null)
}

const fn filled(
    table: &'static str,
    name: &'static str,
    r#type: &'static str,
    default: &'static str,
) -> Column {
    Column::new(table, name, r#type).left_out(LeftOut::Default(default))
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
    CASE WHEN a.attidentity <> '' THEN 'counter' WHEN a.attgenerated <> '' THEN 'computed'
        WHEN a.atthasdef THEN 'default' ELSE '' END AS filled,
    pg_get_expr(d.adbin, d.adrelid) AS expression, true AS fit
FROM ours AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.number AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = t.number AND d.adnum = a.attnum
WHERE t.relkind IN ('r', 'p') AND t.relname IN ('meta', 'record')
UNION ALL
SELECT 'sequence', c.relname::text, '', format_type(s.seqtypid, NULL), false, '', NULL,
    s.seqcache = 1 AND NOT s.seqcycle AND s.seqincrement > 0 AND s.seqtypid = 'bigint'::regtype
FROM ours AS c JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.number WHERE c.relname = 'fence'
UNION ALL
SELECT CASE WHEN i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL THEN 'key' ELSE 'index' END,
    c.relname::text, a.attname::text, '', false, '', NULL,
    i.indisvalid AND i.indisready
        AND coalesce(pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname), true)
FROM ours AS t JOIN pg_catalog.pg_index AS i ON i.indrelid = t.number
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.number AND a.attnum = i.indkey[0]
WHERE t.relname = 'record'
UNION ALL
SELECT 'relation', t.relname::text, t.relkind::text, t.relpersistence::text, false, '', NULL, true
FROM ours AS t WHERE t.relname IN ('meta', 'record', 'fence')
UNION ALL
SELECT 'unique', c.relname::text, string_agg(coalesce(a.attname, ''), ', ' ORDER BY k.place), '',
    EXISTS (SELECT FROM pg_catalog.pg_constraint AS o WHERE o.conindid = c.oid AND o.conrelid = t.number), '', NULL,
    bool_or(coalesce(a.attname = 'id', false))
FROM ours AS t JOIN pg_catalog.pg_index AS i ON i.indrelid = t.number AND i.indisunique
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.number AND a.attnum = k.number
WHERE t.relname = 'record' AND k.place <= i.indnkeyatts
GROUP BY c.oid, c.relname, t.number";

/// Something that there is.
struct Part {
    kind: String,
    /// The table of a column; the own name of all others.
    holder: String,
    /// The column; of an index its first, of what is unique each; of a relation its kind.
    name: String,
    /// Of a relation: whether it is logged.
    r#type: String,
    /// Of what is unique: whether a constraint made it.
    required: bool,
    filled: Filled,
    /// Of an index or a sequence: whether it is of use. Of what is unique: whether it has the id.
    fit: bool,
}

impl Part {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let filled = match row.try_get::<String, _>(5)?.as_str() {
            "counter" => Filled::Counter,
            "computed" => Filled::Computed,
            "default" => Filled::Default(row.try_get::<Option<String>, _>(6)?.unwrap_or_default()),
            _ => Filled::Nothing,
        };
        Ok(Self {
            kind: row.try_get(0)?,
            holder: row.try_get(1)?,
            name: row.try_get(2)?,
            r#type: row.try_get(3)?,
            required: row.try_get(4)?,
            filled,
            fit: row.try_get(7)?,
        })
    }

    fn as_column(&self) -> Option<Present> {
        (self.kind == "column").then(|| Present {
            table: self.holder.clone(),
            name: self.name.clone(),
            r#type: self.r#type.clone(),
            required: self.required,
            filled: self.filled.clone(),
        })
    }
}

fn differences(schema: &Schema, found: &[Part]) -> Vec<Difference> {
    let columns: Vec<_> = found.iter().filter_map(Part::as_column).collect();
    let (others, mut plain) = (others(found), vec!["meta", "record"]);
    plain.retain(|table| others.iter().all(|(name, _)| name != table));
    let mut differences = shape::columns(schema, &plain, COLUMNS, &columns);
    differences.extend(others.iter().map(|(_, what)| Difference::unmended(what)));
    let mut add = |what: String, mend: &str| differences.push(Difference::new(what, schema.write(mend)));
    add_unlogged(found, &mut add);
    if plain.contains(&"record") {
        add_indexes(found, &mut add);
        add_unique(found, &mut add);
    }
    match found.iter().find(|part| part.kind == "sequence") {
        None if others.iter().any(|(name, _)| *name == "fence") => {}
        None => {
            add("sequence fence is missing".to_owned(), &format!("CREATE SEQUENCE {SEQUENCE}; {BEYOND}"));
        }
        Some(part) if !part.fit => {
            let what = "sequence fence does not count up in steps that every session shares".to_owned();
            add(what, "ALTER SEQUENCE {schema}.fence AS bigint INCREMENT 1 CACHE 1 NO CYCLE");
        }
        Some(_) => {}
    }
    differences
}

/// What has the name of a table or of the sequence, and is none: its name, and what to say of it.
fn others(found: &[Part]) -> Vec<(&str, String)> {
    let relations = found.iter().filter(|part| part.kind == "relation");
    let told = relations.filter_map(|part| {
        let needed = if part.holder == "fence" { "sequence" } else { "table" };
        let is = match part.name.as_str() {
            "r" | "p" => "table",
            "S" => "sequence",
            "v" => "view",
            "m" => "materialized view",
            "f" => "foreign table",
            _ => "relation of another kind",
        };
        (is != needed).then(|| (part.holder.as_str(), format!("{} is a {is}, not a {needed}", part.holder)))
    });
    told.collect()
}

/// A crash of the server empties what is not logged, and every key would run again.
fn add_unlogged(found: &[Part], add: &mut impl FnMut(String, &str)) {
    for part in found.iter().filter(|part| part.kind == "relation" && part.r#type == "u") {
        let kind = if part.name == "S" { "sequence" } else { "table" };
        let what = format!("{kind} {} is unlogged, and empty after a crash", part.holder);
        add(what, &format!("ALTER {} {{schema}}.{} SET LOGGED", kind.to_uppercase(), part.holder));
    }
}

/// What refuses two records for anything but their name: claims would fail. What somebody adds a column to is their own.
fn add_unique(found: &[Part], add: &mut impl FnMut(String, &str)) {
    let is_ours = |name: &str| COLUMNS.iter().any(|column| column.table == "record" && column.name == name);
    let unique = found.iter().filter(|part| part.kind == "unique" && !part.fit);
    for part in unique.filter(|part| part.name.split(", ").all(is_ours)) {
        let (name, columns) = (&part.holder, &part.name);
        let what = format!("index {name} of table record lets no two rows have the same ({columns})");
        let mend = if part.required {
            format!("ALTER TABLE {{schema}}.record DROP CONSTRAINT {}", quoted(name))
        } else {
            format!("DROP INDEX {{schema}}.{}", quoted(name))
        };
        add(what, &mend);
    }
}

impl Dialect for Schema {
    fn name(&self, table: &str) -> String {
        table.to_owned()
    }

    fn create(&self, table: &str) -> String {
        self.write(&format!("CREATE TABLE {{schema}}.{table} ({})", body(table)))
    }

    fn add(&self, column: &Column) -> String {
        self.write(&format!("ALTER TABLE {{schema}}.{} ADD COLUMN {}", column.table, definition(column)))
    }

    fn change(&self, Column { table, name, r#type, .. }: &Column, wrong: &[Wrong]) -> String {
        let each = wrong.iter().map(|wrong| match wrong {
            Wrong::Type => format!("TYPE {type} USING {name}::{type}"),
            Wrong::Required => "DROP NOT NULL".to_owned(),
            Wrong::NoDefault(default) => format!("SET DEFAULT {default}"),
            Wrong::HasDefault => "DROP DEFAULT".to_owned(),
            Wrong::CountsNot => "ADD GENERATED BY DEFAULT AS IDENTITY".to_owned(),
            Wrong::Counts => "DROP IDENTITY".to_owned(),
            Wrong::Computed => "DROP EXPRESSION".to_owned(),
        });
        let each: Vec<_> = each.map(|change| format!("ALTER COLUMN {name} {change}")).collect();
        self.write(&format!("ALTER TABLE {{schema}}.{table} {}", each.join(", ")))
    }

    fn free(&self, column: &Present) -> String {
        let alter = self.write(&format!("ALTER TABLE {{schema}}.{}", column.table));
        format!("{alter} ALTER COLUMN {} DROP NOT NULL", quoted(&column.name))
    }
}

const SEQUENCE: &str = "{schema}.fence AS bigint CACHE 1 NO CYCLE";

/// Records that were deleted had fences too, and workers of theirs may still come: far beyond all that are there.
pub(crate) const BEYOND: &str =
    "SELECT setval('{schema}.fence', coalesce(max(fence), 0) + 1000000000) FROM {schema}.record";

fn add_indexes(found: &[Part], add: &mut impl FnMut(String, &str)) {
    // One that is missing is made with its key.
    let there = found.iter().any(|part| part.kind == "column" && part.holder == "record");
    if there && !found.iter().any(|part| part.kind == "key" && part.name == "id" && part.fit) {
        let mend = "ALTER TABLE {schema}.record ADD PRIMARY KEY (id)";
        add("table record has no primary key (id)".to_owned(), mend);
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
            &format!("{first}CREATE INDEX {name} ON {{schema}}.record ({column}) WHERE {column} IS NOT NULL"),
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
    let how = match column.left_out {
        LeftOut::Null => String::new(),
        LeftOut::Never => " NOT NULL".to_owned(),
        LeftOut::Default(default) => format!(" NOT NULL DEFAULT {default}"),
        LeftOut::Counter => " GENERATED BY DEFAULT AS IDENTITY".to_owned(),
    };
    format!("{} {}{how}", column.name, column.r#type)
}

/// A name that is somebody else's.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
