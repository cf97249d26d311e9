//! `pollux run` as a service: what systemd hears of it, how it stops under traffic, and that it needs no more than four
//! capabilities. The network is the labs': client, engine, server, each in a network namespace of its own.
//!
//! Needs root, and the programs that `ci/test` installs.

mod capabilities;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/engine.rs"]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
mod listener;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/net.rs"]
mod net;
mod rig;
#[allow(dead_code, reason = "the lab's, of which this needs a part")]
#[path = "../lab/scrape.rs"]
mod scrape;
mod stopping;
mod systemd;
mod unit;
