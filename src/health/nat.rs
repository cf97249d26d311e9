//! Probes through a VIP (`target = "vip"`): NAT between the kernel and the wire.
//!
//! The kernel cannot speak to a VIP itself: the address is its own, or it knows no way to this endpoint of many. So to the kernel
//! a probe is one of the endpoint's own address, which it finds by its routes and neighbours; on the wire it is one of the VIP, in the
//! service's own encapsulation:
//!
//! ```text
//!   kernel:  port's address → endpoint      wire:  port's address → VIP      by MAC address, or within a tunnel to the endpoint
//!   kernel:  port's address ← endpoint      wire:  port's address ← VIP      as any client is answered
//! ```
//!
//! Pure: bytes to bytes. The thread that serves the TAPs sees all frames either way, and asks ([`ProbeNat::outgoing`],
//! [`ProbeNat::incoming`]); workers know nothing of it. A probe is known by its local port, or by the number in an echo request's
//! data, for as long as its [`Pass`] lives and a while longer.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::addr::{Addr, Mac};
use crate::ids::PortId;
use crate::tunnel::{Envelope, Kind, Tunnel};
use crate::wire::checksum::{apply, apply_udp, delta};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{icmp, icmpv4, icmpv6, ipv4, ipv6, protocol, tcp, udp};

/// What a connection's end still says is translated for this long after its probe.
const LINGER: Duration = Duration::from_secs(5);

/// The way of a service's packets to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ThroughVip {
    /// What the endpoint is spoken to as.
    pub vip: Addr,
    /// The tunnel's kind and its outer source, else the packet's own; none: by the MAC address alone.
    pub tunnel: Option<(Kind, Option<Addr>)>,
}

/// How a probe's packets are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// Protocol and local port.
    Port(u8, u16),
    /// The first eight bytes of the data.
    Echo(u64),
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    endpoint: Addr,
    way: ThroughVip,
    /// The interface that its packets come from, and that interface's MAC.
    from: Option<(PortId, Mac)>,
    /// Its probe has ended; from then on it is forgotten.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Bindings {
    live: HashMap<Key, Binding>,
    /// In their order.
    ending: VecDeque<(Instant, Key)>,
}

/// The probes under way.
#[derive(Debug, Default)]
pub struct ProbeNat {
    bindings: Mutex<Bindings>,
    /// There is one.
    any: AtomicBool,
    /// Identification of outer headers.
    ids: AtomicU16,
}

/// A probe's packets are translated while this lives.
#[derive(Debug)]
pub(super) struct Pass {
    nat: Arc<ProbeNat>,
    key: Key,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let until = Instant::now() + LINGER;
        let mut bindings = self.nat.lock();
        if let Some(binding) = bindings.live.get_mut(&self.key) {
            binding.until = Some(until);
            bindings.ending.push_back((until, self.key));
        }
    }
}

impl ProbeNat {
    /// Translates the packets that are known by `key`, from now on.
    pub(super) fn pass(self: &Arc<Self>, key: Key, endpoint: Addr, way: ThroughVip) -> Pass {
        let now = Instant::now();
        let mut bindings = self.lock();
        while let Some((until, key)) = bindings.ending.front().copied().filter(|(until, _)| *until <= now) {
            bindings.ending.pop_front();
            // Unless it has been taken anew.
            if bindings.live.get(&key).is_some_and(|binding| binding.until == Some(until)) {
                bindings.live.remove(&key);
            }
        }
        bindings.live.insert(key, Binding { endpoint, way, from: None, until: None });
        self.any.store(true, Ordering::Relaxed);
        Pass { nat: Arc::clone(self), key }
    }

    /// A frame of the kernel's, without a VLAN tag, that is to leave by `port`: as it is to leave, where it is a probe's.
    #[must_use]
    pub fn outgoing(&self, port: PortId, frame: &[u8]) -> Option<Vec<u8>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let packet = Packet::read(frame)?;
        let key = packet.key(frame, Side::Source)?;
        let Binding { endpoint, way, .. } = {
            let mut bindings = self.lock();
            let binding = bindings.live.get_mut(&key).filter(|binding| binding.endpoint == packet.dst)?;
            let mac = frame.get(ethernet::field::SRC)?.try_into().ok()?;
            binding.from = Some((port, Mac(mac)));
            *binding
        };
        let mut out = frame.to_vec();
        packet.replace(&mut out, Side::Destination, way.vip)?;
        let Some((kind, source)) = way.tunnel else { return Some(out) };
        let tunnel = Tunnel { kind, src: source.unwrap_or(packet.src), dst: endpoint };
        let inner = out.get(ethernet::HEADER_LEN..packet.end)?;
        let entropy = match key {
            Key::Port(_, port) => port.into(),
            Key::Echo(number) => number as u32,
        };
        let header =
            Envelope::new(tunnel).header(inner, entropy, self.ids.fetch_add(1, Ordering::Relaxed))?;
        // Both ends of the tunnel are of the family that the kernel has chosen the next hop for.
        out.truncate(packet.end);
        out.splice(ethernet::HEADER_LEN..ethernet::HEADER_LEN, header);
        Some(out)
    }

    /// A frame for the kernel, without a VLAN tag: where it answers a probe it is made what the kernel expects, and the port is said to
    /// whose interface it goes.
    pub fn incoming(&self, frame: &mut [u8]) -> Option<PortId> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let packet = Packet::read(frame)?;
        let key = packet.key(frame, Side::Destination)?;
        let binding = *self.lock().live.get(&key)?;
        let (port, mac) = binding.from?;
        if packet.src != binding.way.vip {
            return None;
        }
        packet.replace(frame, Side::Source, binding.endpoint)?;
        frame.get_mut(ethernet::field::DST)?.copy_from_slice(&mac.0);
        Some(port)
    }

    fn lock(&self) -> MutexGuard<'_, Bindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Source,
    Destination,
}

