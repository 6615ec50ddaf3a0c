//! Errors on the wire: RFC 9457 problem details.
