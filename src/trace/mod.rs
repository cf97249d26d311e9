//! `pollux trace`: what the pipeline does to one packet, stage by stage.
//!
//! The packet goes through the very core that the workers run, an empty shard on the tables of the configuration, with every next hop
//! resolved as in `replay`. What each stage decided is read off what came out: the connection that was entered, the frames
//! that left, the reason of a drop; why, by asking the same tables.

mod packet;
mod words;

use std::fmt::{self, Write as _};

use arrayvec::ArrayVec;
use serde::Serialize;
use thiserror::Error;

pub use self::packet::{Described, GRAMMAR, Unclear};

use self::words::{differences, socket, summary, tunneled, whole};
use crate::addr::Mac;
use crate::config::{Algorithm, Config, OnUnknown, Transit};
use crate::conntrack::{self, Flow, Form, View};
use crate::counters::WorkerCounters;
use crate::firewall::Subject;
use crate::ids::{PortId, WorkerId};
use crate::parse::{self, L4, Link, Packet, Parsed};
use crate::pipeline::{
    Account, DropReason, Frame, Handed, MAX_BURST, NeighborUpdate, Output, Resolution, RxChecksum, Shard,
    ShardConfig, VecFrame,
};
use crate::service::Service;
use crate::tables::{LinkInfo, Slots, Tables};
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;

/// There is no such port.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("there is no port {name:?}; the configuration has {}", .known.join(", "))]
pub struct NoPort {
    name: String,
    known: Vec<String>,
}

/// What a stage did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub stage: &'static str,
    /// What it decided.
    pub decision: String,
    /// Why; empty where that is plain.
    pub why: String,
}

/// A frame that left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sent {
    /// By which port.
    pub port: String,
    /// What it is.
    pub packet: String,
    /// The engine's own, not the packet that came in.
    pub originated: bool,
    /// Its bytes from the destination MAC on, in hexadecimal.
    pub frame: String,
}

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trace {
    /// In order, up to the one that decided.
    pub steps: Vec<Step>,
    /// `forward`, `drop`, `punt` or `consume`.
    pub verdict: &'static str,
    /// Of a drop, as metrics name it.
    pub reason: Option<&'static str>,
    /// What left, in order.
    pub out: Vec<Sent>,
}

/// Takes everything down.
#[derive(Default)]
struct Recorder {
    verdict: Option<Verdict>,
    sent: Vec<(PortId, Vec<u8>, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Forward(PortId),
    Drop(DropReason),
    Punt(PortId),
    Consume,
}

impl Output<VecFrame> for Recorder {
    fn forward(&mut self, port: PortId, frame: VecFrame, _account: Account) {
        self.verdict = Some(Verdict::Forward(port));
        self.sent.push((port, frame.data().to_vec(), false));
    }

    fn drop(&mut self, _port: PortId, _frame: VecFrame, reason: DropReason) {
        self.verdict = Some(Verdict::Drop(reason));
    }

    fn punt(&mut self, port: PortId, _frame: VecFrame) -> Result<(), VecFrame> {
        self.verdict = Some(Verdict::Punt(port));
        Ok(())
    }

    fn consume(&mut self, _port: PortId, _frame: VecFrame) {
        self.verdict = Some(Verdict::Consume);
    }

    /// There is no other worker.
    fn hand_off(&mut self, _to: WorkerId, handed: Handed<VecFrame>) -> Result<(), VecFrame> {
        Err(handed.frame)
    }

    fn originate(&mut self, port: PortId, frame: &[u8], fragment: bool) -> bool {
        self.sent.push((port, frame.to_vec(), !fragment));
        true
    }

