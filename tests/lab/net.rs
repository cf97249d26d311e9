//! Network namespaces and the wires between them, made with `ip` and removed when the lab goes.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Prefix of every namespace name; the process id of the lab that made it follows.
const PREFIX: &str = "pollux-lab-";

/// Runs a command to its end; panics with what it said when it fails.
pub fn sh(line: &str) -> String {
    let out = run(line);
    assert!(
        out.status.success(),
        "`{line}` failed ({}): {}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs a command, words separated by blanks, to its end.
pub fn run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    Command::new(program).args(words).output().unwrap_or_else(|e| panic!("`{line}`: {e}; is it installed?"))
}

/// Sends a signal; a process that is gone already needs none.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// One network namespace.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes `pollux-lab-<pid>-<role>`, loopback up, IPv6 without router advertisements and duplicate detection.
    pub fn new(role: &str) -> Self {
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let ns = Self(name);
        ns.sh("ip link set lo up");
        for conf in ["all", "default"] {
            ns.sysctl(&format!("net.ipv6.conf.{conf}.accept_ra"), "0");
            ns.sysctl(&format!("net.ipv6.conf.{conf}.accept_dad"), "0");
        }
        // Few enough segments in flight to fit the kernel's backlog of 1 000 packets between two veth ends, so that a lost
        // packet is a fault and not the lab's own doing.
        ns.sysctl("net.ipv4.tcp_rmem", "4096 65536 131072");
        ns.sysctl("net.ipv4.tcp_wmem", "4096 65536 131072");
        ns
    }

    /// Runs a command in it; panics when it fails.
    pub fn sh(&self, line: &str) -> String {
        sh(&format!("ip netns exec {} {line}", self.0))
    }

    /// Pings from it, with these arguments: each of so many is answered, and once.
    #[track_caller]
    pub fn ping(&self, times: usize, arguments: &str) {
        // With a deadline it waits for the last answer, however late that is, and asks on until then. Without one it would give
        // up once another interval has passed.
        let said = self.sh(&format!("ping -n -c {times} -i 0.2 -w 10 {arguments}"));
        let answers = said.lines().filter(|line| line.contains(" bytes from "));
        let numbers: Vec<usize> = answers
            .filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok())
            .collect();
        assert!(numbers.len() >= times && numbers.iter().copied().eq(1..=numbers.len()), "{said}");
    }

    /// Runs a command in it.
    pub fn run(&self, line: &str) -> Output {
        run(&format!("ip netns exec {} {line}", self.0))
    }

    /// A command in it that dies with the test, to be spawned from the test's own thread.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.0]).arg(program.as_ref());
        command
    }

    /// Sets a sysctl of it.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let owned = value.to_owned();
        self.inside(move || std::fs::write(&path, owned).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Runs `f` in a thread that lives in this namespace. Sockets made there stay there.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                    move_into_link_name_space(
                        std::os::fd::AsFd::as_fd(&file),
                        Some(LinkNameSpaceType::Network),
                    )
                    .unwrap_or_else(|e| panic!("entering {path}: {e}"));
                    f()
                })
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// The MAC of an interface.
    pub fn mac(&self, interface: &str) -> String {
        let line = self.sh(&format!("ip -o link show dev {interface}"));
        let mut words = line.split_whitespace().skip_while(|w| *w != "link/ether");
        words.nth(1).unwrap_or_else(|| panic!("no MAC in {line}")).to_owned()
    }

    /// An interface brought up with addresses; kernel offloads off, so that every packet is on the wire as it is counted.
    pub fn interface(&self, name: &str, addresses: &[&str]) {
        self.sh(&format!("ethtool -K {name} tx off rx off tso off gso off gro off"));
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.sh(&format!("ip address add {address} dev {name}{nodad}"));
        }
        self.sh(&format!("ip link set {name} up"));
    }

    /// An interface brought up for the engine alone: the kernel has no address on it and speaks no IPv6 there.
    pub fn bare_interface(&self, name: &str) {
        self.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1");
        self.interface(name, &[]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A veth pair between two namespaces.
pub fn wire(a: (&Namespace, &str), b: (&Namespace, &str)) {
    sh(&format!("ip link add name {} netns {} type veth peer name {} netns {}", a.1, a.0.0, b.1, b.0.0));
}

/// Removes what labs that no longer run have left behind.
pub fn remove_leftovers() {
    for line in sh("ip netns list").lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    // What still runs in there was started by a lab; the namespace would outlive its name as long as it ran.
    for pid in String::from_utf8_lossy(&run(&format!("ip netns pids {name}")).stdout).split_whitespace() {
        signal(pid.parse().expect("a process id"), Signal::KILL);
    }
    run(&format!("ip netns delete {name}"));
}

/// A TCP connection from a given address of the calling thread's namespace.
pub fn connect_from(source: IpAddr, to: SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::new(source, 0))?;
    // The send timeout bounds connect(2), too.
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout))?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(timeout))?;
    connect(&fd, &to)?;
    Ok(TcpStream::from(fd))
}
