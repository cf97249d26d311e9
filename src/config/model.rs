//! The configuration after validation: the only form that the rest of the engine sees.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::health::HealthCheck;
use crate::addr::{Addr, Mac, Prefix};

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[engine]`
    pub engine: Engine,
    /// `[[port]]`, at least one, names unique.
    pub ports: Vec<Port>,
    /// `[[route]]`
    pub routes: Vec<Route>,
    /// `[[neighbor]]`
    pub neighbors: Vec<Neighbor>,
    /// `[[service]]`, names unique, (VIP, ports, protocol) disjoint. One that the configuration before has, too, is the same object
    /// ([`load_with`](super::load_with)): that nothing of it is different is seen at a glance.
    pub services: Vec<Arc<Service>>,
    /// `[snat]`
    pub snat: Snat,
    /// `[[firewall]]`, first match wins.
    pub firewall: Vec<Rule>,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[control]`
    pub control: Control,
}

impl Config {
    /// The addresses that the engine sends from in its own name: SNAT's and tunnels'.
    pub fn sources(&self) -> impl Iterator<Item = Addr> {
        let tunnels = self.services.iter().filter_map(|service| match service.mode {
            Mode::DsrTunnel { source, .. } => source,
            _ => None,
        });
        self.snat.addresses.iter().copied().chain(tunnels)
    }
}

/// `[engine]`
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// CPUs, one worker each; empty: one worker on the last CPU.
    pub workers: Vec<usize>,
    /// CPU of the control threads; none: any CPU without a worker.
    pub main_cpu: Option<usize>,
    /// Hugepage memory, or ordinary memory (`--no-huge`).
    pub hugepages: bool,
    /// Memory for DPDK, MiB.
    pub memory_mb: u32,
    /// Passed to EAL unchanged.
    pub eal_args: Vec<String>,
    /// Connections, over all workers.
    pub max_flows: u32,
    /// Packets per RX burst, 1..=[`crate::pipeline::MAX_BURST`].
    pub burst: u16,
    /// What a worker does with nothing to do.
    pub idle: Idle,
    /// What becomes of a mid-stream packet of no known connection.
    pub on_unknown: OnUnknown,
    /// What becomes of packets that are of no service and no local address.
    pub transit: Transit,
    /// After SIGTERM: not ready for this long, then the end.
    pub shutdown_delay: Duration,
}

/// `engine.idle`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Spin.
    Poll,
    /// Pause, then short sleeps.
    Backoff,
}

/// `engine.on_unknown`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Drop and count.
    Drop,
    /// Answer a TCP packet with RST (RFC 9293 §3.10.7.1), drop it.
    Reset,
    /// Where the endpoint follows from the client alone ([`Algorithm::Maglev`], [`Algorithm::SourceHash`]): enter the connection,
    /// half-open until the endpoint answers. Else as [`Self::Drop`].
    Pickup,
}

/// `engine.transit`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transit {
    /// Drop and count.
    Drop,
    /// To the kernel's interface of the port that they came in by: the kernel may forward them.
    Kernel,
}

/// `[[port]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Unique name.
    pub name: String,
    /// PCI address or vdev with its arguments.
    pub device: String,
    /// Which side's traffic comes in here.
    pub role: Role,
    /// Interface addresses.
    pub addresses: Vec<Prefix>,
    /// L3 MTU in bytes.
    pub mtu: u16,
    /// 802.1Q VLAN id, 0 for untagged.
    pub vlan: u16,
    /// RX/TX queues; 0: one per worker where the device can.
    pub queues: u16,
    /// RX ring size.
    pub rx_descriptors: u16,
    /// TX ring size.
    pub tx_descriptors: u16,
    /// Name of the TAP towards the kernel; none: the engine answers for the port itself.
    pub kernel: Option<String>,
}

/// `port.role`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients are here.
    Client,
    /// Endpoints are here.
    Server,
    /// One arm: both.
    Both,
}

/// `[[route]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Destination.
    pub prefix: Prefix,
    /// Gateway, on a connected network of some port.
    pub via: Addr,
}

