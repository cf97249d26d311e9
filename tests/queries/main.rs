//! Every query of LoxiLB Enterprise's documentation, and every panel of our dashboards and of those that LoxiLB publishes, on a
//! Prometheus that scrapes a running engine.
//!
//! ```text
//!   clients, endpoints ── rings ── [ pollux ] ── /metrics ──┐
//!        └── what they saw of it ───────────── /metrics ──┴── Prometheus ── each query, calm and in the storm
//! ```
//!
//! The addresses and names are the documentation's own. `seed.toml` has for each query what it must give: a value, which is
//! compared with the same figure of the clients' and endpoints' own ledger, or nothing. Nearly all thresholds are crossed between
//! the two looks; those that no lab reaches are in `config/prometheus/tests/queries.yml`. `docs/queries.md` is made from the same file.
//!
//! The whole runs in a mount and network namespace of its own, where `/proc/meminfo`, `/proc/stat` and the root file system are the
//! test's. Needs root.
#![allow(clippy::unwrap_used)]

mod expect;
mod lab;
mod ledger;
mod machine;
mod page;
mod panels;
mod prometheus;
mod seed;
mod traffic;

use std::process::Command;

/// Set where the test runs in its own machine.
const INSIDE: &str = "POLLUX_QUERIES_INSIDE";

#[test]
fn queries_give_what_is_written_down() {
    if std::env::var_os(INSIDE).is_some() {
        return lab::run();
    }
    let root = tempfile::tempdir().unwrap();
    let out = Command::new("timeout")
        .args([
            "--kill-after=5",
            "240",
            "unshare",
            "--mount",
            "--net",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
        ])
        .arg(machine::SCRIPT)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "queries_give_what_is_written_down", "--nocapture"])
        .env(INSIDE, "1")
        .env(machine::ROOT, root.path())
        .output()
        .expect("unshare runs");
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    println!("{said}");
}

/// `POLLUX_UPDATE_DOCS=1 cargo test --test queries page` writes it anew.
#[test]
fn the_page_shows_this_file() {
    page::check();
}

#[test]
fn no_panel_goes_unseen() {
    panels::check_lists();
}
