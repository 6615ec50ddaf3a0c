//! The bank that all databases keep: a few accounts, and a ledger with a line a transfer.

use serde::{Deserialize, Serialize};

/// Accounts are numbers from 0 on.
pub(crate) const ACCOUNTS: u32 = 64;
/// What is in each at the beginning: little enough that some transfers are refused.
pub(crate) const CENTS: i64 = 500;

/// A transfer, as a client asks for it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Transfer {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) cents: u32,
}

/// Where the records and the money are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    MySql,
    Postgres,
    Sqlite,
}

impl Database {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) cents: i64,
}
