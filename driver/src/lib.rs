//! The async shell of Semel's engine: claims, heartbeats, waiting, settling.
