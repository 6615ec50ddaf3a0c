//! A retried HTTP request runs once: the Idempotency-Key header for Rust servers.
