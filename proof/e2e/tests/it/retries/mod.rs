//! The client before the gateway, with a wire between them that breaks. Effects are counted at the application.

#![expect(clippy::print_stdout, reason = "a seed, and what it came to")]

mod drill;
mod support;
