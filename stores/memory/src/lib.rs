//! Semel's records in this process's memory: bounded, sharded, not durable.
