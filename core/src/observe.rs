//! Hooks that see what happens and change nothing.