/// `[[neighbor]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// The neighbour's address.
    pub address: Addr,
    /// Its MAC.
    pub mac: Mac,
    /// Index into [`Config::ports`].
    pub port: usize,
}

/// L4 protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// All, in the order of their index.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IP protocol number (IANA).
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// `tcp`, `udp`, `sctp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Position in [`Protocol::ALL`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// `[[service]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique name.
    pub name: String,
    /// Virtual address.
    pub vip: Addr,
    /// Further virtual addresses of the same service, SCTP alone.
    pub secondary_vips: Vec<Addr>,
    /// First port.
    pub first_port: u16,
    /// Last port, equal to `first_port` unless a range.
    pub last_port: u16,
    /// L4 protocol.
    pub protocol: Protocol,
    /// How its packets get to an endpoint.
    pub mode: Mode,
    /// How an endpoint is chosen.
    pub algorithm: Algorithm,
    /// A client address sticks to its endpoint for this long after its last new connection; zero: not at all.
    pub persistence: Duration,
    /// Established connections idle out after this.
    pub idle_timeout: Duration,
    /// What a client is told when no endpoint can be chosen.
    pub on_no_endpoint: Refusal,
    /// Bytes of the server id in QUIC connection ids, 0: not looked at. Only with UDP.
    pub quic_server_id_bytes: u8,
    /// What becomes of the connections of an endpoint that is down.
    pub on_endpoint_down: Loss,
    /// What becomes of the connections of an endpoint that is no longer configured.
    pub on_endpoint_removed: Loss,
    /// A new or recovered endpoint's share grows to its weight over this time; 0: at once.
    pub slow_start: Duration,
    /// How its endpoints are probed; none: not at all.
    pub health_check: Option<HealthCheck>,
    /// In file order; (address, port) unique within the service.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// All its virtual addresses, the first one first.
    pub fn vips(&self) -> impl Iterator<Item = Addr> {
        [self.vip].into_iter().chain(self.secondary_vips.iter().copied())
    }
}

/// `service.mode`, with the keys that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The destination becomes the endpoint; answers come back this way.
    Dnat,
    /// The source becomes a SNAT address, too.
    FullNat(ClientAddress),
    /// Nothing but MAC addresses; the endpoint answers the client itself.
    DsrL2,
    /// The packet goes to the endpoint in another, and that answers the client itself.
    DsrTunnel {
        /// How packets are wrapped.
        kind: crate::tunnel::Kind,
        /// `service.tunnel_source`; none: an address of the port.
        source: Option<Addr>,
    },
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::FullNat(_) => "full-nat",
            Self::DsrL2 => "dsr-l2",
            Self::DsrTunnel { kind: crate::tunnel::Kind::Ipip, .. } => "dsr-ipip",
            Self::DsrTunnel { kind: crate::tunnel::Kind::Gue(_), .. } => "dsr-gue",
        }
    }

    /// `client_address`, as it is written.
    #[must_use]
    pub const fn client_address(&self) -> &'static str {
        match self {
            Self::FullNat(ClientAddress::Toa) => "toa",
            Self::FullNat(ClientAddress::ProxyV2) => "proxy-v2",
            _ => "none",
        }
    }

    /// `tunnel_source`.
    #[must_use]
    pub const fn tunnel_source(&self) -> Option<Addr> {
        if let Self::DsrTunnel { source, .. } = self { *source } else { None }
    }

    /// `gue_port`.
    #[must_use]
    pub const fn gue_port(&self) -> Option<u16> {
        if let Self::DsrTunnel { kind: crate::tunnel::Kind::Gue(port), .. } = self {
            Some(*port)
        } else {
            None
        }
    }
}

/// `service.client_address`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The endpoint does not learn it.
    None,
    /// By the TCP option.
    Toa,
    /// By a PROXY protocol header.
    ProxyV2,
}

/// `[snat]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snat {
    /// Source addresses of full NAT, none twice, no port's own.
    pub addresses: Vec<Addr>,
    /// First and last port.
    pub ports: (u16, u16),
}

