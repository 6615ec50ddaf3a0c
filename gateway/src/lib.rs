//! Semel as a reverse proxy before an application in any language.
