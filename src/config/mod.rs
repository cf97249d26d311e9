//! The configuration file: parsed with spans, validated whole, every problem at once.

mod model;

pub use model::*;
