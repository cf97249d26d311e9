//! The samples of endpoints' health.

use std::collections::BTreeMap;

use super::aggregator::Aggregator;
use super::families;
use super::render::Samples;
use crate::config::{EndpointState, ServiceLabel};
use crate::health::{BOUNDS, Histogram};

/// An endpoint's state, as the label `state` shows it.
const STATES: [&str; 4] = ["up", "drain", "down", "pending"];

/// What one pair of labels shows: that of several endpoints, where two services share a VIP and port.
#[derive(Default)]
struct Shown {
    up: bool,
    probed: Option<(u64, Histogram)>,
}

impl Aggregator {
    pub(super) fn health(&self, to: &mut Samples) {
        let stats = &self.device_stats.health;
        let mut shown: BTreeMap<(&str, String), Shown> = BTreeMap::new();
        let mut states: BTreeMap<&str, [usize; STATES.len()]> = BTreeMap::new();
        for endpoint in &stats.endpoints {
            let service = match self.settings.metrics.service_label {
                ServiceLabel::Address => endpoint.service_address.as_str(),
                ServiceLabel::Name => endpoint.service.as_str(),
            };
            let counts = states.entry(service).or_default();
            if let Some(state) = STATES.iter().position(|state| *state == endpoint.state_name()) {
                counts[state] += 1;
            }
            let shown = shown.entry((service, endpoint.endpoint.to_string())).or_default();
            shown.up |= endpoint.state != EndpointState::Down;
            if let Some(probe) = &endpoint.probe {
                let (flaps, times) = shown.probed.get_or_insert_default();
                *flaps += probe.flaps;
                times.merge(&probe.round_trips);
            }
        }
        for (service, counts) in states {
            for (state, count) in STATES.iter().zip(counts) {
                to.gauge(&families::SERVICE_ENDPOINTS, &[service, state], count as f64);
            }
        }
        for ((service, endpoint), Shown { up, probed }) in shown {
            let values = [service, endpoint.as_str()];
            to.gauge(&families::ENDPOINT_UP, &values, f64::from(u8::from(up)));
            if let Some((flaps, times)) = probed {
                to.counter(&families::ENDPOINT_FLAPS, &values, flaps);
                let Histogram { buckets, count, sum } = times;
                to.histogram(&families::PROBE_SECONDS, &values, (&BOUNDS, &buckets), (count, sum));
            }
        }
        for (kind, results) in &stats.probes {
            for (result, count) in
                [("good", results.good), ("failed", results.failed), ("unable", results.unable)]
            {
                to.counter(&families::PROBES, &[kind, result], count);
            }
        }
    }
}
