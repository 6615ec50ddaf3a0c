//! Which answers are kept.
