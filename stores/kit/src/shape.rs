//! Whether tables are what a store's statements are written for. Those who run migrations themselves, or change what is
//! there, are told what differs before the first request.

use std::fmt;

/// A column that a store's statements need.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its table, without schema or prefix.
    pub table: &'static str,
    /// Its own name.
    pub name: &'static str,
    /// As the backend's catalog has it, and as it is written to make it.
    pub r#type: &'static str,
    /// What stands there where a statement does not give it.
    pub left_out: LeftOut,
}

/// What stands in a needed column where a statement does not give it. All but [`Null`](Self::Null) are `NOT NULL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each dialect has to write each")]
pub enum LeftOut {
    /// Every statement gives it.
    Never,
    /// NULL.
    Null,
    /// A default, as it is written.
    Default(&'static str),
    /// The next number of a counter.
    Counter,
}

impl Column {
    /// One that every statement gives.
    pub const fn new(table: &'static str, name: &'static str, r#type: &'static str) -> Self {
        Self { table, name, r#type, left_out: LeftOut::Never }
    }

    /// The same, but this stands there where a statement does not give it.
    pub const fn left_out(self, left_out: LeftOut) -> Self {
        Self { left_out, ..self }
    }
}

/// A column that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Its table, without schema or prefix.
    pub table: String,
    /// Its own name.
    pub name: String,
    /// Its type, written as in [`Column::type`](Column).
    pub r#type: String,
    /// Whether it takes no NULL.
    pub required: bool,
    /// What stands there where a statement does not give it.
    pub filled: Filled,
}

/// What stands in a column that is there, where a statement does not give it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a catalog knows no more")]
pub enum Filled {
    /// NULL; in a column that takes none nothing, and the statement is refused.
    Nothing,
    /// A default, as the catalog has it.
    Default(String),
    /// The next number of a counter.
    Counter,
    /// What the server makes of other columns. Nobody may give it.
    Computed,
}

/// What is wrong with a column that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each dialect has to mend each")]
pub enum Wrong {
    /// It is of another type.
    Type,
    /// It takes no NULL, and has to.
    Required,
    /// It has no default, and needs this one.
    NoDefault(&'static str),
    /// It has a default, and NULL has to stand there.
    HasDefault,
    /// It has to count by itself.
    CountsNot,
    /// It counts by itself, and must not.
    Counts,
    /// It is made of other columns, and has to be written.
    Computed,
}

/// How a backend names and mends tables.
pub trait Dialect {
    /// A table's name, for whoever reads what differs.
    fn name(&self, table: &str) -> String;

    /// Makes a table that is missing.
    fn create(&self, table: &str) -> String;

    /// Adds a column that is missing.
    fn add(&self, column: &Column) -> String;

    /// Mends a column. `wrong` is never empty.
    fn change(&self, column: &Column, wrong: &[Wrong]) -> String;

