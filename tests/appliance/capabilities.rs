//! As the unit runs it: a user of its own with four ambient capabilities. Every thread has those, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::engine::Engine;
use crate::rig::{Lab, ask, config, talk};
use crate::unit::CAPABILITIES;

const USER: u32 = 65_534;
/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_IPC_LOCK`, `CAP_SYS_NICE`.
const FOUR: u64 = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 23;

#[test]
fn a_user_with_four_capabilities_is_enough_and_no_thread_has_more() {
    let lab = Lab::new();
    // A copy that anybody can read: the build's folder may be closed to others.
    let binary = lab.dir().join("pollux");
    fs::copy(env!("CARGO_BIN_EXE_pollux"), &binary).expect("a copy");
    let runtime = lab.dir().join("run");
    fs::create_dir(&runtime).expect("a folder");
    for path in [lab.dir(), &runtime] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    chown(&runtime, Some(USER), Some(USER)).expect("an owner");

    // What the engine has of the kernel as well: a TAP, its addresses, neighbours, routes, and nft.
    let socket = runtime.join("p.sock").display().to_string();
    let text = config("", &socket).replacen("kernel    = \"\"", "kernel    = \"px-wan\"", 1);
    let names: Vec<_> = CAPABILITIES
        .iter()
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let set = format!("-all,{}", names.join(","));
    let words = [
        "setpriv".to_owned(),
        format!("--reuid={USER}"),
        format!("--regid={USER}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={set}"),
        format!("--ambient-caps={set}"),
        format!("--bounding-set={set}"),
        "--no-new-privs".to_owned(),
        binary.display().to_string(),
    ];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let runtime = runtime.display().to_string();
    let mut engine = Engine::spawn_by(&lab.lb, lab.dir(), &text, &words, &[("RUNTIME_DIRECTORY", &runtime)]);
    engine.wait_until_ready(&lab.lb);

    talk(&mut lab.connect().expect("a connection")).expect("an echo");
    ask(&lab.datagrams()).expect("an echo");
    lab.client.sh("ping -c 3 -W 5 203.0.113.2");

    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", engine.pid())).expect("its threads").flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("a status");
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{key} in {status}")).trim().to_owned()
        };
        let name = value("Name");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let bits = u64::from_str_radix(&value(set), 16).expect("a set");
            assert_eq!(bits & !FOUR, 0, "{name}: {set} {bits:x}");
        }
        assert_eq!(value("NoNewPrivs"), "1", "{name}");
        assert_eq!(value("Uid"), [USER.to_string().as_str(); 4].join("\t"), "{name}");
        threads.push(name);
    }
    for name in ["pollux", "pollux-w0", "pollux-ctl", "aggregator"] {
        assert!(threads.iter().any(|thread| thread == name), "no {name} in {threads:?}");
    }
    assert!(threads.len() > 6, "{threads:?}");

    let log = engine.log();
    engine.finish();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    assert_eq!(lab.lb.sh("nft list tables"), "", "its guards go with it");
    // So does its socket; of EAL's the parent of all stays, empty.
    let left = |folder: &str| -> Vec<_> {
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect()
    };
    assert_eq!((left(&runtime), left(&format!("{runtime}/dpdk"))), (vec!["dpdk".into()], vec![]));
}
