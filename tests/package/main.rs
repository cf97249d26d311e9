//! The Debian package: built, installed, run, removed and purged, on a copy of this machine that goes with the test (an overlay
//! in a mount namespace).
//!
//! Needs root, and the programs that `ci/test` installs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

mod booted;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every step ends with a line that the test looks for; `$1` is the package, `$2` a folder.
const SCRIPT: &str = r##"
set -eu
ip link set lo up
mount -t tmpfs -o mode=755 none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
# No systemd and no engine of this machine's.
mount -t tmpfs none "$root/run"
within() { chroot "$root" "$@"; }
cp "$1" "$root/tmp/pollux.deb"

within dpkg --install /tmp/pollux.deb
echo "installed: $(within dpkg-query -W -f '${db:Status-Status}' pollux)"
echo "version: $(within pollux --version)"
echo "check: $(within pollux check --config /etc/pollux/pollux.toml)"
for page in pollux pollux-run pollux-check; do echo "man: $(within man -w "$page")"; done
echo "text: $(within man -P cat pollux-check 2>/dev/null | grep -c -e --system)"
echo "user: $(within id -un pollux) $(within getent passwd pollux | cut -d : -f 6,7)"
within systemd-analyze verify --man=no /usr/lib/systemd/system/pollux.service
echo "unit: verified"
for example in "$root"/usr/share/pollux/examples/*.toml; do
  within pollux check --config "${example#"$root"}" >/dev/null && echo "example: ${example##*/}"
done
within sh -c 'promtool check rules /usr/share/pollux/prometheus/rules/*.yml' >/dev/null && echo "rules: good"

# As its user, with what the unit gives.
install -d -o "$(within id -u pollux)" "$root/run/pollux"
set -- "$1" "$2" -all,+net_admin,+net_raw,+ipc_lock,+sys_nice
# No function: its subshell would get the signal.
chroot "$root" env RUNTIME_DIRECTORY=/run/pollux setpriv --reuid pollux --regid pollux --clear-groups --no-new-privs \
  --inh-caps "$3" --ambient-caps "$3" --bounding-set "$3" \
  pollux run --config /etc/pollux/pollux.toml & engine=$!
for _ in $(seq 200); do
  curl -fs http://127.0.0.1:8080/readyz && break
  kill -0 $engine
  sleep 0.1
done
echo "status: $(within pollux status | head -n 1)"
within pollux reload
kill $engine
wait $engine
echo "stopped: $?"

echo "# edited" >>"$root/etc/pollux/pollux.toml"
within dpkg --remove pollux
echo "removed: $(ls -d "$root/usr/bin/pollux" "$root/usr/share/pollux" "$root/usr/share/man/man1/pollux.1.gz" 2>/dev/null | wc -l)"
echo "kept: $(tail -n 1 "$root/etc/pollux/pollux.toml")"
mkdir -p "$root/var/lib/pollux/history"
within dpkg --purge pollux
echo "purged: $(ls -d "$root/etc/pollux" "$root/var/lib/pollux" 2>/dev/null | wc -l)"
# But for what dpkg, man and the user's entry leave.
cd "$2/upper"
find . -type f -newer "$1" ! -path './var/*' ! -path './etc/*' ! -path './tmp/*' | while read -r file; do echo "left: $file"; done
"##;

fn run(command: &mut Command) -> String {
    let out = command
        .current_dir(ROOT)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{said}\n{complained}", out.status);
    said.into_owned()
}

/// The package, of the program that is tested.
fn package() -> &'static str {
    static BUILT: OnceLock<String> = OnceLock::new();
    BUILT.get_or_init(|| {
        assert!(
            rustix::process::geteuid().is_root(),
            "run as root: the tests install a package, into a copy of this machine"
        );
        let mut build = Command::new("ci/package");
        build.arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/debian"));
        let package = run(build.env("POLLUX_BINARY", env!("CARGO_BIN_EXE_pollux"))).trim().to_owned();
        assert!(Path::new(&package).exists(), "{package}");
        package
    })
}

#[test]
fn the_package_is_built_installed_run_removed_and_purged() {
    let package = package();
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("machine");
    std::fs::create_dir(&root).expect("a folder");

    let list = run(Command::new("dpkg-deb").args(["--contents", package]));
    for path in [
        "./usr/bin/pollux",
        "./usr/lib/systemd/system/pollux.service",
        "./usr/share/bash-completion/completions/pollux",
        "./usr/share/zsh/vendor-completions/_pollux",
        "./usr/share/fish/vendor_completions.d/pollux.fish",
        "./usr/share/doc/pollux/copyright",
        "./usr/share/doc/pollux/operations.md",
        "./usr/share/pollux/prometheus/rules/loxilb.yml",
        "./usr/share/pollux/grafana/dashboards/pollux-overview.json",
    ] {
        assert!(list.lines().any(|line| line.ends_with(&format!(" {path}"))), "{path} in\n{list}");
    }
    assert!(list.lines().all(|line| line.contains(" root/root ")), "all of it is root's\n{list}");
    let depends = run(Command::new("dpkg-deb").args(["--field", package, "Depends"]));
    for name in ["libc6 (>=", "librte-eal", "librte-meta-net", "libpcap0.8"] {
        assert!(depends.contains(name), "{name} in {depends}");
    }

    let said = run(Command::new("timeout")
        .args([
            "-k",
            "5",
            "240",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["bash", "-c", SCRIPT, "bash", package])
        .arg(&root));
    let version = concat!("pollux ", env!("CARGO_PKG_VERSION"));
    for line in [
        "installed: installed",
        &format!("version: {version}"),
        "check: /etc/pollux/pollux.toml: valid: 2 ports, 1 service, 2 endpoints, 0 firewall rules",
        "man: /usr/share/man/man1/pollux-check.1.gz",
        "user: pollux /var/lib/pollux:/usr/sbin/nologin",
        "unit: verified",
        "example: two-arm-nat.toml",
        "example: full-nat.toml",
        "example: dsr-l2.toml",
        "example: sctp.toml",
        "example: laptop.toml",
        "rules: good",
        "nothing has changed",
        "stopped: 0",
        "removed: 0",
        "kept: # edited",
        "purged: 0",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in\n{said}");
    }
    let status = said.lines().find(|line| line.starts_with("status: ")).expect("a status");
    let words: Vec<_> = status.split_whitespace().collect();
    assert_eq!(words[..3], ["status:", "pollux", env!("CARGO_PKG_VERSION")], "{status}");
    assert!(status.contains(", ready, "), "{status}");
    assert!(!said.contains("text: 0"), "{said}");
    assert!(!said.contains("left: "), "{said}");
}
