//! The laws every Semel store keeps, as tests for anyone's store.
