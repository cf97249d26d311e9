//! What is fuzzed, as plain functions of bytes that panic where something is wrong. `fuzz_targets/` hands them to libFuzzer;
//! `tests/fuzz_cases.rs` of the main crate includes this folder and runs them over the seeds and over every input that was
//! ever found to break something.
#![allow(clippy::unwrap_used, reason = "a panic is what these are for")]

mod config;
mod input;
mod packet;
mod parse;
mod pcap;
pub mod pipeline;
pub mod repair;
mod rewrite;
pub mod seeds;
mod world;

pub use self::config::config;
pub use self::parse::parse;
pub use self::pcap::{pcap, pcapng};
pub use self::rewrite::rewrite;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders and binaries.
pub const TARGETS: [(&str, Target); 6] = [
    ("parse", parse),
    ("pipeline", pipeline::pipeline),
    ("rewrite", rewrite),
    ("config", config),
    ("pcap", pcap),
    ("pcapng", pcapng),
];
