//! Servers and cables fail while gateways serve, all of them processes. What counts is what the upstream has seen.

mod cables;
mod failover;
mod gateways;
mod servers;
mod support;
