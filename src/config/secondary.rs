//! `secondary_vips` of a service and `secondary_addresses` of its endpoints: SCTP multi-homing.

use super::model::Protocol;
use super::modes;
use super::network::special;
use super::report::Finding;
use super::section::{Located, Section};
use super::value::{self, Fault, quote};
use crate::addr::Addr;

/// Most secondary VIPs of a service, and secondary addresses of an endpoint. An association has a path for each of them and each of
/// the client's addresses.
const MOST: usize = 7;

/// The VIPs of a service besides its first.
pub(super) struct Secondary(pub Vec<Located<Addr>>);

impl Secondary {
    /// Reads the service's key.
    pub fn read(s: &mut Section<'_>, protocol: Protocol, mode: modes::Name, vip: Option<Addr>) -> Self {
        let mut vips = s.texts("secondary_vips", address);
        let key = "`secondary_vips`";
        if let Some(first) = vips.first()
            && protocol != Protocol::Sctp
        {
            let message = format!("{key} of {} are set, but its protocol is {}", s.title, protocol.name());
            let help = "only SCTP has connections with several addresses: add a service for each VIP instead";
            s.sink.push(Finding::cross(first.span.clone(), message).help(help));
            vips.clear();
        } else if let Some(first) = vips.first()
            && mode != modes::Name::Dnat
        {
            let message = format!("{key} of {} are set, but its mode is {}", s.title, mode.text());
            let help = "write `mode = \"dnat\"`: the endpoint's addresses have to be replaced on every path";
            s.sink.push(Finding::cross(first.span.clone(), message).help(help));
        }
        check(s, key, vip, &mut vips);
        Self(vips)
    }

    /// Reads an endpoint's key.
    pub fn endpoint(&self, e: &mut Section<'_>, first: Option<Addr>) -> Vec<Located<Addr>> {
        let mut addresses = e.texts("secondary_addresses", address);
        let key = "`secondary_addresses`";
        let (have, want) = (addresses.len(), self.0.len());
        check(e, key, first, &mut addresses);
        if have != want {
            let span = addresses.first().map_or(e.span.clone(), |l| l.span.clone());
            let message =
                format!("{} has {have} {key}, and its service has {want} `secondary_vips`", e.title);
            let mut finding = Finding::cross(span, message);
            if let Some(vip) = self.0.first() {
                finding = finding.see(vip.span.clone(), "the VIPs");
            }
            e.sink.push(finding.help("write one address for each of them, in the same order"));
            addresses.clear();
        }
        for (address, vip) in addresses.iter().zip(&self.0) {
            if address.value.is_v4() != vip.value.is_v4() {
                let message =
                    format!("{} of {} is not of the family of its VIP {}", address.value, e.title, vip.value);
                let finding = Finding::cross(address.span.clone(), message).see(vip.span.clone(), "the VIP");
                e.sink.push(finding.help("dnat keeps the family; the order is that of `secondary_vips`"));
            }
        }
        addresses
    }
}

/// Refuses what is too much, and what is there twice.
fn check(s: &Section<'_>, key: &str, first: Option<Addr>, list: &mut Vec<Located<Addr>>) {
    if let Some(extra) = list.get(MOST) {
        let message = format!("{key} of {} are {}, more than {MOST}", s.title, list.len());
        s.sink.push(Finding::local(extra.span.clone(), message).help("leave some of them out"));
        list.truncate(MOST);
    }
    let mut seen: Vec<Addr> = first.into_iter().collect();
    list.retain(|l| {
        let fresh = !seen.contains(&l.value);
        if fresh {
            seen.push(l.value);
        } else {
            let message = format!("{key} of {} have {}, which it has already", s.title, l.value);
            s.sink.push(Finding::cross(l.span.clone(), message).help("remove it here"));
        }
        fresh
    });
}

fn address(text: &str) -> Result<Addr, Fault> {
    let addr = value::address(text)?;
    match special(addr) {
        None => Ok(addr),
        Some(kind) => {
            Err(Fault::new(format!("have {}, {kind} address", quote(text)), "write the address of a host"))
        }
    }
}
