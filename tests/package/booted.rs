//! The installed package under systemd itself, which is booted for it: as the first process of namespaces of its own, on the copy
//! of this machine that the package is installed into, in a cgroup of its own.

use std::process::Command;

use super::{package, run};

/// `$1` is the package, `$2` a folder. What is in front of `exec` lays out what systemd finds; the subshell behind it is what its
/// operator does, and prints.
const SCRIPT: &str = r##"
set -eu
mount -t tmpfs -o mode=755 none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
cp "$1" "$root/tmp/pollux.deb"
mount -t proc proc "$root/proc"
# Neither this machine's sysctls nor its devices, disks or services.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 none "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs none "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 none "$root/run"
: >"$root/etc/fstab"
: >"$root/etc/crypttab"
rm -rf "$root"/etc/systemd/system/*.wants
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
chroot "$root" dpkg --install /tmp/pollux.deb
printf '[Unit]\nRequires=sysinit.target\nWants=pollux.service\n' >"$root/etc/systemd/system/booted.target"
# In less time than an operator has.
mkdir "$root/etc/systemd/system/pollux.service.d"
printf '[Service]\nWatchdogSec=5\nTimeoutAbortSec=1\n' >"$root/etc/systemd/system/pollux.service.d/short.conf"
ip link set lo up
mkdir "$root/before"
cd "$root"
pivot_root . before
umount --lazy /before
(
  set +e
  show() { systemctl show pollux.service --value --property "$1"; }
  # Until a property is as it should be, or for too long.
  await() {
    for _ in $(seq 300); do
      [ "$(show "$1")" = "$2" ] && return
      sleep 0.1
    done
    echo "$1 is $(show "$1"), not $2"
  }
  await ActiveState active
  echo "manager: $(cat /proc/1/comm) $(systemctl is-active booted.target)"
  echo "status: $(show StatusText)"
  for thread in /proc/$(show MainPID)/task/*; do
    echo "thread: $(awk '/^(Uid|CapEff|CapBnd|CapAmb|NoNewPrivs):/ { printf "%s%s ", $1, $2 }' "$thread/status")"
  done | sort | uniq | sed "s/Uid:$(id -u pollux) /Uid:pollux /"

  sed -i 's/^name = "web"/name = "other"/' /etc/pollux/pollux.toml
  systemctl reload pollux && echo "reloaded"
  await StatusText "ready: configuration 2, 1 service(s) on 1 worker(s)"
  cp /etc/pollux/pollux.toml /etc/pollux/good.toml
  echo "x = " >>/etc/pollux/pollux.toml
  systemctl reload pollux 2>/dev/null || echo "a bad file is refused; $(show ActiveState), $(pollux status | grep -o '^configuration *[0-9]*' | tr -s ' ')"

  # It does not come back with a file that it would refuse again, and does with a good one.
  kill -KILL "$(show MainPID)"
  await ActiveState failed
  echo "a bad file at the start: $(show Result) $(show ExecMainStatus), after $(show NRestarts) restart"
  cp /etc/pollux/good.toml /etc/pollux/pollux.toml
  systemctl reset-failed pollux
  systemctl start pollux && echo "started by hand"
  kill -KILL "$(show MainPID)"
  await NRestarts 1
  await ActiveState active
  echo "killed: $(show ActiveState)"
  kill -STOP "$(show MainPID)"
  await NRestarts 2
  await ActiveState active
  echo "hung: $(show ActiveState)"

  systemctl stop pollux
  echo "stopped: $(show ActiveState) $(show Result) $(show ExecMainStatus), $(ls -d /run/pollux 2>/dev/null | wc -l) folders left"
  journalctl --unit pollux --no-pager --output cat | grep -c '^pollux: ready: '
  systemctl exit 0
) </dev/null &
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=booted.target </dev/null
"##;

/// Enters a cgroup of its own, which goes with it, and runs the script there as the first process of its namespaces.
const AROUND: &str = r#"
set -eu
cgroups=$2/cgroups
mkdir "$cgroups" "$2/machine"
mount -t cgroup2 cgroup2 "$cgroups"
own=$cgroups/pollux-test-$$
mkdir "$own"
trap 'find "$own" -depth -type d -exec rmdir {} + || true' EXIT
sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$own" timeout -k 5 240 unshare --mount --net --pid --uts --ipc --cgroup \
  --fork --kill-child bash -c "$3" bash "$1" "$2/machine"
"#;

#[test]
fn systemd_starts_watches_reloads_restarts_and_stops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = run(Command::new("unshare")
        .args(["--mount", "bash", "-c", AROUND, "bash", package()])
        .arg(folder.path())
        .arg(SCRIPT));
    for line in [
        "manager: systemd active",
        "status: ready: configuration 1, 1 service(s) on 1 worker(s)",
        // CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_SYS_NICE: each thread's, or there would be two such lines.
        "thread: Uid:pollux CapEff:0000000000807000 CapBnd:0000000000807000 CapAmb:0000000000807000 NoNewPrivs:1 ",
        "reloaded",
        "a bad file is refused; active, configuration 2",
        "a bad file at the start: exit-code 2, after 1 restart",
        "started by hand",
        "killed: active",
        "hung: active",
        "stopped: inactive success 0, 0 folders left",
        "4",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in\n{said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("thread: ")).count(), 1, "{said}");
    assert!(!said.contains(", not "), "{said}");
}