/// `service.algorithm`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Maglev hashing (Eisenbud et al., NSDI 2016) with a table of this prime size.
    Maglev {
        /// Slots, a prime.
        size: u32,
    },
    /// Smooth weighted round-robin.
    RoundRobin,
    /// The fewest active connections for its weight.
    LeastConnections,
    /// Maglev hashing of the client's address alone.
    SourceHash {
        /// Slots, a prime.
        size: u32,
    },
}

/// `service.on_no_endpoint`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Silence.
    Drop,
    /// RST, ICMP port unreachable, SCTP ABORT.
    Reject,
}

/// `service.on_endpoint_down`, `service.on_endpoint_removed`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// The connections go on: `keep`, `drain`.
    #[default]
    Keep,
    /// TCP and SCTP connections are reset, UDP goes to another endpoint.
    Reset,
}

/// `[[service.endpoint]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address, of the VIP's family unless the mode can do otherwise.
    pub address: Addr,
    /// Further addresses, one for each of [`Service::secondary_vips`] and of its family.
    pub secondary_addresses: Vec<Addr>,
    /// Port. For a service on a port range that names no port here: 0, the client's destination port is kept.
    pub port: u16,
    /// Relative share, ≥ 1… 0 is a valid weight and means no new connections.
    pub weight: u32,
    /// Administrative state.
    pub state: EndpointState,
    /// What it is called in QUIC connection ids: [`Service::quic_server_id_bytes`], unique in the service; or empty.
    pub server_id: Vec<u8>,
}

/// `endpoint.state`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Takes connections.
    Up,
    /// Keeps its connections, gets no new ones.
    Drain,
    /// Gets no new ones and counts as unhealthy.
    Down,
}

/// `[[firewall]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique name, the `fw_rule` label.
    pub name: String,
    /// Drop or allow.
    pub action: Action,
    /// IP protocol number, none: any.
    pub protocol: Option<u8>,
    /// Source prefixes; empty: any.
    pub source: Vec<Prefix>,
    /// Destination prefixes; empty: any.
    pub destination: Vec<Prefix>,
    /// Inclusive range; none: any.
    pub source_port: Option<(u16, u16)>,
    /// Inclusive range; none: any.
    pub destination_port: Option<(u16, u16)>,
    /// Ingress port, index into [`Config::ports`]; none: any.
    pub port: Option<usize>,
}

/// `firewall.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop and count.
    Drop,
    /// Go on.
    Allow,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// HTTP listener.
    pub listen: SocketAddr,
    /// Snapshot period.
    pub tick: Duration,
    /// Window of the distribution gauges.
    pub distribution_tick: Duration,
    /// What the `service` label shows.
    pub service_label: ServiceLabel,
    /// Client–endpoint pairs with a series of their own.
    pub flow_series_limit: usize,
    /// Serves the conventional names of newer LoxiLB releases too.
    pub aliases: bool,
    /// HTTP connections at once.
    pub max_connections: usize,
    /// How long a client may take to send a request's header.
    pub header_timeout: Duration,
    /// Who may read, and by what the listener is known.
    pub access: Access,
}

/// The files that secure the HTTP listener. A relative path is one from the configuration's own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `metrics.bearer_token_file`, `metrics.tls_*`
    Keys {
        /// One token a line; none: nobody is asked for one.
        bearer_token_file: Option<PathBuf>,
        /// HTTPS; none: HTTP.
        tls: Option<ServerTls>,
    },
    /// `metrics.web_config`: a web configuration file of Prometheus'.
    WebConfig(PathBuf),
}

impl Default for Access {
    fn default() -> Self {
        Self::Keys { bearer_token_file: None, tls: None }
    }
}

/// `metrics.tls_*`, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients' certificates, which are required then.
    pub client_ca: Option<PathBuf>,
}

/// `metrics.service_label`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceLabel {
    /// `VIP:port`
    #[default]
    Address,
    /// The configured name.
    Name,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where the admin socket is.
    pub socket: AdminSocket,
    /// Reload when the file changes.
    pub watch: bool,
}

/// `control.socket`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminSocket {
    /// Left out: [`crate::control::DEFAULT_SOCKET`], or none where that cannot be had.
    Default,
    /// None.
    Off,
    /// At this absolute path, or the engine does not start.
    At(PathBuf),
}
