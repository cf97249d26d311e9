//! The bounded series: one for each *label*, however many slots count for it.
//!
//! Two services on one VIP and port, or two endpoints with one address, share a label and therefore a series. A series lives as long as
//! some configured slot has its label; what it counted is retired with the last of them. So it never falls while it is shown.
//!
//! A service that is as it was costs a change of the configuration no more than a look.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use slab::Slab;

use super::flows::Amount;
use super::minute::Readings;
use super::tally::Tally;
use super::totals::Retired;
use crate::addr::Addr;
use crate::config::{Protocol, ServiceLabel};
use crate::counters::{HANDSHAKE_BOUNDS_US, HandshakeCounters};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::tables::{Names, ServiceName};

/// Series of a value of the label `service`.
#[derive(Debug, Default)]
pub(super) struct ServiceSeries {
    pub label: String,
    pub requests: Tally,
    pub errors: Tally,
    pub packets: Tally,
    pub bytes: Tally,
    /// Packets of clients without a series, and of pairs that are not followed.
    pub other_packets: Tally,
    pub stray_packets: Tally,
    pub readings: Readings,
    /// Where one of its services is of a protocol that has any.
    pub handshakes: Option<Box<Handshakes>>,
    slots: Users<ServiceId>,
}

/// How long a service's handshakes took, as in [`HandshakeCounters`].
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    pub buckets: [Tally; HANDSHAKE_BOUNDS_US.len() + 1],
    pub micros: Tally,
}

impl Handshakes {
    /// Takes what a bank counted.
    pub fn fold(&mut self, counters: &HandshakeCounters) {
        for (tally, counter) in self.buckets.iter_mut().zip(&counters.buckets) {
            tally.add(counter.take());
        }
        self.micros.add(counters.micros.take());
    }

    fn settle(&mut self) {
        self.buckets.iter_mut().for_each(|tally| _ = tally.settle());
        self.micros.settle();
    }
}

/// Traffic that belongs to no pair of a kind.
#[derive(Debug, Default)]
pub(super) struct Others {
    pub packets: Tally,
    pub bytes: Tally,
}

impl Others {
    /// Counts in the tick that is open.
    pub fn add(&mut self, amount: Amount) {
        self.packets.add(amount.packets);
        self.bytes.add(amount.bytes);
    }

    /// Counts in the snapshot that is being made.
    pub fn credit(&mut self, amount: Amount) {
        self.packets.settled += amount.packets;
        self.bytes.settled += amount.bytes;
    }

    fn settle(&mut self) {
        self.packets.settle();
        self.bytes.settle();
    }
}

/// Series of an endpoint's address within a service label.
#[derive(Debug)]
pub(super) struct EndpointSeries {
    slots: Users<EndpointId>,
    /// Key of its [`ServiceSeries`].
    pub service: usize,
    pub dip: Addr,
    pub bytes: Tally,
    /// Handshakes that were answered, and how long that took, microseconds in all.
    pub handshakes: Tally,
    pub handshake_us: Tally,
    /// Of pairs without a series.
    pub other: Others,
    /// Of pairs that are not followed.
    pub stray: Others,
    /// Bytes in the distribution window that is open, and in the last whole one.
    pub window: u64,
    pub last_window: u64,
}

/// Who counts for a series.
#[derive(Debug)]
struct Users<K> {
    /// Configured slots that have its label. Without any it goes.
    configured: usize,
    /// Every slot that was ever led here, and may be led elsewhere now.
    led: Vec<K>,
}

impl<K> Default for Users<K> {
    fn default() -> Self {
        Self { configured: 0, led: Vec::new() }
    }
}

/// Series of a firewall rule's name.
#[derive(Debug, Default)]
pub(super) struct RuleSeries {
    pub name: String,
    pub drops: Tally,
}

/// How much is configured.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Configured {
    pub services: usize,
    pub rules: usize,
    pub healthy: usize,
    pub unhealthy: usize,
}

/// All bounded series, and which slot counts for which.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub services: Slab<ServiceSeries>,
    pub endpoints: Slab<EndpointSeries>,
    pub rules: Slab<RuleSeries>,
    pub configured: Configured,
    /// In the order of their counters.
    pub snat: Vec<Addr>,
    service_of: HashMap<ServiceId, usize>,
    endpoint_of: HashMap<EndpointId, usize>,
    rule_of: HashMap<RuleId, usize>,
    /// Configured services, and the last change in which they were.
    known: HashMap<ServiceId, (Arc<ServiceName>, u64)>,
    changes: u64,
    label: ServiceLabel,
    by_label: HashMap<String, usize>,
    by_address: HashMap<(usize, Addr), usize>,
    /// Never forgotten: connections outlive their service and endpoint.
    protocol_of: HashMap<ServiceId, Protocol>,
    home_of: HashMap<EndpointId, ServiceId>,
}

