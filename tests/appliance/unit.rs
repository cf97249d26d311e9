//! The unit: what it says, and that it leaves little open.

use std::path::Path;
use std::process::Command;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd/pollux.service");
/// All that it may do.
pub const CAPABILITIES: [&str; 4] = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_SYS_NICE"];
/// The most that `systemd-analyze security` may find exposed, in tenths.
const EXPOSURE: u32 = 30;

#[test]
fn the_unit_is_as_the_engine_wants_it() {
    let text = std::fs::read_to_string(UNIT).expect("the unit");
    let all = |key: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    for (key, value) in [
        ("Type", "notify"),
        ("ExecStart", "/usr/bin/pollux run --config /etc/pollux/pollux.toml"),
        ("ExecReload", "/usr/bin/pollux reload"),
        ("RestartPreventExitStatus", "2"),
        ("WatchdogSec", "30"),
        ("User", "pollux"),
        ("RuntimeDirectory", "pollux"),
        ("StateDirectory", "pollux"),
        ("LimitMEMLOCK", "infinity"),
        ("NoNewPrivileges", "yes"),
    ] {
        assert_eq!(all(key), [value], "{key}");
    }
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(all(key), [CAPABILITIES.join(" ")], "{key}");
    }
    // Its reload must reach the socket that the engine has by default.
    assert!(Path::new(pollux::control::DEFAULT_SOCKET).starts_with("/run/pollux"));
}

#[test]
fn little_is_exposed() {
    let out = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}"), UNIT])
        .output()
        .expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let level = said.lines().find_map(|line| line.split_once("Overall exposure level for pollux.service:"));
    let level: f64 = level
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    println!("exposure level {level}");
    assert!(level > 0.0 && level <= f64::from(EXPOSURE) / 10.0, "{said}");
    assert!(out.status.success(), "{said}");
}
