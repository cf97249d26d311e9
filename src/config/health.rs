//! `[service.health_check]`

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::model::Endpoint;
use super::modes;
use super::network::Network;
use super::report::Finding;
use super::section::{Located, Section};
use super::value::{self, Fault, Shown, quote};
use crate::addr::Addr;

/// The shortest interval and timeout.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(86_400);
/// A timeout that is not configured is this, or the interval where that is shorter.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What fits into a datagram that is not fragmented.
const MAX_PAYLOAD: usize = 1200;

/// How a service's endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is sent, and what must come back.
    pub probe: Probe,
    /// On which way.
    pub target: ProbeTarget,
    /// Port that is probed; 0: the endpoint's own. 0 for [`Probe::Ping`].
    pub port: u16,
    /// The longest time between the starts of two probes.
    pub interval: Duration,
    /// A probe without an answer by then has failed.
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint back up.
    pub rise: u16,
    /// Failures in a row that take it down.
    pub fall: u16,
}

/// `health_check.target`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeTarget {
    /// The endpoint's own address.
    Endpoint,
    /// The VIP, through the service's own encapsulation: DSR.
    Vip,
}

/// `health_check.kind` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A connection is accepted.
    Tcp,
    /// A datagram is answered.
    Udp {
        /// The request.
        send: Vec<u8>,
        /// What the reply must begin with.
        receive: Vec<u8>,
    },
    /// A GET is answered as expected.
    Http(Http),
    /// An INIT is answered with an INIT ACK.
    Sctp,
    /// An echo request is answered.
    Ping,
}

/// An HTTP request, and what is expected of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Http {
    /// `https`; none: plain.
    pub tls: Option<Tls>,
    /// Name of the server, with a port or without; empty: the endpoint's address.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Good status codes.
    pub expect: Statuses,
    /// A text that the body must contain; empty: any body.
    pub body: String,
}

/// `health_check.verify`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    /// The certificate must be good, and the host's.
    Verified,
    /// Any certificate will do.
    Unverified,
}

/// HTTP status codes: inclusive ranges, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Whether a code is one of them.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&code))
    }

    /// `200`, `200-399`, `200, 204, 300-399`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let code = |s: &str| {
            let plain = s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit());
            s.parse::<u16>().ok().filter(|n| plain && (100..=599).contains(n))
        };
        let range = |s: &str| {
            let (first, last) = s.split_once('-').unwrap_or((s, s));
            let (first, last) = (code(first.trim())?, code(last.trim())?);
            (first <= last).then_some((first, last))
        };
        text.split(',').map(|s| range(s.trim())).collect::<Option<_>>().map(Self).ok_or_else(|| {
            Fault::new(
                format!("is {}, which is no list of HTTP status codes", quote(text)),
                "for example \"200-399\" or \"200, 204, 301-302\"",
            )
        })
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl Probe {
    /// The value of `kind`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp { .. } => "udp",
            Self::Http(Http { tls: None, .. }) => "http",
            Self::Http(_) => "https",
            Self::Sctp => "sctp",
            Self::Ping => "ping",
        }
    }
}

impl HealthCheck {
    /// The port that is probed of an endpoint: the configured one, or its own, or that of its service where it keeps the client's. 0
    /// where none of them is one.
    #[must_use]
    pub const fn port_of(&self, endpoint: &Endpoint, service: u16) -> u16 {
        match (&self.probe, self.port, endpoint.port) {
            (Probe::Ping, ..) => 0,
            (_, 0, 0) => service,
            (_, 0, own) => own,
            (_, port, _) => port,
        }
    }

    /// The keys that matter to its kind, and their values as the file has them.
    #[must_use]
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![
            ("kind", self.probe.kind().to_owned()),
            ("target", if self.target == ProbeTarget::Vip { "vip" } else { "endpoint" }.to_owned()),
            ("port", self.port.to_string()),
            ("interval", Shown(self.interval).to_string()),
            ("timeout", Shown(self.timeout).to_string()),
            ("rise", self.rise.to_string()),
            ("fall", self.fall.to_string()),
        ];
        match &self.probe {
            Probe::Tcp | Probe::Sctp | Probe::Ping => {}
            Probe::Udp { send, receive } => {
                keys.extend([("send", shown_payload(send)), ("receive", shown_payload(receive))]);
            }
            Probe::Http(Http { tls, host, path, expect, body }) => {
                keys.extend([
                    ("host", host.clone()),
                    ("path", path.clone()),
                    ("expect", expect.to_string()),
                    ("body", body.clone()),
                    ("verify", (*tls != Some(Tls::Unverified)).to_string()),
                ]);
            }
        }
        keys
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Udp,
    Http,
    Https,
    Sctp,
    Ping,
}

