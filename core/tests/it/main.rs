//! Tests of the public interface of `semel-core`.

mod codec;
