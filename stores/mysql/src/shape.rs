//! Whether the tables are what the statements are written for: those who run migrations themselves, or change what is
//! there, are told what differs before the first request.

use std::fmt;

use semel_store_kit::shape::{self, Column, Dialect, Difference, Filled, LeftOut, Present, Wrong};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::error::{Fault, number};
use crate::sql::{Names, quoted};

/// Those of the store, each with the column that tells its rows apart. One that others are made of comes before them.
pub(crate) const TABLES: &[(&str, &str)] =
    &[("meta", "one"), ("record", "id"), ("fence", "n"), ("slot", "n"), MARK];
/// The one that the transactions of handlers write to.
pub(crate) const MARK: (&str, &str) = ("mark", "n");

const fn column(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column::new(table, name, r#type)
}

const fn nullable(table: &'static str, name: &'static str, r#type: &'static str) -> Column {
    Column::new(table, name, r#type).left_out(LeftOut::Null)
}

/// Those that the migrations make.
const COLUMNS: &[Column] = &[
    column("meta", "one", "tinyint"),
    column("meta", "version", "int"),
    nullable("meta", "secret", "varbinary(32)"),
    nullable("meta", "secret_check", "varbinary(64)"),
    column("fence", "n", "bigint").left_out(LeftOut::Counter),
    column("slot", "n", "smallint"),
    column("mark", "n", "bigint"),
    column("record", "id", "binary(32)"),
    column("record", "state", "tinyint"),
    column("record", "recovery", "tinyint"),
    column("record", "attempt", "bigint"),
    column("record", "fence", "bigint"),
    column("record", "claim", "binary(16)"),
    nullable("record", "op", "binary(16)"),
    nullable("record", "fingerprint", "binary(32)"),
    column("record", "settings", "blob"),
    nullable("record", "principal", "binary(32)"),
    column("record", "created", "bigint"),
    column("record", "changed", "bigint"),
    nullable("record", "lease_until", "bigint"),
    nullable("record", "expires", "bigint"),
    nullable("record", "body_until", "bigint"),
    nullable("record", "due", "bigint"),
    column("record", "life", "bigint"),
    column("record", "released_life", "bigint"),
    nullable("record", "status", "smallint"),
    column("record", "body_bytes", "bigint"),
    nullable("record", "progress", "longblob"),
    nullable("record", "request", "longblob"),
    nullable("record", "completion", "longblob"),
];

/// Columns of `record` that have an index of their own.
const INDEXED: &[&str] = &["due", "principal"];

/// What differs in these tables. One that this user may not see is not judged: what rights are missing is found elsewhere.
pub(crate) async fn differences(
    connection: &mut MySqlConnection,
    names: &Names,
    tables: &[(&'static str, &'static str)],
) -> Result<Vec<Difference>, Fault> {
    let found = Found::read(connection, names).await?;
    let mut judged = Vec::new();
    for (table, key) in tables {
        if found.has(table) || is_missing(connection, names, table).await? {
            judged.push((*table, *key));
        }
    }
    Ok(found.differences(names, &judged))
}

async fn is_missing(
    connection: &mut MySqlConnection,
    names: &Names,
    table: &str,
) -> Result<bool, sqlx::Error> {
    let text = names.write(&format!("SELECT 1 FROM {{p}}{table} WHERE 1 = 0"));
    match sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await {
        Err(error) if number(&error).is_none() => Err(error),
        Err(error) => Ok(number(&error) == Some(1146)),
        Ok(_) => Ok(false),
    }
}

/// What there is.
#[derive(Default)]
struct Found {
    tables: Vec<Table>,
    columns: Vec<Present>,
    keys: Vec<Key>,
}

struct Table {
    name: String,
    kind: String,
    engine: Option<String>,
}

struct Key {
    table: String,
    name: String,
    unique: bool,
    /// In their order.
    parts: Vec<Part>,
    /// Whether look-ups may use it.
    of_use: bool,
}

struct Part {
    /// `None`: an expression.
    column: Option<String>,
    /// Or only the column's beginning.
    whole: bool,
}

impl Found {
    async fn read(connection: &mut MySqlConnection, names: &Names) -> Result<Self, Fault> {
        let within = |view: &str, columns: &str, order: &str| {
            let ours = TABLES.iter().map(|(table, _)| format!("'{}{table}'", names.prefix()));
            AssertSqlSafe(format!(
                // Where names of tables have no case, they may be kept in any.
                "SELECT IF(@@lower_case_table_names = 0, i.table_name, LOWER(i.table_name)) AS held, {columns} \
                 FROM information_schema.{view} AS i WHERE i.table_schema = {} AND i.table_name IN ({}) ORDER BY {order}",
                names.database(),
                ours.collect::<Vec<_>>().join(", "),
            ))
        };
        let mut found = Self::default();
        let tables = within("tables", "i.table_type, i.engine", "1");
        for row in sqlx::raw_sql(tables).fetch_all(&mut *connection).await? {
            let Some(name) = held(&row, names)? else { continue };
            found.tables.push(Table {
                name,
                kind: text(&row, 1)?.unwrap_or_default(),
                engine: text(&row, 2)?,
            });
        }
        let columns = within(
            "columns",
            "i.column_name, i.column_type, i.is_nullable, i.column_default, i.extra, i.generation_expression, \
             i.character_set_name, i.collation_name",
            "1, i.ordinal_position",
        );
        for row in sqlx::raw_sql(columns).fetch_all(&mut *connection).await? {
            let Some(table) = held(&row, names)? else { continue };
            found.columns.push(present(table, &row)?);
        }
        let keys = within("statistics", "i.*", "1, i.index_name, i.seq_in_index");
        for row in sqlx::raw_sql(keys).fetch_all(&mut *connection).await? {
            let Some(table) = held(&row, names)? else { continue };
            found.add_part(table, &row)?;
        }
        Ok(found)
    }

    /// A key has a row for each of its columns.
    fn add_part(&mut self, table: String, row: &MySqlRow) -> Result<(), Fault> {
        let name = text(row, "INDEX_NAME")?.unwrap_or_default();
        let part = Part { column: text(row, "COLUMN_NAME")?, whole: text(row, "SUB_PART")?.is_none() };
        if let Some(key) = self.keys.last_mut().filter(|key| key.table == table && key.name == name) {
            key.parts.push(part);
            return Ok(());
        }
        let unique = row.try_get_unchecked::<i64, _>("NON_UNIQUE")? == 0;
        // Each of the two servers has a word of its own for it.
        let says = |column, word| matches!(text(row, column), Ok(Some(said)) if said == word);
        let of_use = !says("IGNORED", "YES") && !says("IS_VISIBLE", "NO");
        self.keys.push(Key { table, name, unique, parts: vec![part], of_use });
        Ok(())
    }

    fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|found| found.name == table)
    }

    fn differences(&self, names: &Names, tables: &[(&'static str, &'static str)]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut plain = Vec::new();
        for &(table, key) in tables {
            let name = names.name(table);
            let is = self.tables.iter().find(|found| found.name == table);
            if let Some(kind) = is.and_then(Table::other_kind) {
                differences.push(Difference::unmended(format!("{name} is a {kind}, not a table")));
                continue;
            }
            plain.push(table);
            let Some(is) = is else { continue };
            if let Some(engine) = is.engine.as_deref().filter(|engine| *engine != "InnoDB") {
                let what = format!("table {name} is of the engine {engine}, not InnoDB");
                differences.push(Difference::new(what, format!("ALTER TABLE {name} ENGINE=InnoDB")));
            }
            // A column can count only where it has a key.
            differences.extend(self.key_differences(&name, table, key));
        }
        differences.extend(shape::columns(names, &plain, COLUMNS, &self.columns));
        if plain.contains(&"record") && self.has("record") {
            differences.extend(self.index_differences(&names.name("record")));
        }
        differences
    }

    fn has_column(&self, table: &str, column: &str) -> bool {
        self.columns.iter().any(|is| is.table == table && is.name == column)
    }

    /// What refuses two rows of one name, and nothing else. A column that is missing is made with its key.
    fn key_differences(&self, name: &str, table: &'static str, column: &str) -> Vec<Difference> {
        let mut differences = Vec::new();
        let keys = || self.keys.iter().filter(|key| key.table == table);
        let primary = keys().find(|key| key.name == "PRIMARY");
        if self.has_column(table, column) && !keys().any(|key| key.unique && key.of_use && key.is_of(column))
        {
            differences.push(match primary {
                None => Difference::new(
                    format!("table {name} has no primary key ({column})"),
                    format!("ALTER TABLE {name} ADD PRIMARY KEY ({column})"),
                ),
                Some(other) => Difference::new(
                    format!("table {name} has the primary key {other}, and no unique one ({column})"),
                    format!("ALTER TABLE {name} ADD UNIQUE KEY ({column})"),
                ),
            });
        }
        let tells_apart = |key: &&Key| key.parts.iter().any(|part| part.whole && part.is(column));
        // What somebody adds a column to tells rows apart by that.
        let all_ours = |key: &&Key| key.parts.iter().all(|part| part.is_ours(table));
        for key in keys().filter(|key| key.unique && !tells_apart(key) && all_ours(key)) {
            let what = format!("key {} of table {name} lets no two rows have the same {key}", key.name);
            let mend = format!("ALTER TABLE {name} DROP INDEX {}", quoted(&key.name));
            differences.push(Difference::new(what, mend));
        }
        differences
    }

    fn index_differences(&self, name: &str) -> Vec<Difference> {
        let keys = || self.keys.iter().filter(|key| key.table == "record");
        let missing = |column: &&&str| !keys().any(|key| key.of_use && key.begins_with(column));
        let each = INDEXED.iter().filter(missing).map(|column| {
            let index = format!("record_{column}");
            // Such as one that somebody has hidden.
            let taken = keys().any(|key| key.name == index);
            let (how, first) = if taken {
                ("of no use", format!("DROP INDEX {index} ON {name}; "))
            } else {
                ("missing", String::new())
            };
            Difference::new(
                format!("index {index} is {how}"),
                format!("{first}CREATE INDEX {index} ON {name} ({column})"),
            )
        });
        each.collect()
    }
}

