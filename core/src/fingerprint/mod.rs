//! What a request asks for, as one keyed hash.
