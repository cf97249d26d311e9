//! The packets: whole frames in mbufs, from one template each, as a client sends them.

use super::case::Spec;
use super::world::{self, LAN_MAC, WAN_MAC};
use crate::addr::{Addr, Mac};
use crate::config::Protocol;
use crate::dpdk::Mbuf;
use crate::pipeline::Frame;
use crate::wire::build::eth;
use crate::wire::checksum::{add, apply, apply_udp, pseudo, sum};
use crate::wire::{tcp, udp};

/// Bytes of an Ethernet header.
const L2: usize = 14;
/// The neighbours' addresses, which the engine never asks about.
const GATEWAY: Mac = Mac([2, 0, 0, 0, 2, 1]);
/// First sequence numbers of clients and servers.
const CLIENT_SEQ: u32 = 1000;
const SERVER_SEQ: u32 = 5000;

/// What is sent for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The first packet.
    Open,
    /// The client's answer to the server's.
    Confirm,
    /// One of many.
    Data,
}

/// A frame whose client has yet to be filled in.
struct Template {
    bytes: Vec<u8>,
    /// Sum of the bytes that a client replaces.
    replaced: u16,
}

/// Makes frames.
pub struct Traffic {
    ipv4: bool,
    protocol: Protocol,
    first: u32,
    steps: [Template; 3],
}

impl Traffic {
    /// Of a case, with L3 packets of `size` bytes, or the smallest that there can be.
    pub fn new(spec: &Spec, size: usize) -> Self {
        let (vip, port) = world::vip(spec);
        let first = world::first_client(spec);
        let headers = if spec.ipv4 { 20 } else { 40 }
            + if spec.protocol == Protocol::Tcp { tcp::HEADER_LEN } else { udp::HEADER_LEN };
        let payload = vec![0x5a; size.saturating_sub(headers)];
        let template = |step: Step| {
            let ip = eth(GATEWAY, WAN_MAC).ip(first, vip);
            let bytes = match (spec.protocol, step) {
                (Protocol::Tcp, Step::Open) => ip.tcp(0, port).syn().seq(CLIENT_SEQ).padded(),
                (Protocol::Tcp, Step::Confirm) => {
                    ip.tcp(0, port).seq(CLIENT_SEQ + 1).ack(SERVER_SEQ + 1).padded()
                }
                (Protocol::Tcp, Step::Data) => {
                    ip.tcp(0, port).seq(CLIENT_SEQ + 1).ack(SERVER_SEQ + 1).payload(&payload).padded()
                }
                _ => ip.udp(0, port).payload(&payload).padded(),
            };
            let at = client_at(spec.ipv4);
            Template { replaced: !sum(&bytes[at..at + 4]), bytes }
        };
        Self {
            ipv4: spec.ipv4,
            protocol: spec.protocol,
            first: first.0 as u32,
            steps: [Step::Open, Step::Confirm, Step::Data].map(template),
        }
    }

    /// Bytes of the largest frame.
    pub fn frame_len(&self) -> usize {
        self.steps.iter().map(|template| template.bytes.len()).max().unwrap_or(0)
    }

    /// Bytes of a frame.
    pub fn len_of(&self, step: Step) -> usize {
        self.steps[step as usize].bytes.len()
    }

    /// A packet of this connection; `false` where the buffer is too small.
    #[must_use]
    pub fn write(&self, frame: &mut Mbuf, step: Step, connection: usize) -> bool {
        let template = &self.steps[step as usize];
        let fits = frame.renew(&template.bytes);
        if fits {
            self.fill_in(frame.data_mut(), template.replaced, connection);
        }
        fits
    }

    /// The same by itself.
    pub fn frame(&self, step: Step, connection: usize) -> Vec<u8> {
        let Template { bytes, replaced } = &self.steps[step as usize];
        let mut frame = bytes.clone();
        self.fill_in(&mut frame, *replaced, connection);
        frame
    }

