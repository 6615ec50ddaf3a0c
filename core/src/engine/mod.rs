//! The states of a request, as types that the events consume.