/// The endpoint series that a change of the configuration removed, with the key of their service, where that is still there.
pub(super) struct Removed {
    pub endpoints: Vec<(usize, Option<usize>)>,
}

impl Catalog {
    /// The series that a service's counts belong to.
    pub fn service(&mut self, id: ServiceId) -> Option<&mut ServiceSeries> {
        self.services.get_mut(*self.service_of.get(&id)?)
    }

    /// Key of the series that an endpoint's counts belong to.
    pub fn endpoint_key(&self, id: EndpointId) -> Option<usize> {
        self.endpoint_of.get(&id).copied()
    }

    /// The series that a rule's counts belong to.
    pub fn rule(&mut self, id: RuleId) -> Option<&mut RuleSeries> {
        self.rules.get_mut(*self.rule_of.get(&id)?)
    }

    /// Which series each service that has one counts for.
    pub fn by_service(&self) -> impl Iterator<Item = (ServiceId, &ServiceSeries)> {
        self.service_of.iter().map(|(id, key)| (*id, &self.services[*key]))
    }

    /// Which series each endpoint that has one counts for.
    pub fn by_endpoint(&self) -> impl Iterator<Item = (EndpointId, &EndpointSeries)> {
        self.endpoint_of.iter().map(|(id, key)| (*id, &self.endpoints[*key]))
    }

    /// Which series each rule counts for.
    pub fn by_rule(&self) -> impl Iterator<Item = (RuleId, &RuleSeries)> {
        self.rule_of.iter().map(|(id, key)| (*id, &self.rules[*key]))
    }

    /// A service's protocol, also of one that was removed.
    pub fn protocol(&self, id: ServiceId) -> Option<Protocol> {
        self.protocol_of.get(&id).copied()
    }

    /// An endpoint's service, also of one that was removed.
    pub fn home(&self, id: EndpointId) -> Option<ServiceId> {
        self.home_of.get(&id).copied()
    }

    /// Goes over to another configuration: new labels appear at 0, those that are gone are retired. Keys in the result are not
    /// given out again before the next call.
    ///
    /// Connections outlive their service and endpoint: what is gone goes on counting where it did, as long as the series lives on
    /// under another's name (a service renamed, say).
    pub fn reconfigure(&mut self, names: &Names, label: ServiceLabel, retired: &mut Retired) -> Removed {
        let relabelled = std::mem::replace(&mut self.label, label) != label;
        self.changes += 1;
        let mut left = Left::default();
        for service in &names.services {
            let before = self.known.get_mut(&service.id);
            if let Some((known, change)) = before {
                *change = self.changes;
                if !relabelled && (Arc::ptr_eq(known, service) || **known == **service) {
                    continue;
                }
            }
            if let Some((known, _)) = self.known.insert(service.id, (Arc::clone(service), self.changes)) {
                self.leave(&known, &mut left);
            }
            self.join(service);
        }
        let changes = self.changes;
        let gone: Vec<_> = self.known.extract_if(|_, (_, change)| *change != changes).collect();
        for (_, (known, _)) in gone {
            self.leave(&known, &mut left);
        }
        self.route_rules(names);
        names.snat.clone_into(&mut self.snat);
        self.recount(names);
        let removed = self.retire(&left, retired);
        for key in keys_but(&self.rules, &self.rule_of.values().copied().collect()) {
            retired.fw_drops.absorb(self.rules.remove(key).drops);
        }
        removed
    }

    /// A service counts for the series of its label, its endpoints for those of their addresses.
    fn join(&mut self, service: &ServiceName) {
        let label = match self.label {
            ServiceLabel::Address => &service.address,
            ServiceLabel::Name => &service.name,
        };
        let key = match self.by_label.get(label) {
            Some(key) => *key,
            None => {
                let key =
                    self.services.insert(ServiceSeries { label: label.clone(), ..ServiceSeries::default() });
                self.by_label.insert(label.clone(), key);
                key
            }
        };
        lead(&mut self.service_of, service.id, key, &mut self.services[key].slots);
        self.protocol_of.insert(service.id, service.protocol);
        if service.protocol != Protocol::Udp {
            self.services[key].handshakes.get_or_insert_default();
        }
        for endpoint in &service.endpoints {
            self.home_of.insert(endpoint.id, service.id);
            let dip = Addr::from(endpoint.address.ip());
            let key = *self.by_address.entry((key, dip)).or_insert_with(|| {
                self.endpoints.insert(EndpointSeries {
                    slots: Users::default(),
                    service: key,
                    dip,
                    bytes: Tally::default(),
                    handshakes: Tally::default(),
                    handshake_us: Tally::default(),
                    other: Others::default(),
                    stray: Others::default(),
                    window: 0,
                    last_window: 0,
                })
            });
            lead(&mut self.endpoint_of, endpoint.id, key, &mut self.endpoints[key].slots);
        }
    }