impl Table {
    /// A view or a sequence by the name of a table.
    fn other_kind(&self) -> Option<String> {
        let is_table = matches!(self.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED");
        (!is_table).then(|| self.kind.to_lowercase())
    }
}

impl Key {
    fn is_of(&self, column: &str) -> bool {
        matches!(&self.parts[..], [only] if only.whole && only.is(column))
    }

    fn begins_with(&self, column: &str) -> bool {
        self.parts.first().is_some_and(|first| first.is(column))
    }
}

impl Part {
    fn is(&self, column: &str) -> bool {
        self.column.as_deref() == Some(column)
    }

    fn is_ours(&self, table: &str) -> bool {
        COLUMNS.iter().any(|column| column.table == table && self.is(column.name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Part| match (&part.column, part.whole) {
            (Some(column), true) => column.clone(),
            (Some(column), false) => format!("the beginning of {column}"),
            (None, _) => "an expression".to_owned(),
        };
        write!(f, "({})", self.parts.iter().map(part).collect::<Vec<_>>().join(", "))
    }
}

/// Which of our tables a row is about; `None`: one whose name is ours but for its case.
fn held(row: &MySqlRow, names: &Names) -> Result<Option<String>, Fault> {
    let name = text(row, 0)?;
    let table = name.as_deref().and_then(|name| name.strip_prefix(names.prefix()));
    Ok(table.filter(|table| TABLES.iter().any(|(ours, _)| ours == table)).map(str::to_owned))
}

fn text<I>(row: &MySqlRow, at: I) -> Result<Option<String>, Fault>
where
    I: sqlx::ColumnIndex<MySqlRow>,
{
    let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(at)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn present(table: String, row: &MySqlRow) -> Result<Present, Fault> {
    let part = |at| text(row, at).map(Option::unwrap_or_default);
    let (extra, is_nullable) = (part(5)?.to_lowercase(), part(3)?);
    let filled = if extra.contains("auto_increment") {
        Filled::Counter
    } else if !part(6)?.is_empty() || extra.contains("stored generated") {
        Filled::Computed
    } else {
        match text(row, 4)? {
            // MariaDB writes it out.
            Some(default) if default != "NULL" => Filled::Default(default),
            _ => Filled::Nothing,
        }
    };
    let mut r#type = plain_type(&part(2)?);
    if let (Some(set), Some(collation)) = (text(row, 7)?, text(row, 8)?) {
        r#type = format!("{type} CHARACTER SET {set} COLLATE {collation}");
    }
    Ok(Present { table, name: part(1)?, r#type, required: is_nullable == "NO", filled })
}

/// Without what changes no value: the width that MariaDB and older servers show whole numbers with, and how a column is
/// kept on the disk.
fn plain_type(shown: &str) -> String {
    let shown = shown.split("/*").next().unwrap_or_default().trim().to_lowercase();
    let (name, rest) = match shown.split_once('(') {
        Some((name, rest)) => (name, rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => return shown,
    };
    match name {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => format!("{name}{rest}"),
        _ => shown,
    }
}

impl Dialect for Names {
    fn name(&self, table: &str) -> String {
        self.write(&format!("{{p}}{table}"))
    }

    fn create(&self, table: &str) -> String {
        let name = self.name(table);
        let key = TABLES.iter().find(|(ours, _)| *ours == table).map_or("", |(_, key)| key);
        let columns = COLUMNS.iter().filter(|column| column.table == table).map(definition);
        let mut parts: Vec<_> = columns.chain([format!("PRIMARY KEY ({key})")]).collect();
        let mut more = String::new();
        if table == "record" {
            parts.extend(INDEXED.iter().map(|column| format!("KEY record_{column} ({column})")));
            more.push_str(" ROW_FORMAT=DYNAMIC");
        }
        if table == "fence" {
            // Records that were deleted had fences too, and workers of theirs may still come: far beyond all that are there.
            let beyond =
                "; INSERT INTO {p}fence (n) SELECT COALESCE(MAX(fence), 0) + 1000000000 FROM {p}record";
            more.push_str(&self.write(beyond));
        }
        format!("CREATE TABLE {name} ({}) ENGINE=InnoDB{more}", parts.join(", "))
    }

    fn add(&self, column: &Column) -> String {
        let key = if TABLES.contains(&(column.table, column.name)) {
            format!(", ADD PRIMARY KEY ({})", column.name)
        } else {
            String::new()
        };
        format!("ALTER TABLE {} ADD COLUMN {}{key}", self.name(column.table), definition(column))
    }

    fn change(&self, column: &Column, wrong: &[Wrong]) -> String {
        let alter = format!("ALTER TABLE {}", self.name(column.table));
        if wrong.contains(&Wrong::Computed) {
            return format!("{alter} DROP COLUMN {}, ADD COLUMN {}", column.name, definition(column));
        }
        format!("{alter} MODIFY COLUMN {}", definition(column))
    }

    fn free(&self, column: &Present) -> String {
        let (table, name) = (self.name(&column.table), quoted(&column.name));
        format!("ALTER TABLE {table} MODIFY COLUMN {name} {} NULL", column.r#type)
    }
}

fn definition(column: &Column) -> String {
    let how = match column.left_out {
        LeftOut::Null => String::new(),
        LeftOut::Never => " NOT NULL".to_owned(),
        LeftOut::Default(default) => format!(" NOT NULL DEFAULT {default}"),
        LeftOut::Counter => " NOT NULL AUTO_INCREMENT".to_owned(),
    };
    format!("{} {}{how}", column.name, column.r#type.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    // What MySQL 8 shows otherwise than MariaDB is the same column.
    #[test]
    fn a_type_is_the_same_however_a_server_shows_it() {
        for (shown, plain) in [
            ("bigint(20)", "bigint"),
            ("BIGINT", "bigint"),
            ("int(11)", "int"),
            ("tinyint(1)", "tinyint"),
            ("bigint(20) unsigned zerofill", "bigint unsigned zerofill"),
            ("binary(32)", "binary(32)"),
            ("longblob /*M!100301 COMPRESSED*/", "longblob"),
            ("decimal(10,0)", "decimal(10,0)"),
        ] {
            assert_eq!(plain_type(shown), plain, "{shown}");
        }
    }
}
