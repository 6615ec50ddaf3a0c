//! Semel's records in a SQLite file: one writer thread, group commit, full durability.
