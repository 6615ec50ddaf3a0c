//! Servers, fault proxies and awkward upstreams for Semel's own tests.