    fn announce(&mut self, _update: NeighborUpdate) {}
}

/// Sends the packet through a configuration's pipeline.
///
/// # Errors
/// A port that there is not.
pub fn run(config: &Config, described: &Described) -> Result<Trace, NoPort> {
    let ingress = match &described.ingress {
        None => PortId(0),
        Some(name) => match config.ports.iter().position(|port| port.name == *name) {
            Some(index) => PortId::at(index),
            None => {
                let known = config.ports.iter().map(|port| port.name.clone()).collect();
                return Err(NoPort { name: name.clone(), known });
            }
        },
    };
    let mac = |n: usize| Mac([0x02, 0, 0, 0, 0, PortId::at(n).0.wrapping_add(1)]);
    let links: Vec<_> =
        (0..config.ports.len()).map(|n| LinkInfo { mac: mac(n), promiscuous: false }).collect();
    let tables = Tables::compile(config, &links, &mut Slots::default());
    let (_counters, writer) = WorkerCounters::new(tables.sizes(1));
    let shard_config = ShardConfig {
        worker: WorkerId(0),
        workers: 1,
        max_flows: 1,
        seed: 0,
        resolution: Resolution::Assume,
    };
    let mut shard = Shard::new(&shard_config, &tables, writer);
    let port = &tables.ports[ingress.index()];
    let frame = described.frame(port.mac, port.vlan);
    let mut burst = ArrayVec::<VecFrame, MAX_BURST>::new();
    burst.push(VecFrame::new(&frame));
    let mut recorder = Recorder::default();
    shard.receive(&tables, Instant(1), ingress, &mut burst, &mut recorder);
    let mut entered = None;
    let all = |_: &View<'_>| true;
    shard.table().show(0, usize::MAX, all, |flow, _| {
        entered = Some(flow);
        true
    });
    let story = Story { config, tables: &tables, ingress, entered, recorder: &recorder };
    let verdict = recorder.verdict.unwrap_or(Verdict::Consume);
    let mut steps = Vec::new();
    story.tell(&frame, verdict, &mut steps);
    let name = |port: PortId| tables.ports[port.index()].name.clone();
    Ok(Trace {
        steps,
        verdict: match verdict {
            Verdict::Forward(_) => "forward",
            Verdict::Drop(_) => "drop",
            Verdict::Punt(_) => "punt",
            Verdict::Consume => "consume",
        },
        reason: match verdict {
            Verdict::Drop(reason) => Some(reason.label()),
            _ => None,
        },
        out: recorder
            .sent
            .iter()
            .map(|(port, frame, originated)| Sent {
                port: name(*port),
                packet: whole(frame, tables.ports[port.index()].vlan),
                originated: *originated,
                frame: frame.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                }),
            })
            .collect(),
    })
}

/// All that is known once the packet is through.
struct Story<'a> {
    config: &'a Config,
    tables: &'a Tables,
    ingress: PortId,
    /// The connection, where one was entered.
    entered: Option<Flow>,
    recorder: &'a Recorder,
}

