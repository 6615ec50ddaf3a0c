//! Semel as a tower layer: for axum, hyper, tonic and any tower service.