    /// The client, in a copy of a template.
    fn fill_in(&self, data: &mut [u8], replaced: u16, connection: usize) {
        let (client, port) = world::client(connection);
        let (client, port) = (self.first.wrapping_add(client).to_be_bytes(), port.to_be_bytes());
        let (address, l4) = (client_at(self.ipv4), l4_at(self.ipv4));
        data[address..address + 4].copy_from_slice(&client);
        data[l4..l4 + 2].copy_from_slice(&port);
        let of_address = add(replaced, sum(&client));
        if self.ipv4 {
            update(data, L2 + 10, |checksum| apply(checksum, of_address));
        }
        let both = add(of_address, sum(&port));
        match self.protocol {
            Protocol::Tcp => update(data, l4 + 16, |checksum| apply(checksum, both)),
            _ => update(data, l4 + 6, |checksum| apply_udp(checksum, both)),
        }
    }

    /// Makes of a packet that an endpoint got the endpoint's answer.
    pub fn answer(&self, frame: &mut Mbuf) {
        let l4 = l4_at(self.ipv4);
        let data = frame.data_mut();
        data[..6].copy_from_slice(&LAN_MAC.0);
        let (from, len) = if self.ipv4 { (L2 + 12, 4) } else { (L2 + 8, 16) };
        let (addresses, rest) = data[from..].split_at_mut(len);
        addresses.swap_with_slice(&mut rest[..len]);
        let (source, rest) = data[l4..].split_at_mut(2);
        source.swap_with_slice(&mut rest[..2]);
        if self.protocol == Protocol::Tcp {
            let header = &mut data[l4..];
            header[tcp::field::SEQ].copy_from_slice(&SERVER_SEQ.to_be_bytes());
            header[tcp::field::ACK].copy_from_slice(&(CLIENT_SEQ + 1).to_be_bytes());
            header[tcp::field::FLAGS] = tcp::flag::SYN | tcp::flag::ACK;
            header[tcp::field::CHECKSUM].fill(0);
            let (source, destination) = addresses_of(data, self.ipv4);
            let end = l4 + tcp::HEADER_LEN;
            let checksum = pseudo(source, destination, Protocol::Tcp.number(), &data[l4..end]);
            data[l4 + tcp::field::CHECKSUM.start..l4 + tcp::field::CHECKSUM.end]
                .copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// Where the bytes of the source address are that tell clients apart.
const fn client_at(ipv4: bool) -> usize {
    if ipv4 { L2 + 12 } else { L2 + 8 + 12 }
}

const fn l4_at(ipv4: bool) -> usize {
    if ipv4 { L2 + 20 } else { L2 + 40 }
}

fn update(data: &mut [u8], at: usize, change: impl Fn(u16) -> u16) {
    let new = change(u16::from_be_bytes([data[at], data[at + 1]]));
    data[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

fn addresses_of(data: &[u8], ipv4: bool) -> (Addr, Addr) {
    let mut pair = [Addr::default(); 2];
    for (n, addr) in pair.iter_mut().enumerate() {
        *addr = if ipv4 {
            Addr::v4(std::array::from_fn(|i| data[L2 + 12 + 4 * n + i]))
        } else {
            Addr::v6(std::array::from_fn(|i| data[L2 + 8 + 16 * n + i]))
        };
    }
    (pair[0], pair[1])
}

#[cfg(test)]
mod tests {
    use super::super::case::{Case, single};
    use super::*;
    use crate::wire::build::verify;

    #[test]
    fn frames_are_as_a_client_makes_them() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (ipv4, size) in [(true, 46), (true, 0), (false, 46), (false, 1500)] {
                let spec = Spec { protocol, ipv4, ..single(Case::EstablishedHot, 1)[0] };
                let traffic = Traffic::new(&spec, size);
                for connection in [0, 1, 7, 8, 65_535, 9_999_999] {
                    for step in [Step::Open, Step::Confirm, Step::Data] {
                        let frame = traffic.frame(step, connection);
                        verify(&frame).unwrap();
                        assert!(frame.len() >= 60 && frame.len() <= traffic.frame_len());
                    }
                }
                assert!(traffic.len_of(Step::Data) >= 14 + size.max(46));
            }
        }
    }
}
