//! What `pollux` says about configurations that cannot be used, and its exit status.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A port and nothing else: the least that is valid.
const PORT: &str = "[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\n";

fn pollux(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pollux")).args(args).env("NO_COLOR", "1").output().unwrap()
}

struct Outcome {
    status: Option<i32>,
    out: String,
    err: String,
}

fn check_path(path: &Path, more: &[&str]) -> Outcome {
    let mut args = vec!["check", "--config", path.to_str().unwrap()];
    args.extend(more);
    let output = pollux(&args);
    Outcome {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `check` on a file `f.toml` with these bytes; the folder is cut from what it says.
fn check(bytes: impl AsRef<[u8]>, more: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("f.toml");
    std::fs::write(&path, bytes).unwrap();
    let mut outcome = check_path(&path, more);
    let folder = format!("{}/", dir.path().display());
    outcome.out = outcome.out.replace(&folder, "");
    outcome.err = outcome.err.replace(&folder, "");
    outcome
}

/// Every one of these is on standard error, and the status is 2.
#[track_caller]
fn refused(text: &str, says: &[&str]) {
    let Outcome { status, out, err } = check(text, &[]);
    assert_eq!(status, Some(2), "{err}");
    assert_eq!(out, "", "nothing on standard output");
    for say in says {
        assert!(err.contains(say), "{say} is not in:\n{err}");
    }
}

fn service(name: &str, vip: &str, endpoints: &[&str]) -> String {
    let endpoints: String =
        endpoints.iter().map(|e| format!("[[service.endpoint]]\naddress = \"{e}\"\n")).collect();
    format!("[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\n{endpoints}")
}

#[test]
fn a_valid_file_is_told_so() {
    let text = format!("{PORT}{}", service("web", "10.0.0.9:80", &["10.0.0.5:80", "10.0.0.6:80"]));
    let Outcome { status, out, err } = check(&text, &[]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert_eq!(out, "f.toml: valid: 1 port, 1 service, 2 endpoints, 0 firewall rules\n");
}

#[test]
fn warnings_do_not_refuse() {
    let Outcome { status, out, err } = check(PORT, &[]);
    assert_eq!(status, Some(0));
    assert!(out.starts_with("f.toml: valid: 1 port, 0 services"), "{out}");
    assert!(err.starts_with("f.toml:1:1: warning: the configuration has no service"), "{err}");
}

#[test]
fn unreadable_files() {
    let dir = tempfile::tempdir().unwrap();
    let missing = check_path(&dir.path().join("none.toml"), &[]);
    assert_eq!(missing.status, Some(2));
    assert_eq!(missing.err.lines().count(), 1, "{}", missing.err);
    assert!(
        missing.err.contains("none.toml: error: cannot read the configuration: no such file; name the file")
    );
    let folder = check_path(dir.path(), &[]);
    assert_eq!(folder.status, Some(2));
    assert!(folder.err.contains("it is a directory"), "{}", folder.err);
    let binary = check(b"[engine]\nburst = 3 # \xff\xfe\n", &[]);
    assert_eq!(binary.status, Some(2));
    assert!(binary.err.starts_with("f.toml:2:13: error: the configuration is not UTF-8"), "{}", binary.err);
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    std::fs::write(&path, PORT).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        return; // Root may read everything.
    }
    let outcome = check_path(&path, &[]);
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.err.contains("permission denied; make it readable"), "{}", outcome.err);
}

#[test]
fn empty_files() {
    for text in ["", "\n\n", "# nothing here\n", "\u{feff}"] {
        refused(text, &["f.toml:1:1: error: the configuration has no port", "= help: add a [[port]]"]);
    }
}

#[test]
fn broken_syntax() {
    refused(
        "[engine\nburst = 3\n",
        &["f.toml:1:8: error: not valid TOML: unclosed table", "    1 | [engine\n      |        ^"],
    );
    refused("burst 3\n", &["f.toml:1:7: error: not valid TOML: key with no value"]);
    refused(
        "[engine]\nidle = poll\n",
        &["f.toml:2:8: error: not valid TOML: `poll` is not a value", "\"poll\""],
    );
    refused(
        "[engine]\nidle = \"poll\nburst = \n",
        &[
            "f.toml:2:13: error: not valid TOML: a text is not closed",
            "f.toml:3:9: error: not valid TOML: a value is missing",
            "2 errors",
        ],
    );
    refused("[engine]\n[engine]\n", &["f.toml:2:2: error: `engine` is there twice"]);
    refused("a = [\n\n\n", &["not valid TOML: unclosed array"]);
    refused("\0\0\0", &["f.toml:1:1: error: not valid TOML"]);
}

#[test]
fn unknown_keys_and_values() {
    refused(
        &format!("{PORT}mut = 1500\n[engine]\nidle = \"polll\"\n[enginee]\n"),
        &[
            "f.toml:5:1: error: unknown key `mut` in port \"wan\"\n    5 | mut = 1500\n      | ^^^\n      = help: did you mean `mtu`?",
            "f.toml:7:8: error: `idle` of [engine] is \"polll\", which is unknown\n",
            "did you mean \"poll\"?",
            "f.toml:8:2: error: unknown key `enginee`\n",
            "did you mean `engine`?",
            "3 errors",
        ],
    );
}

#[test]
fn unknown_algorithm() {
    let text = format!("{PORT}{}", service("web", "10.0.0.9:80", &["10.0.0.5:80"]));
    refused(
        &text.replace("vip =", "algorithm = \"random\"\nvip ="),
        &[
            "f.toml:7:13: error: `algorithm` of service \"web\" is \"random\", which is unknown",
            "\"maglev\", \"round-robin\", \"least-connections\", \"source-hash\"",
        ],
    );
}

#[test]
fn what_is_not_supported_yet() {
    let service = service("web", "10.0.0.9:80", &["10.0.0.5:80"]);
    refused(
        &format!("{PORT}{service}[limits]\nconnections = 5\n[history]\n"),
        &[
            "error: `connections` of [limits] is not supported yet",
            "error: `path` of [history] is not supported yet",
            "2 errors",
        ],
    );
}

#[test]
fn overlapping_services() {
    let a = service("a", "10.0.0.9:80-90", &["10.0.0.5:80"]);
    let b = service("b", "10.0.0.9:85", &["10.0.0.5:80"]);
    refused(
        &format!("{PORT}{a}{b}"),
        &[
            "f.toml:12:7: error: service \"b\" overlaps service \"a\": both have tcp port 85 of 10.0.0.9",
            "f.toml:7:7: note: the other service's VIP",
        ],
    );
}

#[test]
fn endpoint_of_the_wrong_family() {
    refused(
        &format!("{PORT}{}", service("web", "10.0.0.9:80", &["[2001:db8::5]:80"])),
        &[
            "f.toml:9:11: error: endpoint \"[2001:db8::5]:80\" of service \"web\" is IPv6, but the service's VIP is IPv4",
            "f.toml:7:7: note: the VIP",
        ],
    );
}

#[test]
fn duplicate_names_and_endpoints() {
    let a = service("a", "10.0.0.9:80", &["10.0.0.5:80", "10.0.0.5:80"]);
    let b = service("a", "10.0.0.9:81", &["10.0.0.5:80"]);
    refused(
        &format!("{PORT}{a}{b}"),
        &[
            "f.toml:11:11: error: endpoint \"10.0.0.5:80\" of service \"a\" is there twice",
            "f.toml:13:8: error: there are two services with the name \"a\"",
            "f.toml:6:8: note: the first one is here",
        ],
    );
}

#[test]
fn a_port_that_does_not_exist() {
    let rule = "[[firewall]]\nname = \"f\"\naction = \"drop\"\nport = \"wam\"\n";
    let neighbor = "[[neighbor]]\naddress = \"10.0.0.5\"\nmac = \"02:00:00:00:00:05\"\nport = \"lan\"\n";
    refused(
        &format!("{PORT}{rule}{neighbor}"),
        &[
            "f.toml:8:8: error: `port` of firewall \"f\" is \"wam\", a port that does not exist",
            "did you mean \"wan\"?",
            "f.toml:12:8: error: `port` of neighbor \"10.0.0.5\" is \"lan\", a port that does not exist",
        ],
    );
}

#[test]
fn addresses_and_prefixes() {
    let route = "[[route]]\nprefix = \"10.9.1.0/16\"\nvia = \"10.0.0.254\"\n[[route]]\nprefix = \"::/0\"\nvia = \"10.0.0.254\"\n";
    refused(
        &format!("{PORT}{route}{}", service("web", "10.0.0.1:80", &["10.0.0.5"])),
        &[
            "f.toml:6:10: error: `prefix` of route \"10.9.1.0/16\" is \"10.9.1.0/16\", which has bits set beyond its prefix length",
            "the prefix is \"10.9.0.0/16\"",
            "f.toml:10:7: error: `via` of route \"::/0\" is 10.0.0.254, of the other address family",
            "f.toml:15:11: error: endpoint \"10.0.0.5\" of service \"web\" has no port",
        ],
    );
}

#[test]
fn numbers_and_durations() {
    refused(
        &format!(
            "{PORT}[engine]\nburst = 1000\nmax_flows = \"many\"\n[metrics]\ntick = \"1\"\nlisten = \"everywhere\"\n"
        ),
        &[
            "f.toml:6:9: error: `burst` of [engine] is 1000, not 1 to 64",
            "f.toml:7:13: error: `max_flows` of [engine] must be an integer, but is a string",
            "f.toml:9:8: error: `tick` of [metrics] is \"1\", a number without a unit",
            "f.toml:10:10: error: `listen` of [metrics] is \"everywhere\", which is not an address and port",
        ],
    );
}

#[test]
fn problems_as_json() {
    let Outcome { status, out, err } = check(format!("{PORT}mut = 1\nmtu = 1\n"), &["--json"]);
    assert_eq!((status, err.as_str()), (Some(2), ""));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["valid"], false);
    assert_eq!(json["errors"].as_array().unwrap().len(), 2);
    assert_eq!(json["errors"][0]["line"], 5);
    assert_eq!(json["errors"][0]["column"], 1);
    assert_eq!(json["errors"][0]["message"], "unknown key `mut` in port \"wan\"");
    assert_eq!(json["warnings"][0]["line"], 1);
    let Outcome { status, out, .. } = check(PORT, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["valid"], &json["ports"]), (Some(0), &true.into(), &1.into()));
}

