//! The rules of a route: which answers are kept, which fields are replayed, and the limits.

pub mod headers;
pub mod keep;
