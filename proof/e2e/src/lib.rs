//! Scenarios over hosts and stores.
