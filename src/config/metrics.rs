//! `[metrics]`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::model::{Access, Metrics, ServerTls, ServiceLabel};
use super::report::Finding;
use super::section::{Located, Section};
use super::value::{Shown, socket_address};

const HOUR: Duration = Duration::from_secs(3600);

/// Paths are those from `base`.
pub(super) fn read(mut s: Section<'_>, base: &Path) -> Metrics {
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
        access: access(&mut s, base),
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

fn access(s: &mut Section<'_>, base: &Path) -> Access {
    let mut path = |key| {
        let path = s.parsed(key, |text| Ok(PathBuf::from(text)))?;
        let Located { value, span } = path;
        (!value.as_os_str().is_empty()).then(|| Located { value: base.join(value), span })
    };
    let token = path("bearer_token_file");
    let (certificate, key, client_ca) = (path("tls_certificate"), path("tls_key"), path("tls_client_ca"));
    let web_config = path("web_config");

    let own = [
        ("bearer_token_file", &token),
        ("tls_certificate", &certificate),
        ("tls_key", &key),
        ("tls_client_ca", &client_ca),
    ];
    if let Some(web) = web_config {
        for (name, span) in own.iter().filter_map(|(name, path)| Some((name, path.as_ref()?.span.clone()))) {
            let message = format!("`{name}` of [metrics] is set beside `web_config`, which says all of it");
            let finding =
                Finding::cross(span, message).see(web.span.clone(), "the web configuration is here");
            s.sink.push(finding.help(format!("remove `{name}` or `web_config`")));
        }
        return Access::WebConfig(web.value);
    }
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ServerTls {
            certificate: certificate.value,
            key: key.value,
            client_ca: client_ca.map(|ca| ca.value),
        }),
        (None, None) => {
            if let Some(ca) = client_ca {
                let message = "`tls_client_ca` of [metrics] is set without `tls_certificate`: only HTTPS asks clients for certificates";
                let finding = Finding::cross(ca.span, message);
                s.sink.push(finding.help("set `tls_certificate` and `tls_key`, or remove it"));
            }
            None
        }
        (Some(Located { span, .. }), None) => {
            lone(s, span, "tls_certificate", "tls_key");
            None
        }
        (None, Some(Located { span, .. })) => {
            lone(s, span, "tls_key", "tls_certificate");
            None
        }
    };
    Access::Keys { bearer_token_file: token.map(|token| token.value), tls }
}

fn lone(s: &Section<'_>, span: std::ops::Range<usize>, set: &str, missing: &str) {
    let finding = Finding::cross(span, format!("`{set}` of [metrics] is set without `{missing}`"));
    s.sink.push(finding.help(format!("set `{missing}`, or remove `{set}`")));
}