const KINDS: [(&str, Kind); 7] = [
    ("none", Kind::None),
    ("tcp", Kind::Tcp),
    ("udp", Kind::Udp),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("sctp", Kind::Sctp),
    ("ping", Kind::Ping),
];

/// The service that is checked, as far as its check must fit it.
pub(super) struct Checked<'a> {
    pub mode: modes::Name,
    pub vip: Option<Addr>,
    pub endpoints: &'a [Endpoint],
    /// Its port; 0 where it has several.
    pub port: u16,
    pub net: &'a Network,
}

/// Reads the table; none where nothing is to be probed.
pub(super) fn read(mut s: Section<'_>, service: &Checked<'_>) -> Option<HealthCheck> {
    let kind = s.choice("kind", &KINDS, Kind::None);
    let target = s.chosen("target", &[("endpoint", ProbeTarget::Endpoint), ("vip", ProbeTarget::Vip)]);
    if let Some(Located { value: ProbeTarget::Vip, span }) = &target {
        check_target(&s, service, span);
    }
    let target = target.map_or(ProbeTarget::Endpoint, |l| l.value);
    let port = s.integer("port", 0..=u16::MAX).map_or(0, |l| l.value);
    let interval = s.duration("interval", SHORTEST..=LONGEST).map_or(Duration::from_secs(5), |l| l.value);
    let timeout = s.duration("timeout", SHORTEST..=LONGEST);
    let rise = s.integer("rise", 1..=1000_u16).map_or(2, |l| l.value);
    let fall = s.integer("fall", 1..=1000_u16).map_or(3, |l| l.value);
    let host = s.parsed("host", host).map_or_else(String::new, |l| l.value);
    let path = s.parsed("path", path).map_or_else(|| "/healthz".to_owned(), |l| l.value);
    let expect = s.parsed("expect", Statuses::parse).map_or_else(|| Statuses(vec![(200, 399)]), |l| l.value);
    let body = s.parsed("body", |text| Ok(text.to_owned())).map_or_else(String::new, |l| l.value);
    let verify = s.flag("verify", true);
    let send = s.parsed("send", payload).map_or_else(Vec::new, |l| l.value);
    let receive = s.parsed("receive", payload).map_or_else(Vec::new, |l| l.value);

    let http = |tls| Probe::Http(Http { tls, host, path, expect, body });
    let probe = match kind {
        Kind::None => None,
        Kind::Tcp => Some(Probe::Tcp),
        Kind::Udp => Some(Probe::Udp { send, receive }),
        Kind::Http => Some(http(None)),
        Kind::Https => Some(http(Some(if verify { Tls::Verified } else { Tls::Unverified }))),
        Kind::Sctp => Some(Probe::Sctp),
        Kind::Ping => Some(Probe::Ping),
    };
    let check = probe.map(|probe| {
        check_timeout(&s, interval, timeout.as_ref());
        let timeout = timeout.map_or(TIMEOUT.min(interval), |l| l.value);
        let port = if probe == Probe::Ping { 0 } else { port };
        HealthCheck { probe, target, port, interval, timeout, rise, fall }
    });
    if let Some(check) = &check {
        check_sense(&s, check, service.endpoints, service.port);
    }
    s.finish();
    check
}

/// Whether the VIP can be probed: by what is said in `docs/adr/0006-probes-through-the-vip.md`.
fn check_target(s: &Section<'_>, service: &Checked<'_>, span: &Range<usize>) {
    let finding = if !service.mode.is_dsr() {
        let message =
            format!("`target` of {} is \"vip\", but its service is {}", s.title, service.mode.text());
        Finding::cross(span.clone(), message).help("remove it: only DSR endpoints answer as the VIP")
    } else if service.net.has_kernel() == Some(false) {
        let message =
            format!("`target` of {} is \"vip\", but no port has an interface of the kernel's", s.title);
        let help = "write `kernel = \"px-lan\"`, say, at the port where the endpoints are: probes leave and come back by it";
        Finding::cross(span.clone(), message).help(help)
    } else if let Some(vip) = service.vip
        && let Some(other) = service.endpoints.iter().find(|e| e.address.is_v4() != vip.is_v4())
    {
        let message = format!(
            "`target` of {} is \"vip\", {vip}, but endpoint {} is of the other family",
            s.title, other.address
        );
        Finding::cross(span.clone(), message)
            .help("probe the endpoint, or give it an address of the VIP's family")
    } else {
        return;
    };
    s.sink.push(finding);
}