impl Story<'_> {
    fn tell(&self, frame: &[u8], verdict: Verdict, steps: &mut Vec<Step>) {
        let mut step = |stage, decision: String, why: String| steps.push(Step { stage, decision, why });
        let port = &self.tables.ports[self.ingress.index()];
        step("rx", format!("in by port {} ({})", port.name, port.mac), String::new());
        let end = |step: &mut dyn FnMut(&'static str, String, String)| {
            let (decision, why) = self.verdict(verdict);
            step("verdict", decision, why);
        };
        let link = Link { mac: Some(port.mac), vlan: port.vlan };
        let packet = match parse::parse(&link, frame, RxChecksum::Unknown) {
            Ok(Parsed::Ip(packet)) => packet,
            Ok(Parsed::Arp { .. }) => return end(&mut step),
            Err(reason) => {
                step("parse", "not sane".into(), reason.description().trim().to_owned());
                return end(&mut step);
            }
        };
        step("parse", summary(&packet), String::new());
        if !matches!(packet.l4_info, L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. }) {
            step("local", self.whose(&packet), "only TCP, UDP and SCTP are balanced".into());
            return end(&mut step);
        }
        step("conntrack", "of no known connection".into(), "a trace begins with an empty table".into());
        if self.firewall(&packet, &mut step) {
            return end(&mut step);
        }
        let Some(service) = self.service(&packet, &mut step) else { return end(&mut step) };
        let opens = conntrack::opens(&packet.l4_info);
        if !opens {
            let why = match self.tables.on_unknown {
                OnUnknown::Drop => "engine.on_unknown is \"drop\"",
                OnUnknown::Reset => "engine.on_unknown is \"reset\": the sender is told",
                OnUnknown::Pickup if service.is_stateless() => {
                    "engine.on_unknown is \"pickup\", and the endpoint follows from the client alone"
                }
                OnUnknown::Pickup => "engine.on_unknown is \"pickup\", but this algorithm cannot pick up",
            };
            step("conntrack", "it opens no connection: mid-stream".into(), why.into());
        }
        let Some(flow) = self.entered else {
            let taking = service.endpoints.iter().filter(|e| e.takes_new()).count();
            if verdict == Verdict::Drop(DropReason::NoEndpoint) {
                let why = format!("{} configured, {taking} take new connections", service.endpoints.len());
                step("endpoint", "none".into(), why);
            } else if let Verdict::Forward(_) = verdict {
                step(
                    "conntrack",
                    "not entered".into(),
                    "direct server return by the hash of the client".into(),
                );
            }
            return end(&mut step);
        };
        self.endpoint(service, &flow, &mut step);
        let entry = format!("entered, half-open; idle timeout {} s", f64::from(flow.idle_timeout_ms) / 1e3);
        step("conntrack", entry, String::new());
        self.way_out(&packet, &flow, &mut step);
        end(&mut step);
    }

    /// Whether the packet ends here.
    fn firewall(&self, packet: &Packet, step: &mut impl FnMut(&'static str, String, String)) -> bool {
        let subject = Subject {
            port: self.ingress,
            src: packet.src,
            dst: packet.dst,
            protocol: packet.protocol,
            ports: Some(packet.ports()),
        };
        let Some((id, drops)) = self.tables.firewall.first_match(&subject) else {
            let why = match self.tables.names.rules.len() {
                0 => "there are no rules".to_owned(),
                n => format!("none of {n} rule(s) matches; the default is to allow"),
            };
            step("firewall", "pass".into(), why);
            return false;
        };
        let rules = &self.tables.names.rules;
        let place = rules.iter().position(|(rule, _)| *rule == id).unwrap_or_default();
        let name = rules.get(place).map_or("", |(_, name)| name);
        let why = format!("rule {name:?}, number {} of {}, is the first match", place + 1, rules.len());
        step("firewall", if drops { "drop" } else { "pass" }.to_owned(), why);
        drops
    }

    fn service(
        &self,
        packet: &Packet,
        step: &mut impl FnMut(&'static str, String, String),
    ) -> Option<&Service> {
        let (_, dport) = packet.ports();
        let protocol = crate::config::Protocol::ALL.into_iter().find(|p| p.number() == packet.protocol)?;
        let Some(service) = self.tables.services.lookup(packet.dst, dport, protocol) else {
            let why = if self.tables.services.is_vip(packet.dst) {
                format!("{} is a VIP, but no service is on {} port {dport}", packet.dst, protocol.name())
            } else if self.tables.is_local(packet.dst) {
                format!("{} is an address of our own", packet.dst)
            } else if self.tables.is_snat(packet.dst) {
                format!("{} is a SNAT address, and no connection has this port", packet.dst)
            } else {
                let transit = match self.tables.transit {
                    Transit::Drop => "drop",
                    Transit::Kernel => "kernel",
                };
                format!("{} is no VIP and no address of our own; engine.transit is {transit:?}", packet.dst)
            };
            step("service", "none".into(), why);
            return None;
        };
        let name = self.tables.names.services.iter().find(|name| name.id == service.id);
        let (name, address) = name.map_or(("", ""), |name| (&name.name, &name.address));
        step("service", name.to_owned(), format!("{address} {}", protocol.name()));
        Some(service)
    }

    fn endpoint(&self, service: &Service, flow: &Flow, step: &mut impl FnMut(&'static str, String, String)) {
        let name = self.tables.names.services.iter().find(|name| name.id == service.id);
        let config = name.and_then(|name| self.config.services.iter().find(|s| s.name == name.name));
        let how = match config.map(|config| config.algorithm) {
            Some(Algorithm::Maglev { size }) => {
                format!("maglev: the hash of client address and port in a table of {size}")
            }
            Some(Algorithm::SourceHash { size }) => {
                format!("source-hash: the hash of the client's address in a table of {size}")
            }
            Some(Algorithm::RoundRobin) => "round-robin: its turn, as after a start".to_owned(),
            Some(Algorithm::LeastConnections) => {
                "least-connections: there are none yet, as after a start".to_owned()
            }
            None => String::new(),
        };
        let taking = service.endpoints.iter().filter(|endpoint| endpoint.takes_new());
        let (count, weights) = taking.fold((0, 0_u64), |(n, sum), e| (n + 1, sum + u64::from(e.weight)));
        let weight = service.endpoint(flow.endpoint_id).map_or(0, |endpoint| endpoint.weight);
        let why = format!(
            "{how}; {count} of {} take new connections, weight {weight} of {weights}",
            service.endpoints.len()
        );
        step("endpoint", socket(flow.endpoint, flow.endpoint_port), why);
    }

    fn way_out(&self, packet: &Packet, flow: &Flow, step: &mut impl FnMut(&'static str, String, String)) {
        let Some((port, frame, _)) = self.recorder.sent.iter().find(|(_, _, originated)| !originated) else {
            return;
        };
        let egress = &self.tables.ports[port.index()];
        let link = Link { mac: None, vlan: egress.vlan };
        let after = parse::parse(&link, frame, RxChecksum::Unknown);
        match (flow.form, after) {
            (Form::DsrIpip | Form::DsrGue, _) => {
                let (way, overhead) = tunneled(flow, frame, egress.l2_len());
                step(
                    "tunnel",
                    way,
                    format!("the packet stays as it came, {overhead} bytes are put before it"),
                );
            }
            (_, Ok(Parsed::Ip(after))) => match differences(packet, &after) {
                none if none.is_empty() => step("rewrite", "nothing".into(), String::new()),
                some => step("rewrite", some, "checksums follow".into()),
            },
            _ => {}
        }
        if let Some(hop) = self.tables.routes.lookup(flow.endpoint) {
            let why = if hop.addr == flow.endpoint {
                "the endpoint is on a connected network".to_owned()
            } else {
                "the gateway of the longest matching route".to_owned()
            };
            let mac = Ethernet::new_checked(frame.as_slice()).map(|ethernet| ethernet.dst());
            let mac = mac.map_or_else(|_| String::new(), |mac| format!(" at {mac}"));
            let fixed = self.tables.neighbors.iter().any(|(p, addr, _)| (*p, *addr) == (hop.port, hop.addr));
            let how = if fixed { "static neighbour" } else { "MAC assumed, as in replay" };
            step("next hop", format!("{}{mac}", hop.addr), format!("{why}; {how}"));
        }
        let pieces = self.recorder.sent.iter().filter(|(_, _, originated)| !originated).count();
        let len = if pieces > 1 { packet.l3_len as usize } else { frame.len() - egress.l2_len() };
        let size = format!("{len} bytes, the MTU is {}", egress.mtu);
        let why = if pieces > 1 { format!("{size}: {pieces} fragments") } else { size };
        step("tx", format!("out by port {}", egress.name), why);
    }

    /// What a packet that is none of a service's is to the engine.
    fn whose(&self, packet: &Packet) -> String {
        if self.tables.services.is_vip(packet.dst) {
            format!("{} is a VIP", packet.dst)
        } else if self.tables.is_local(packet.dst) {
            format!("{} is an address of our own", packet.dst)
        } else if self.tables.is_snat(packet.dst) {
            format!("{} is a SNAT address", packet.dst)
        } else {
            format!("{} is neither a VIP nor an address of our own", packet.dst)
        }
    }

    fn verdict(&self, verdict: Verdict) -> (String, String) {
        let name = |port: PortId| &self.tables.ports[port.index()].name;
        match verdict {
            Verdict::Forward(port) => (format!("forward by port {}", name(port)), String::new()),
            Verdict::Drop(reason) => {
                (format!("drop: {}", reason.label()), reason.description().trim().to_owned())
            }
            Verdict::Punt(port) => {
                (format!("punt to the kernel's interface of port {}", name(port)), String::new())
            }
            Verdict::Consume => ("consume".into(), "the engine itself was the destination".into()),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.stage.len()).max().unwrap_or(0);
        for Step { stage, decision, why } in &self.steps {
            write!(f, "{stage:width$}  {decision}")?;
            if why.is_empty() { writeln!(f)? } else { writeln!(f, "  ({why})")? }
        }
        for Sent { port, packet, originated, .. } in &self.out {
            let whose = if *originated { "the engine's own: " } else { "" };
            writeln!(f, "{:width$}  {port}: {whose}{packet}", "out")?;
        }
        Ok(())
    }
}
