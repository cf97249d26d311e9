//! What the documentation says is there, is there, and the README's examples work as they stand.
//!
//! Examples run in namespaces of their own, which needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const POLLUX: &str = env!("CARGO_BIN_EXE_pollux");

fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder of documents");
        found.extend(
            entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    found
}

/// The ready-made configurations.
fn examples() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("config");
    let files = std::fs::read_dir(folder).expect("config/").map(|e| e.expect("an entry").path());
    files.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fenced blocks of a language, with the heading that they are under. Indented fences (in lists) are unindented.
fn blocks(text: &str, language: &str) -> Vec<(String, String)> {
    let (mut heading, mut found, mut open) = (String::new(), Vec::new(), None::<(usize, bool, String)>);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some((indent, info == language, String::new())),
            (None, None) => {
                if line.starts_with('#') {
                    heading = line.trim_start_matches('#').trim().to_owned();
                }
            }
            (Some(_), Some(_)) => {
                if let Some((_, true, body)) = open.take() {
                    found.push((heading.clone(), body));
                }
            }
            (Some((indent, _, body)), None) => {
                body.push_str(line.get(*indent..).unwrap_or_default());
                body.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed under {heading}");
    found
}

#[test]
fn links_lead_to_files() {
    let mut links = 0;
    for document in documents() {
        let text = read(&document);
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|t| !t.contains("://") && !t.starts_with('#')) {
            let file = document.parent().expect("a folder").join(target.split('#').next().unwrap_or(target));
            assert!(file.exists(), "{}: {target} leads nowhere", document.display());
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links: the search itself is broken");
}

#[test]
fn commands_in_examples_exist() {
    let help = Command::new(POLLUX).arg("--help").output().expect("pollux runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let mut commands = 0;
    for document in documents() {
        for (heading, block) in blocks(&read(&document), "sh") {
            for line in block.lines() {
                let words: Vec<_> = line.split_whitespace().collect();
                for pair in words.windows(2) {
                    if pair[0].ends_with("release/pollux") {
                        let known = help.lines().any(|l| l.split_whitespace().next() == Some(pair[1]));
                        assert!(known, "{heading}: no command {} in {help}", pair[1]);
                        commands += 1;
                    }
                }
                for script in words.iter().filter(|w| w.starts_with("./")) {
                    assert!(Path::new(ROOT).join(script).exists(), "{heading}: {script} is not there");
                    commands += 1;
                }
            }
        }
    }
    assert!(commands > 4, "only {commands} commands: the search itself is broken");
}

#[test]
fn configurations_are_valid() {
    for file in examples() {
        let out = Command::new(POLLUX).args(["check", "--config"]).arg(&file).output().expect("pollux runs");
        assert!(out.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn the_veth_example_works_as_it_stands() {
    let mut scripts: Vec<_> = blocks(&read(&Path::new(ROOT).join("README.md")), "sh")
        .into_iter()
        .filter(|(h, _)| h == "On veth")
        .collect();
    assert_eq!(scripts.len(), 2, "the example and its removal");
    let (removal, example) = (scripts.pop().expect("two").1, scripts.pop().expect("two").1);
    let example = example.replace("target/release/pollux", POLLUX);
    let script = format!(
        "mount -t tmpfs none /run; mkdir /run/netns; set -e\n{example}\n{removal}\necho \"left: $(ip netns list)\""
    );
    // In a world of its own: the example's names are fixed, and nothing of it outlives the test.
    let out = Command::new("timeout")
        .args([
            "-k",
            "5",
            "60",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["bash", "-c", &script])
        .current_dir(ROOT)
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let license = read(&Path::new(ROOT).join("LICENSE"));
    let last = license.lines().last().expect("a line");
    assert_eq!(said.lines().filter(|l| *l == last).count(), 4, "four pages\n{said}\n{complained}");
    let value = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
    // A page that was asked for before a server had started is asked for again.
    assert!(value("total_requests ") >= Some(4), "{said}\n{complained}");
    assert!(value("processed_packets_total ") >= Some(4 * 10), "{said}\n{complained}");
    assert!(said.contains("endpoint_traffic_bytes{"), "{said}\n{complained}");
    assert!(said.lines().any(|l| l.trim_end() == "left:"), "the example leaves namespaces behind: {said}");
}

/// Every example does what it is for: a packet of its service goes through its pipeline.
#[test]
fn every_example_forwards() {
    let packets = [
        ("two-arm-nat.toml", "tcp 203.0.113.7:4000 > 203.0.113.100:80 syn"),
        ("one-arm-full-nat.toml", "tcp 198.51.100.7:4000 > 10.1.0.100:80 syn"),
        ("full-nat.toml", "tcp [2001:db8:9::7]:4000 > [2001:db8:1::100]:80 syn"),
        ("dsr-l2.toml", "tcp 198.51.100.7:4000 > 203.0.113.100:80 syn"),
        ("dsr-ipip.toml", "tcp 198.51.100.7:4000 > 203.0.113.100:80 syn"),
        ("dsr-gue.toml", "udp 198.51.100.7:4000 > 203.0.113.100:443"),
        ("sctp.toml", "sctp 198.51.100.7:4000 > 203.0.113.100:2905 init"),
        ("quic.toml", "udp 198.51.100.7:4000 > 203.0.113.100:443"),
        ("laptop.toml", "tcp 198.51.100.7:4000 > 192.168.50.100:80 syn"),
        ("veth.toml", "tcp 192.0.2.10:4000 > 192.0.2.100:80 syn"),
        ("benchmark.toml", "udp 16.0.0.1:4000 > 203.0.113.100:53"),
        ("demo.toml", "tcp 198.51.100.7:4000 > 203.0.113.100:80 syn"),
    ];
    for file in examples() {
        let packet = packets.iter().find(|(name, _)| file.ends_with(name));
        let (_, packet) = packet.unwrap_or_else(|| panic!("no packet for {}", file.display()));
        let (config, _) = pollux::config::load(&file).unwrap_or_else(|report| panic!("{report}"));
        let described = pollux::trace::Described::parse(packet).unwrap_or_else(|e| panic!("{packet}: {e}"));
        let trace =
            pollux::trace::run(&config, &described).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(
            (trace.verdict, trace.out.len()),
            ("forward", 1),
            "{}: {:?}",
            file.display(),
            trace.reason
        );
    }
}

/// The ready-made ones start, all but their devices, CPUs and memory as they stand, each on a machine of its own.
#[test]
fn examples_start() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().expect("a folder");
    let starting: Vec<_> = examples()
        .into_iter()
        .map(|example| {
            let file = folder.path().join(example.file_name().expect("a name"));
            std::fs::write(&file, without_hardware(&read(&example))).expect("a file");
            let script = "mount -t tmpfs none /run && ip link set lo up && exec \"$0\" run --config \"$1\"";
            let mut engine = Command::new("unshare");
            engine.args(["--mount", "--net", "sh", "-c", script, POLLUX]).arg(&file);
            engine.stdin(Stdio::null()).stderr(Stdio::piped());
            (example, engine.spawn().expect("unshare runs"))
        })
        .collect();
    for (example, mut child) in starting {
        let mut said = BufReader::new(child.stderr.take().expect("standard error"));
        let mut all = String::new();
        while !all.contains("pollux: ready:") {
            let more = said.read_line(&mut all).expect("a line") > 0;
            assert!(more, "{} does not start: {all}", example.display());
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        std::io::copy(&mut said, &mut std::io::sink()).expect("the rest");
        assert_eq!(child.wait().expect("its end").code(), Some(0), "{}: {all}", example.display());
    }
}

/// A configuration with devices that are nowhere, and the CPUs and memory that are here.
fn without_hardware(text: &str) -> String {
    let mut devices = 0..;
    let lines = text.lines().map(|line| match line.split('=').next().unwrap_or_default().trim() {
        "device" => format!(
            "device = \"net_null{},no-rx=1\"\nrx_descriptors = 256\ntx_descriptors = 256",
            devices.next().unwrap_or(0)
        ),
        "[engine]" => {
            "[engine]\nhugepages = false\nmemory_mb = 256\nmax_flows = 1024\nidle = \"backoff\"".to_owned()
        }
        "workers" | "main_cpu" | "memory_mb" | "hugepages" | "max_flows" | "idle" | "rx_descriptors"
        | "tx_descriptors" => String::new(),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
