//! Which fields are stored, replayed and removed.
