//! The `Idempotency-Key` field: its syntax and its rules.