fn check_timeout(s: &Section<'_>, interval: Duration, timeout: Option<&Located<Duration>>) {
    if let Some(timeout) = timeout.filter(|timeout| timeout.value > interval) {
        let (long, short) = (Shown(timeout.value), Shown(interval));
        let message = format!("`timeout` of {} is {long}, longer than its interval, {short}", s.title);
        let finding = Finding::warning(timeout.span.clone(), message);
        s.sink.push(finding.help("a probe waits for the end of the one before: write a shorter one"));
    }
}

fn check_sense(s: &Section<'_>, check: &HealthCheck, endpoints: &[Endpoint], service_port: u16) {
    if let Probe::Udp { send, .. } = &check.probe
        && send.is_empty()
    {
        let message = format!("{} sends an empty datagram, which few servers answer", s.title);
        s.sink.push(
            Finding::warning(s.span.clone(), message).help("write a request in `send`, or use \"ping\""),
        );
    }
    let portless =
        endpoints.iter().find(|e| check.probe != Probe::Ping && check.port_of(e, service_port) == 0);
    if let Some(endpoint) = portless {
        let message = format!("{} has no port to probe: endpoint {} has none", s.title, endpoint.address);
        s.sink.push(Finding::cross(s.span.clone(), message).help("write the `port` that tells its health"));
    }
}

/// A name or address, with a port or without.
fn host(text: &str) -> Result<String, Fault> {
    let good = text.is_empty()
        || text
            .parse::<hyper::http::uri::Authority>()
            .is_ok_and(|a| !text.contains('@') && !a.host().is_empty());
    good.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            format!("is {}, which is no host", quote(text)),
            "write a name, or an address: \"www.example\", \"[2001:db8::1]:8443\"",
        )
    })
}

fn path(text: &str) -> Result<String, Fault> {
    let good = text.starts_with('/') && text.parse::<hyper::http::uri::PathAndQuery>().is_ok();
    good.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            format!("is {}, which is no path", quote(text)),
            "begin it with a slash, and write what is no plain character as %XX: \"/healthz\"",
        )
    })
}

/// Text as it is, or bytes as `hex:…`.
fn payload(text: &str) -> Result<Vec<u8>, Fault> {
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => value::bytes(digits)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() <= MAX_PAYLOAD {
        return Ok(bytes);
    }
    Err(Fault::new(format!("has {} bytes", bytes.len()), format!("at most {MAX_PAYLOAD} are possible")))
}

fn shown_payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) && !text.starts_with("hex:") => text.to_owned(),
        _ => bytes.iter().fold("hex:".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_of_status_codes() {
        let all = Statuses::parse("200-399").unwrap();
        assert!(all.contains(200) && all.contains(399) && !all.contains(199) && !all.contains(400));
        let some = Statuses::parse("200, 204,301-302").unwrap();
        let found: Vec<_> = (0..=999).filter(|n| some.contains(*n)).collect();
        assert_eq!(found, [200, 204, 301, 302]);
        assert_eq!(some.to_string(), "200,204,301-302");
        for bad in ["", "ok", "99", "600", "200-", "-200", "399-200", "200,", "2e2", "+200", "200-300-400"] {
            assert!(Statuses::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_paths_and_payloads() {
        for good in ["", "www.example", "www.example:8080", "10.0.0.1", "[2001:db8::1]", "[2001:db8::1]:8443"]
        {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["a b", "http://x", "u@x", "x/y", ":80", "a\r\nb"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert!(path("/a?b=%20c").is_ok());
        for bad in ["", "a", "/a b", "/\r\nX: y"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(payload("hex:00fF").unwrap(), [0, 255]);
        assert_eq!(payload("ping").unwrap(), b"ping");
        assert!(
            payload("hex:0").is_err() && payload("hex:é0").is_err() && payload(&"x".repeat(1201)).is_err()
        );
        assert_eq!(shown_payload(&[0, 255]), "hex:00ff");
    }
}
