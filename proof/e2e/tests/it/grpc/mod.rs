//! Scenarios of gRPC: calls, not requests, over hosts of their own.

mod call;
mod calls;
mod deadlines;
mod fixture;
mod hosts;
mod refusals;
mod shop;
mod statuses;
mod streams;
