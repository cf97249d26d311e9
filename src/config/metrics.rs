//! `[metrics]`

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::model::{Metrics, ServiceLabel};
use super::report::Finding;
use super::section::Section;
use super::value::{Shown, socket_address};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn read(mut s: Section<'_>) -> Metrics {
    let listen = s.parsed("listen", socket_address);
    let tick = s.duration("tick", Duration::from_secs(1)..=HOUR);
    let window = s.duration("distribution_tick", Duration::from_secs(1)..=24 * HOUR);
    let metrics = Metrics {
        listen: listen.map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), |l| l.value),
        tick: tick.as_ref().map_or(Duration::from_secs(10), |l| l.value),
        distribution_tick: window.as_ref().map_or(Duration::from_secs(120), |l| l.value),
        service_label: s.choice(
            "service_label",
            &[("address", ServiceLabel::Address), ("name", ServiceLabel::Name)],
            ServiceLabel::Address,
        ),
        flow_series_limit: s
            .integer("flow_series_limit", 0..=10_000_000_u32)
            .map_or(50_000, |l| l.value as usize),
        aliases: s.flag("aliases", false),
        max_connections: s.integer("max_connections", 1..=65_535_u32).map_or(64, |l| l.value as usize),
        header_timeout: s
            .duration("header_timeout", Duration::from_millis(100)..=HOUR)
            .map_or(Duration::from_secs(5), |l| l.value),
    };
    if metrics.distribution_tick < metrics.tick {
        let (short, long) = (Shown(metrics.distribution_tick), Shown(metrics.tick));
        let message =
            format!("`distribution_tick` of [metrics] is {short}, shorter than `tick`, which is {long}");
        let span = window.as_ref().or(tick.as_ref()).map_or(s.span.clone(), |l| l.span.clone());
        let mut finding = Finding::cross(span, message);
        if let (Some(_), Some(tick)) = (&window, &tick) {
            finding = finding.see(tick.span.clone(), "the tick is set here");
        }
        s.sink.push(finding.help(format!("write `distribution_tick = \"{long}\"` or more")));
    }
    s.finish();
    metrics
}