    /// A service as it was does not keep its series any more.
    fn leave(&mut self, service: &ServiceName, left: &mut Left) {
        if let Some(&key) = self.service_of.get(&service.id)
            && let Some(series) = self.services.get_mut(key)
        {
            series.slots.configured -= 1;
            left.services.insert(key);
        }
        for endpoint in &service.endpoints {
            if let Some(&key) = self.endpoint_of.get(&endpoint.id)
                && let Some(series) = self.endpoints.get_mut(key)
            {
                series.slots.configured -= 1;
                left.endpoints.insert(key);
            }
        }
    }

    /// Removes what nobody keeps any more, of the series that somebody has left.
    fn retire(&mut self, left: &Left, retired: &mut Retired) -> Removed {
        let unkept = |key: &&usize| self.services[**key].slots.configured == 0;
        let services: HashSet<usize> = left.services.iter().filter(unkept).copied().collect();
        let mut removed = Removed { endpoints: Vec::new() };
        for &key in &left.endpoints {
            if self.endpoints[key].slots.configured > 0 {
                continue;
            }
            let series = self.endpoints.remove(key);
            forget(&mut self.endpoint_of, &series.slots, key);
            self.by_address.remove(&(series.service, series.dip));
            retired.endpoint_bytes.absorb(series.bytes);
            retired.pair_bytes.absorb(series.other.bytes);
            retired.pair_packets.absorb(series.other.packets);
            retired.followed.pair_bytes.absorb(series.stray.bytes);
            retired.followed.pair_packets.absorb(series.stray.packets);
            removed.endpoints.push((key, (!services.contains(&series.service)).then_some(series.service)));
        }
        for key in services {
            let series = self.services.remove(key);
            forget(&mut self.service_of, &series.slots, key);
            self.by_label.remove(&series.label);
            retired.requests.absorb(series.requests);
            retired.errors.absorb(series.errors);
            retired.service_packets.absorb(series.packets);
            retired.service_bytes.absorb(series.bytes);
            retired.client_packets.absorb(series.other_packets);
            retired.followed.client_packets.absorb(series.stray_packets);
        }
        removed
    }

    /// Counts what is configured.
    pub fn recount(&mut self, names: &Names) {
        let health = names.health;
        self.configured = Configured {
            services: names.services.len(),
            rules: names.rules.len(),
            healthy: health.healthy,
            unhealthy: health.unhealthy,
        };
    }

    fn route_rules(&mut self, names: &Names) {
        let mut by_name: HashMap<String, usize> =
            self.rules.iter().map(|(key, series)| (series.name.clone(), key)).collect();
        self.rule_of.clear();
        for (id, name) in &names.rules {
            let key = *by_name.entry(name.clone()).or_insert_with(|| {
                self.rules.insert(RuleSeries { name: name.clone(), drops: Tally::default() })
            });
            self.rule_of.insert(*id, key);
        }
    }

    /// Ends the tick, and the distribution window too where that is due.
    pub fn settle(&mut self, window_ends: bool) {
        for (_, series) in &mut self.services {
            series.requests.settle();
            series.errors.settle();
            series.packets.settle();
            series.bytes.settle();
            series.other_packets.settle();
            series.stray_packets.settle();
            if let Some(handshakes) = &mut series.handshakes {
                handshakes.settle();
            }
        }
        for (_, series) in &mut self.endpoints {
            series.window += series.bytes.settle();
            series.handshakes.settle();
            series.handshake_us.settle();
            series.other.settle();
            series.stray.settle();
            if window_ends {
                series.last_window = std::mem::take(&mut series.window);
            }
        }
        for (_, series) in &mut self.rules {
            series.drops.settle();
        }
    }
}

/// Keys of series that somebody has left.
#[derive(Default)]
struct Left {
    services: HashSet<usize>,
    endpoints: HashSet<usize>,
}

/// A configured slot counts for this series from now on.
fn lead<K: Hash + Eq + Copy>(routes: &mut HashMap<K, usize>, id: K, key: usize, users: &mut Users<K>) {
    users.configured += 1;
    if routes.insert(id, key) != Some(key) {
        users.led.push(id);
    }
}

/// Nobody counts for a series that goes.
fn forget<K: Hash + Eq>(routes: &mut HashMap<K, usize>, users: &Users<K>, key: usize) {
    for id in &users.led {
        if routes.get(id) == Some(&key) {
            routes.remove(id);
        }
    }
}

fn keys_but<T>(slab: &Slab<T>, live: &HashSet<usize>) -> Vec<usize> {
    slab.iter().map(|(key, _)| key).filter(|key| !live.contains(key)).collect()
}
