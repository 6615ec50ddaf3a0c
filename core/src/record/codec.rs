//! The one blob that stores keep for a completion.
