//! Protocols as bytes: one file each, a checked view over a slice, and a builder for frames.
