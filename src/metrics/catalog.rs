//! The bounded series: one for each *label*, however many slots count for it.
//!
//! Two services on one VIP and port, or two endpoints with one address, share a label and therefore a series. A series lives as long as
//! some configured slot has its label; what it counted is retired with the last of them. So it never falls while it is shown.

use std::hash::Hash;

use hashbrown::{HashMap, HashSet};
use slab::Slab;

use super::flows::Amount;
use super::minute::Readings;
use super::tally::Tally;
use super::totals::Retired;
use crate::addr::Addr;
use crate::config::{Protocol, ServiceLabel};
use crate::ids::{EndpointId, RuleId, ServiceId};
use crate::tables::Names;

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
    /// Key of its [`ServiceSeries`].
    pub service: usize,
    pub dip: Addr,
    pub bytes: Tally,
    /// Of pairs without a series.
    pub other: Others,
    /// Of pairs that are not followed.
    pub stray: Others,
    /// Bytes in the distribution window that is open, and in the last whole one.
    pub window: u64,
    pub last_window: u64,
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
    pub fn reconfigure(&mut self, names: &Names, label: ServiceLabel, retired: &mut Retired) -> Removed {
        let services = std::mem::take(&mut self.service_of);
        let endpoints = std::mem::take(&mut self.endpoint_of);
        self.route_services(names, label);
        self.route_endpoints(names);
        self.route_rules(names);
        names.snat.clone_into(&mut self.snat);
        self.recount(names);

        let live: HashSet<usize> = self.service_of.values().copied().collect();
        let live_endpoints: HashSet<usize> = self.endpoint_of.values().copied().collect();
        keep_routes(&mut self.service_of, services, &live);
        keep_routes(&mut self.endpoint_of, endpoints, &live_endpoints);
        let gone = keys_but(&self.endpoints, &live_endpoints);
        let mut removed = Removed { endpoints: Vec::new() };
        for key in gone {
            let series = self.endpoints.remove(key);
            retired.endpoint_bytes.absorb(series.bytes);
            retired.pair_bytes.absorb(series.other.bytes);
            retired.pair_packets.absorb(series.other.packets);
            retired.followed.pair_bytes.absorb(series.stray.bytes);
            retired.followed.pair_packets.absorb(series.stray.packets);
            removed.endpoints.push((key, live.contains(&series.service).then_some(series.service)));
        }
        for key in keys_but(&self.services, &live) {
            let series = self.services.remove(key);
            retired.requests.absorb(series.requests);
            retired.errors.absorb(series.errors);
            retired.service_packets.absorb(series.packets);
            retired.service_bytes.absorb(series.bytes);
            retired.client_packets.absorb(series.other_packets);
            retired.followed.client_packets.absorb(series.stray_packets);
        }
        for key in keys_but(&self.rules, &self.rule_of.values().copied().collect()) {
            retired.fw_drops.absorb(self.rules.remove(key).drops);
        }
        removed
    }

    /// Counts what is configured.
    pub fn recount(&mut self, names: &Names) {
        let health = names.health();
        self.configured = Configured {
            services: names.services.len(),
            rules: names.rules.len(),
            healthy: health.healthy,
            unhealthy: health.unhealthy,
        };
    }

    fn route_services(&mut self, names: &Names, label: ServiceLabel) {
        let mut by_label: HashMap<String, usize> =
            self.services.iter().map(|(key, series)| (series.label.clone(), key)).collect();
        for service in &names.services {
            let label = match label {
                ServiceLabel::Address => &service.address,
                ServiceLabel::Name => &service.name,
            };
            let key = *by_label.entry(label.clone()).or_insert_with(|| {
                self.services.insert(ServiceSeries { label: label.clone(), ..ServiceSeries::default() })
            });
            self.service_of.insert(service.id, key);
            self.protocol_of.insert(service.id, service.protocol);
        }
    }

    fn route_endpoints(&mut self, names: &Names) {
        let mut by_label: HashMap<(usize, Addr), usize> =
            self.endpoints.iter().map(|(key, series)| ((series.service, series.dip), key)).collect();
        for endpoint in &names.endpoints {
            self.home_of.insert(endpoint.id, endpoint.service);
            let Some(&service) = self.service_of.get(&endpoint.service) else { continue };
            let dip = Addr::from(endpoint.address.ip());
            let key = *by_label.entry((service, dip)).or_insert_with(|| {
                self.endpoints.insert(EndpointSeries {
                    service,
                    dip,
                    bytes: Tally::default(),
                    other: Others::default(),
                    stray: Others::default(),
                    window: 0,
                    last_window: 0,
                })
            });
            self.endpoint_of.insert(endpoint.id, key);
        }
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
        }
        for (_, series) in &mut self.endpoints {
            series.window += series.bytes.settle();
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

/// Connections outlive their service and endpoint: what is gone goes on counting where it did, if the series lives on under another's name
/// (a service renamed, say).
fn keep_routes<K: Hash + Eq>(now: &mut HashMap<K, usize>, before: HashMap<K, usize>, live: &HashSet<usize>) {
    for (id, key) in before.into_iter().filter(|(_, key)| live.contains(key)) {
        now.entry(id).or_insert(key);
    }
}

fn keys_but<T>(slab: &Slab<T>, live: &HashSet<usize>) -> Vec<usize> {
    slab.iter().map(|(key, _)| key).filter(|key| !live.contains(key)).collect()
}
