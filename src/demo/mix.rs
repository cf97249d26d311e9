//! Who does what, and how often: the clients, the services that they choose, and those who are up to no good.

use std::time::Duration;

use super::rng::Rng;
use crate::addr::Addr;
use crate::config::{Config, EndpointState, Protocol};
use crate::time::Instant;

/// New connections per second on average, over all clients. With the sizes of `tcp::script` and the like this makes one to
/// three thousand packets per second.
const CONNECTIONS_PER_SECOND: f64 = 60.0;
/// The rate swells and ebbs with this period, by this share.
const TIDE: Duration = Duration::from_secs(60);
const TIDE_SHARE: f64 = 0.4;

const CLIENTS_V4: u8 = 28;
const CLIENTS_V6: u8 = 12;
/// Where clients are: RFC 5737, RFC 3849.
const NET_V4: [u8; 3] = [192, 0, 2];
const NET_V6: u128 = 0x2001_0db8_00c1 << 80;

/// Tries one port after the other; `block_scanners` of the demo's configuration is about it.
pub(super) const SCANNER: Addr = Addr::v4([198, 51, 100, 66]);
/// Pings what nobody may ping, but it; and what anybody may.
pub(super) const MONITOR: Addr = Addr::v4([192, 0, 2, 250]);
/// Pings too, and is stopped by `block_icmp`.
pub(super) const CURIOUS: Addr = Addr::v4([192, 0, 2, 99]);
/// Goes silent for a while again and again.
pub(super) const FLAKY: Addr = Addr::v4([10, 1, 0, 12]);

/// Between two SYNs of the scanner, two rounds of pings, two knocks at ports without a service.
pub(super) const SCAN_EVERY: Duration = Duration::from_millis(80);
pub(super) const PING_EVERY: Duration = Duration::from_millis(500);
pub(super) const KNOCK_EVERY: Duration = Duration::from_millis(1700);

/// A client.
pub(super) struct Client {
    pub addr: Addr,
    /// From here to the engine.
    pub delay: Duration,
    /// Share of all connections, against the others'.
    weight: f64,
    next_port: u16,
}

/// A service, as its clients know it.
pub(super) struct Target {
    /// Position in the configuration.
    pub service: usize,
    pub vip: Addr,
    pub ports: (u16, u16),
    pub protocol: Protocol,
    weight: f64,
}

/// The clients and what they choose from.
pub(super) struct Mix {
    pub clients: Vec<Client>,
    pub targets: Vec<Target>,
}

impl Mix {
    pub fn new(config: &Config, rng: &mut Rng) -> Self {
        let v4 = (0..CLIENTS_V4).map(|i| {
            let [a, b, c] = NET_V4;
            Addr::v4([a, b, c, 10 + i])
        });
        let v6 = (0..CLIENTS_V6).map(|i| Addr(NET_V6 + 0x10 + u128::from(i)));
        let clients = v4
            .enumerate()
            .chain(v6.enumerate())
            .map(|(rank, addr)| Client {
                addr,
                delay: rng.millis(5, 60),
                // Zipf's law: a few talk most.
                weight: 1.0 / (1.0 + rank as f64).powf(0.8),
                next_port: 32_768 + (rng.next_u32() % 16_384) as u16,
            })
            .collect();
        let targets = config
            .services
            .iter()
            .enumerate()
            .map(|(i, service)| Target {
                service: i,
                vip: service.vip,
                ports: (service.first_port, service.last_port),
                protocol: service.protocol,
                weight: if service.endpoints.iter().all(|e| e.state != EndpointState::Up) {
                    2.0
                } else {
                    match service.protocol {
                        Protocol::Tcp => 16.0,
                        Protocol::Udp if service.last_port > service.first_port => 1.5,
                        Protocol::Udp => 22.0,
                        Protocol::Sctp => 6.0,
                    }
                },
            })
            .collect();
        Self { clients, targets }
    }

    /// Until the next connection begins.
    pub fn wait(&self, now: Instant, rng: &mut Rng) -> Duration {
        let phase = (now.0 % TIDE.as_nanos() as u64) as f64 / TIDE.as_nanos() as f64;
        let tide = 1.0 + TIDE_SHARE * (phase * std::f64::consts::TAU).sin();
        rng.wait(CONNECTIONS_PER_SECOND * tide)
    }

    /// Who begins it, from which port, and with whom: positions in `clients` and `targets`, and the port of the VIP.
    pub fn choose(&mut self, rng: &mut Rng) -> Option<((Addr, u16), usize, u16)> {
        let client = rng.weighted(self.clients.iter().map(|client| client.weight));
        let client = self.clients.get_mut(client)?;
        let v4 = client.addr.is_v4();
        let weights = self.targets.iter().map(|t| if t.vip.is_v4() == v4 { t.weight } else { 0.0 });
        let chosen = rng.weighted(weights);
        let target = self.targets.get(chosen).filter(|target| target.vip.is_v4() == v4)?;
        client.next_port = client.next_port.checked_add(1).unwrap_or(32_768);
        let port = rng.between(target.ports.0.into(), target.ports.1.into()) as u16;
        Some(((client.addr, client.next_port), chosen, port))
    }
}
