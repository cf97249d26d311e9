//! The samples of endpoints and of the `sip`-labelled families, written straight into the text: with millions of them, formatting is what a page costs.

use std::fmt::Write;

use super::super::catalog::Catalog;
use super::super::encode::escape;
use super::super::families::{self, Family};
use crate::addr::Addr;

/// Value of the label `sip`: a client, or all that have no series of their own. Those come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::metrics) enum Sip {
    Other,
    Client(Addr),
}

impl Sip {
    fn write(self, out: &mut String) {
        match self {
            Self::Other => out.push_str("other"),
            Self::Client(addr) if addr.is_v4() => {
                let [first, rest @ ..] = addr.v4_octets();
                number(out, first.into());
                for octet in rest {
                    out.push('.');
                    number(out, octet.into());
                }
            }
            Self::Client(addr) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "{addr}");
            }
        }
    }
}

/// Between the service's label and the client's address.
const SIP: &str = ",sip=\"";

/// An endpoint's series.
#[derive(Debug)]
pub(in crate::metrics) struct Dip {
    /// Key of the service's series.
    pub service: usize,
    pub addr: Addr,
    /// What follows the client's address, up to the value.
    tail: String,
}

/// The labels of all series, by the keys of the catalogue, as they stand in a line.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Labels {
    /// The service's label, and what comes before the client's address.
    services: Vec<Option<(String, String)>>,
    endpoints: Vec<Option<Dip>>,
}

impl Labels {
    pub fn new(catalog: &Catalog) -> Self {
        let mut labels = Self::default();
        for (key, series) in &catalog.services {
            let head = format!("{{service=\"{}\"{SIP}", escape(&series.label));
            set(&mut labels.services, key, (series.label.clone(), head));
        }
        for (key, series) in &catalog.endpoints {
            let tail = format!("\",dip=\"{}\"}} ", series.dip);
            set(&mut labels.endpoints, key, Dip { service: series.service, addr: series.dip, tail });
        }
        labels
    }

    /// Key and label of each service.
    pub fn services(&self) -> impl Iterator<Item = (usize, &str)> {
        let services = self.services.iter().enumerate();
        services.filter_map(|(key, service)| Some((key, service.as_ref()?.0.as_str())))
    }

    pub fn service(&self, key: usize) -> &str {
        self.services.get(key).and_then(Option::as_ref).map_or("", |(label, _)| label)
    }

    /// Key and series of each endpoint.
    pub fn endpoints(&self) -> impl Iterator<Item = (usize, &Dip)> {
        let endpoints = self.endpoints.iter().enumerate();
        endpoints.filter_map(|(key, endpoint)| Some((key, endpoint.as_ref()?)))
    }

    pub fn endpoint(&self, key: usize) -> Option<&Dip> {
        self.endpoints.get(key)?.as_ref()
    }

    /// Keys of all endpoints, by the labels.
    pub fn ordered(&self) -> impl Iterator<Item = usize> {
        let mut keys: Vec<_> =
            self.endpoints().map(|(key, dip)| (self.service(dip.service), dip.addr, key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(.., key)| key)
    }

    /// Writes what follows the name in a sample of an endpoint's.
    pub fn of_endpoint(&self, out: &mut String, endpoint: usize, value: impl FnOnce(&mut String)) {
        let Some(dip) = self.endpoint(endpoint) else { return };
        let Some((_, head)) = self.services.get(dip.service).and_then(Option::as_ref) else { return };
        // Without the client's address.
        out.push_str(head.strip_suffix(SIP).unwrap_or(head));
        out.push_str(dip.tail.strip_prefix('"').unwrap_or(&dip.tail));
        value(out);
        out.push('\n');
    }

    /// Writes a sample of `client_traffic_packets`.
    pub fn client(&self, out: &mut String, service: usize, sip: Sip, packets: u64) {
        let Some((_, head)) = self.services.get(service).and_then(Option::as_ref) else { return };
        out.push_str(families::CLIENT_TRAFFIC_PACKETS.name);
        out.push_str(head);
        sip.write(out);
        out.push_str("\"} ");
        number(out, packets);
        out.push('\n');
    }

    /// Writes a sample of a family of pairs.
    pub fn pair(&self, out: &mut String, family: &Family, endpoint: usize, sip: Sip, value: u64) {
        let Some(dip) = self.endpoint(endpoint) else { return };
        let Some((_, head)) = self.services.get(dip.service).and_then(Option::as_ref) else { return };
        out.push_str(family.name);
        out.push_str(head);
        sip.write(out);
        out.push_str(&dip.tail);
        number(out, value);
        out.push('\n');
    }
}

/// Writes a whole number.
pub(in crate::metrics) fn number(out: &mut String, n: u64) {
    out.push_str(itoa::Buffer::new().format(n));
}

fn set<T>(places: &mut Vec<Option<T>>, key: usize, value: T) {
    if places.len() <= key {
        places.resize_with(key + 1, || None);
    }
    places[key] = Some(value);
}