#[test]
fn run_and_replay_refuse_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    std::fs::write(&path, "[engine]\nburst = 0\n").unwrap();
    let path = path.to_str().unwrap();
    for args in [&["run", "--config", path][..], &["replay", "--config", path, "--in", "x.pcap"]] {
        let output = pollux(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("f.toml:2:9: error: `burst`"), "{args:?}");
    }
}

#[test]
fn wrong_usage_is_status_two_and_what_cannot_be_done_one() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["check", "--frobnicate"],
        &["replay"],
        &["replay", "--in", "=x"],
        &["demo", "--for", "30"],
        &["demo", "--listen", "nowhere"],
        &["--log-format", "xml", "check"],
        &["drain", "web"],
    ] {
        assert_eq!(pollux(args).status.code(), Some(2), "{args:?}");
    }
    // Nobody is asked who is not there.
    for args in [
        &["status"][..],
        &["services", "--json"],
        &["endpoints"],
        &["firewall"],
        &["ports"],
        &["workers"],
        &["flows", "--service", "web", "--client", "10.0.0.1", "--endpoint", "10.0.0.2", "--limit", "3"],
        &["top", "--once"],
        &["drain", "web", "10.0.0.2:80"],
    ] {
        let output = pollux(&[args, &["--socket", "/nonexistent/p.sock"]].concat());
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        let first = err.lines().next().unwrap_or_default();
        assert!(
            first.contains("no engine is running") && first.contains("/nonexistent/p.sock"),
            "{args:?}: {err}"
        );
        assert!(output.stdout.is_empty());
    }
    assert_eq!(pollux(&["import", "ipvsadm", "/nonexistent"]).status.code(), Some(1));
    assert_eq!(pollux(&["trace", "gre", "10.0.0.1"]).status.code(), Some(2));
    let system = check(PORT, &["--system"]);
    // What a machine lacks is its own; that it is said is not.
    assert!(matches!(system.status, Some(0 | 1)), "{}", system.err);
    assert!(system.out.contains("hugepages"), "{}", system.out);
    let help = pollux(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for command in
        "run check reload diff status services endpoints firewall ports workers flows top drain undrain \
                    trace replay demo bench capture import"
            .split_whitespace()
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
}
