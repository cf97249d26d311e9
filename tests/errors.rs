//! What `pollux run` says when it cannot start: one line that names the cause, and exit status 1.
//!
//! Needs root, so that privileges can be taken away one at a time.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

/// A configuration with one port; `engine` are further lines of its table.
fn config(engine: &str, device: &str, listen: &str) -> String {
    format!(
        r#"
[engine]
idle = "backoff"
{engine}

[[port]]
name      = "wan"
device    = "{device}"
role      = "both"
addresses = ["203.0.113.2/24"]
kernel    = ""

[metrics]
listen = "{listen}"

[history]
path = ""

[control]
socket = ""
"#
    )
}

/// Runs `pollux run` behind `wrapper` (a command line that starts another) until it ends, at most 20 s.
fn run(wrapper: &[&str], config: &str) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(config.as_bytes()).expect("a configuration");
    let mut words = wrapper.iter().copied().chain([POLLUX, "run", "--config"]);
    let mut child = Command::new(words.next().expect("a program"))
        .args(words)
        .arg(file.path())
        // What another test's engine has left that was killed is removed, and said.
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("its status").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it can be killed");
            let out = child.wait_with_output().expect("its output");
            panic!("it runs: {}", String::from_utf8_lossy(&out.stderr));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

/// Exit status 1, nothing on stdout, and one line on stderr that contains all of `words`.
fn assert_one_line(out: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "");
    assert_eq!(said.trim_end().lines().count(), 1, "more than one line:\n{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

const SMALL: &str = "hugepages = false\nmemory_mb = 128\nmax_flows = 1024";

#[test]
fn a_missing_device_is_named() {
    for (device, named) in [
        ("net_af_packet0,iface=nowhere0", "nowhere0"),
        ("0000:ff:1e.6", "0000:ff:1e.6"),
        ("net_nonsense0", "net_nonsense0"),
    ] {
        assert_one_line(&run(&[], &config(SMALL, device, "127.0.0.1:0")), &["port wan", named]);
    }
}

#[test]
fn too_few_hugepages_are_named() {
    let engine = "hugepages = true\nmemory_mb = 16_000_000";
    assert_one_line(&run(&[], &config(engine, "net_null0", "127.0.0.1:0")), &["memory_mb", "hugepages"]);
}

#[test]
fn memory_that_the_machine_has_not_is_named() {
    let engine = "hugepages = false\nmemory_mb = 16_000_000";
    assert_one_line(&run(&[], &config(engine, "net_null0", "127.0.0.1:0")), &["memory_mb"]);
    // Connections that would fill it one day.
    let engine = "hugepages = false\nmemory_mb = 128\nmax_flows = 1_000_000_000";
    assert_one_line(&run(&[], &config(engine, "net_null0", "127.0.0.1:0")), &["max_flows", "MiB"]);
}

#[test]
fn memory_that_does_not_hold_the_buffers_is_named() {
    let engine = "hugepages = false\nmemory_mb = 16";
    assert_one_line(&run(&[], &config(engine, "net_null0", "127.0.0.1:0")), &["memory_mb"]);
}

#[test]
fn a_busy_listen_address_is_named() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = busy.local_addr().expect("its address").to_string();
    assert_one_line(&run(&[], &config(SMALL, "net_null0", &listen)), &[&listen]);
}

#[test]
fn an_admin_socket_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("precious");
    std::fs::write(&file, "").expect("a file");
    for (path, words) in [
        (folder.path().join("no/such.sock"), ["control.socket", "does not exist"]),
        (file, ["control.socket", "is no socket"]),
    ] {
        let socket = format!("socket = {:?}", path.display().to_string());
        let text = config(SMALL, "net_null0", "127.0.0.1:0").replace("socket = \"\"", &socket);
        let out = run(&[], &text);
        assert_one_line(&out, &words);
        assert_one_line(&out, &[&path.display().to_string()]);
    }
}

#[test]
fn a_missing_privilege_is_named() {
    assert!(rustix::process::geteuid().is_root(), "run as root: the test gives privileges up");
    let af_packet = config(SMALL, "net_af_packet0,iface=lo", "127.0.0.1:0");
    let without = |capability: &str| ["setpriv", "--bounding-set", capability].map(str::to_owned);
    for (taken, named) in [("-net_raw", "CAP_NET_RAW"), ("-net_admin", "CAP_NET_ADMIN")] {
        let wrapper = without(taken);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        assert_one_line(&run(&wrapper, &af_packet), &[named]);
    }
    let wrapper = ["setpriv", "--bounding-set", "-all"];
    // All at once.
    assert_one_line(&run(&wrapper, &af_packet), &["port wan", "CAP_NET_RAW", "CAP_NET_ADMIN"]);
}