/// A whole IP packet in a frame.
#[derive(Clone, Copy, Debug)]
struct Packet {
    src: Addr,
    dst: Addr,
    protocol: u8,
    l4: usize,
    end: usize,
}

impl Packet {
    /// Of packets without extension headers: neither the kernel's probes nor what answers them have any.
    fn read(frame: &[u8]) -> Option<Self> {
        const L3: usize = ethernet::HEADER_LEN;
        let eth = ethernet::Ethernet::new_checked(frame).ok().filter(|eth| eth.header_len() == L3)?;
        match eth.ethertype() {
            ethertype::IPV4 => {
                let ip = ipv4::Ipv4::new_checked(eth.payload()).ok()?;
                let word = u16::from_be_bytes(eth.payload().get(ipv4::field::FRAGMENT)?.try_into().ok()?);
                let l4 = L3 + usize::from(eth.payload()[ipv4::field::VERSION_IHL] & 0xf) * 4;
                let end = L3
                    + usize::from(u16::from_be_bytes(
                        eth.payload().get(ipv4::field::LENGTH)?.try_into().ok()?,
                    ));
                let whole = word & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) == 0;
                whole.then(|| Self { src: ip.src(), dst: ip.dst(), protocol: ip.protocol(), l4, end })
            }
            ethertype::IPV6 => {
                let ip = ipv6::Ipv6::new_checked(eth.payload()).ok()?;
                let (l4, end) = (L3 + ipv6::HEADER_LEN, L3 + ip.total_len());
                Some(Self { src: ip.src(), dst: ip.dst(), protocol: ip.next_header(), l4, end })
            }
            _ => None,
        }
    }

    /// How a probe would be known that has sent it, or that it is for.
    fn key(&self, frame: &[u8], own: Side) -> Option<Key> {
        let l4 = frame.get(self.l4..self.end)?;
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let at = if own == Side::Source { 0..2 } else { 2..4 };
                Some(Key::Port(self.protocol, u16::from_be_bytes(l4.get(at)?.try_into().ok()?)))
            }
            protocol::ICMPV4 | protocol::ICMPV6 => {
                let message = icmp::Icmp::new_checked(l4).ok()?;
                let kind = match (self.protocol, own) {
                    (protocol::ICMPV4, Side::Source) => icmpv4::ECHO_REQUEST,
                    (protocol::ICMPV4, Side::Destination) => icmpv4::ECHO_REPLY,
                    (_, Side::Source) => icmpv6::ECHO_REQUEST,
                    (_, Side::Destination) => icmpv6::ECHO_REPLY,
                };
                let number = message.payload().first_chunk().filter(|_| message.kind() == kind)?;
                Some(Key::Echo(u64::from_be_bytes(*number)))
            }
            _ => None,
        }
    }

    /// Puts another address of the same family in, and brings the checksums up to date.
    fn replace(&self, frame: &mut [u8], side: Side, new: Addr) -> Option<()> {
        const L3: usize = ethernet::HEADER_LEN;
        let v4 = self.src.is_v4();
        if new.is_v4() != v4 {
            return None;
        }
        let (v4_octets, v6_octets) = (new.v4_octets(), new.v6_octets());
        let (at, bytes): (Range<usize>, &[u8]) = match (v4, side) {
            (true, Side::Source) => (ipv4::field::SRC, &v4_octets),
            (true, Side::Destination) => (ipv4::field::DST, &v4_octets),
            (false, Side::Source) => (ipv6::field::SRC, &v6_octets),
            (false, Side::Destination) => (ipv6::field::DST, &v6_octets),
        };
        let old = frame.get_mut(L3 + at.start..L3 + at.end)?;
        let change = delta(old, bytes);
        old.copy_from_slice(bytes);
        if v4 {
            update(frame, L3, &ipv4::field::CHECKSUM, |sum| apply(sum, change))?;
        }
        match self.protocol {
            protocol::TCP => update(frame, self.l4, &tcp::field::CHECKSUM, |sum| apply(sum, change)),
            protocol::UDP => update(frame, self.l4, &udp::field::CHECKSUM, |sum| apply_udp(sum, change)),
            protocol::ICMPV6 => update(frame, self.l4, &icmp::field::CHECKSUM, |sum| apply(sum, change)),
            // Those of SCTP and ICMPv4 cover no addresses.
            _ => Some(()),
        }
    }
}

fn update(frame: &mut [u8], base: usize, field: &Range<usize>, change: impl Fn(u16) -> u16) -> Option<()> {
    let field = frame.get_mut(base + field.start..base + field.end)?;
    let sum = u16::from_be_bytes((&*field).try_into().ok()?);
    field.copy_from_slice(&change(sum).to_be_bytes());
    Some(())
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