    /// Has a column of somebody else take NULL.
    fn free(&self, column: &Present) -> String;
}

/// Something that differs from what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What it is, and what it should be.
    pub what: String,
    /// The statements that mend it; `None` where none does.
    pub mend: Option<String>,
}

impl Difference {
    /// Something that a statement mends.
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: Some(mend.into()) }
    }

    /// Something that no statement mends.
    pub fn unmended(what: impl Into<String>) -> Self {
        Self { what: what.into(), mend: None }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mend {
            Some(mend) => write!(f, "{}: {mend}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// All differences in one line, and `None` where there are none: `holder` is what they are in.
///
/// ```
/// # use semel_store_kit::shape::{Difference, told};
/// let gone = Difference::new("index record_due is missing", "CREATE INDEX record_due ON record (due)");
/// let told = told("schema semel", &[gone]).unwrap();
/// assert!(told.starts_with("schema semel differs from what is needed: index record_due is missing: CREATE"));
/// ```
pub fn told(holder: &str, differences: &[Difference]) -> Option<String> {
    let each: Vec<_> = differences.iter().map(Difference::to_string).collect();
    (!each.is_empty()).then(|| format!("{holder} differs from what is needed: {}", each.join("; ")))
}

/// What differs in some tables' columns. What is there beside is nobody's concern, as long as it hinders no claim: a column
/// of somebody else's may be there if it need not be given, and one of the store's may take a NULL that it never gets.
pub fn columns(
    dialect: &impl Dialect,
    tables: &[&str],
    needed: &[Column],
    present: &[Present],
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for table in tables {
        let name = dialect.name(table);
        let present = || present.iter().filter(|is| is.table == *table);
        if present().next().is_none() {
            differences.push(Difference::new(format!("table {name} is missing"), dialect.create(table)));
            continue;
        }
        let needed = || needed.iter().filter(|column| column.table == *table);
        for column in needed() {
            let Some(is) = present().find(|is| is.name == column.name) else {
                let what = format!("column {name}.{} is missing", column.name);
                differences.push(Difference::new(what, dialect.add(column)));
                continue;
            };
            let wrong = wrong(column, is);
            if !wrong.is_empty() {
                let each: Vec<_> = wrong.iter().map(|wrong| wrong.of(column, is)).collect();
                let what = format!("column {name}.{} {}", column.name, each.join(", and "));
                differences.push(Difference::new(what, dialect.change(column, &wrong)));
            }
        }
        let is_ours = |is: &Present| needed().any(|column| is.name == column.name);
        for is in present().filter(|is| is.required && is.filled == Filled::Nothing && !is_ours(is)) {
            let what = format!("column {name}.{} is not one of ours, and has to be given", is.name);
            differences.push(Difference::new(what, dialect.free(is)));
        }
    }
    differences
}

fn wrong(column: &Column, is: &Present) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if is.r#type != column.r#type {
        wrong.push(Wrong::Type);
    }
    if is.required && column.left_out == LeftOut::Null {
        wrong.push(Wrong::Required);
    }
    wrong.extend(match (column.left_out, &is.filled) {
        (_, Filled::Computed) => Some(Wrong::Computed),
        (LeftOut::Counter, Filled::Nothing | Filled::Default(_)) => Some(Wrong::CountsNot),
        (LeftOut::Never | LeftOut::Null | LeftOut::Default(_), Filled::Counter) => Some(Wrong::Counts),
        (LeftOut::Null, Filled::Default(_)) => Some(Wrong::HasDefault),
        (LeftOut::Default(default), Filled::Nothing) => Some(Wrong::NoDefault(default)),
        (LeftOut::Counter, Filled::Counter)
        | (LeftOut::Never | LeftOut::Null, Filled::Nothing)
        | (LeftOut::Never | LeftOut::Default(_), Filled::Default(_)) => None,
    });
    wrong
}

impl Wrong {
    fn of(self, column: &Column, is: &Present) -> String {
        match (self, &is.filled) {
            (Self::Type, _) => format!("is of type {}, not {}", is.r#type, column.r#type),
            (Self::Required, _) => "takes no NULL".to_owned(),
            (Self::NoDefault(default), _) => format!("has no default, not {default}"),
            (Self::HasDefault, Filled::Default(default)) => format!("has the default {default}, not NULL"),
            (Self::HasDefault, _) => "has a default, not NULL".to_owned(),
            (Self::CountsNot, _) => "does not count by itself".to_owned(),
            (Self::Counts, _) => "counts by itself".to_owned(),
            (Self::Computed, _) => "is computed".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Dialect for Plain {
        fn name(&self, table: &str) -> String {
            format!("p_{table}")
        }

        fn create(&self, table: &str) -> String {
            format!("create {table}")
        }

        fn add(&self, column: &Column) -> String {
            format!("add {}", column.name)
        }

        fn change(&self, column: &Column, wrong: &[Wrong]) -> String {
            format!("change {} {wrong:?}", column.name)
        }

        fn free(&self, column: &Present) -> String {
            format!("free {}", column.name)
        }
    }

    const NEEDED: &[Column] = &[
        Column::new("t", "given", "int"),
        Column::new("t", "empty", "int").left_out(LeftOut::Null),
        Column::new("t", "filled", "int").left_out(LeftOut::Default("7")),
        Column::new("t", "counted", "int").left_out(LeftOut::Counter),
    ];

    fn fine() -> Vec<Present> {
        let is = |name: &str, required, filled| Present {
            table: "t".into(),
            name: name.into(),
            r#type: "int".into(),
            required,
            filled,
        };
        vec![
            is("given", true, Filled::Nothing),
            is("empty", false, Filled::Nothing),
            is("filled", true, Filled::Default("7".into())),
            is("counted", true, Filled::Counter),
        ]
    }

    fn after(change: impl FnOnce(&mut Vec<Present>)) -> Vec<String> {
        let mut present = fine();
        change(&mut present);
        columns(&Plain, &["t"], NEEDED, &present).iter().map(Difference::to_string).collect()
    }

    // What is overlooked fails at a payment, and what is made up keeps a service from starting.
    #[test]
    fn each_thing_that_hinders_a_claim_is_told_with_what_mends_it() {
        let default = || Filled::Default("0".into());
        assert_eq!(after(|_| {}), [""; 0]);
        assert_eq!(after(Vec::clear), ["table p_t is missing: create t"]);
        assert_eq!(after(|all| drop(all.remove(1))), ["column p_t.empty is missing: add empty"]);
        for (at, change, told) in [
            (
                0,
                (|is| is.r#type = "text".into()) as fn(&mut Present),
                "given is of type text, not int: change given [Type]",
            ),
            (1, |is| is.required = true, "empty takes no NULL: change empty [Required]"),
            (
                2,
                |is| is.filled = Filled::Nothing,
                "filled has no default, not 7: change filled [NoDefault(\"7\")]",
            ),
            (
                3,
                |is| is.filled = Filled::Nothing,
                "counted does not count by itself: change counted [CountsNot]",
            ),
            (0, |is| is.filled = Filled::Counter, "given counts by itself: change given [Counts]"),
            (1, |is| is.filled = Filled::Computed, "empty is computed: change empty [Computed]"),
        ] {
            assert_eq!(after(|all| change(&mut all[at])), [format!("column p_t.{told}")]);
        }
        let two = "column p_t.empty takes no NULL, and has the default 0, not NULL: change empty [Required, HasDefault]";
        assert_eq!(after(|all| (all[1].required, all[1].filled) = (true, default())), [two]);
    }

    #[test]
    fn what_hinders_no_claim_is_no_difference() {
        for change in [
            (|all: &mut Vec<Present>| all[0].required = false) as fn(&mut Vec<Present>),
            |all| all[0].filled = Filled::Default("0".into()),
            |all| all[2].filled = Filled::Default("8".into()),
            |all| all.push(Present { name: "theirs".into(), required: false, ..all[0].clone() }),
            |all| all.push(Present { name: "theirs".into(), ..all[3].clone() }),
            |all| all.push(Present { table: "other".into(), ..all[0].clone() }),
        ] {
            assert_eq!(after(change), [""; 0]);
        }
        let theirs = |all: &mut Vec<Present>| all.push(Present { name: "theirs".into(), ..all[0].clone() });
        assert_eq!(after(theirs), ["column p_t.theirs is not one of ours, and has to be given: free theirs"]);
    }
}
