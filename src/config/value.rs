//! The forms that values take in the file: each a pure function from text to a type, or to what is wrong with it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::addr::{Addr, Mac, Prefix};

/// What is wrong with a value: the rest of a sentence that begins with the key, and the cure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub message: String,
    pub help: String,
}

impl Fault {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The text in quotes, control characters escaped, cut when long.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// `"250ms"`, `"10s"`, `"2m"`, `"1h"`, `"7d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    let bad = |why: &str| {
        Fault::new(
            format!("is {}, {why}", quote(text)),
            "write a whole number and one of the units ms, s, m, h, d: \"250ms\", \"10s\", \"2m\"",
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if !number.is_empty() => return Err(bad("a number without a unit")),
        _ => return Err(bad("which is not a duration")),
    };
    if number.is_empty() {
        return Err(bad("which is not a duration"));
    }
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis));
    total.map(Duration::from_millis).ok_or_else(|| bad("which is too long to count"))
}

/// A duration as the file has it, in the largest unit that keeps it whole.
pub(super) struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        let (size, unit) =
            units.into_iter().find(|(size, _)| ms != 0 && ms.is_multiple_of(*size)).unwrap_or((1000, "s"));
        write!(f, "{}{unit}", ms / size)
    }
}

/// An IPv4 or IPv6 address.
pub(super) fn address(text: &str) -> Result<Addr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err(Fault::new(
            format!("is {}, an IPv4 address in IPv6 form", quote(text)),
            v6.to_ipv4_mapped().map_or(String::new(), |v4| format!("write \"{v4}\"")),
        )),
        Ok(ip) => Ok(Addr::from(ip)),
        Err(_) => {
            let help = if text.contains('/') {
                "leave out the prefix length"
            } else if text.parse::<SocketAddr>().is_ok() {
                "leave out the port"
            } else {
                "for example \"10.1.0.10\" or \"2001:db8::10\""
            };
            Err(Fault::new(format!("is {}, which is not an IP address", quote(text)), help))
        }
    }
}

/// An address with a prefix length, host bits kept: what an interface has.
pub(super) fn interface_address(text: &str) -> Result<Prefix, Fault> {
    let not = || format!("is {}, which is not an address with a prefix length", quote(text));
    let Some((host, len)) = text.split_once('/') else {
        let help = match address(text) {
            Ok(a) => format!("add the prefix length: \"{a}/{}\"", if a.is_v4() { 24 } else { 64 }),
            Err(_) => "for example \"203.0.113.2/24\" or \"2001:db8::2/64\"".to_owned(),
        };
        return Err(Fault::new(not(), help));
    };
    let addr = address(host)?;
    let most = if addr.is_v4() { 32 } else { 128 };
    let digits = !len.is_empty() && len.len() <= 3 && len.bytes().all(|b| b.is_ascii_digit());
    match len.parse::<u8>() {
        Ok(n) if digits && n <= most => Ok(Prefix { addr, len: n }),
        _ => Err(Fault::new(
            format!("is {}, whose prefix length is not 0 to {most}", quote(text)),
            "write the length in bits after the slash, not a netmask",
        )),
    }
}

/// The network of an interface address: host bits cleared.
pub(super) fn network(prefix: Prefix) -> Prefix {
    // The bits that mark IPv4 lie outside every IPv4 mask's zeros.
    Prefix { addr: Addr(prefix.addr.0 & prefix.mask()), len: prefix.len }
}

/// A prefix without host bits: what a route or a rule has.
pub(super) fn prefix(text: &str) -> Result<Prefix, Fault> {
    let p = match interface_address(text) {
        Ok(p) => p,
        Err(fault) => {
            return Err(match address(text) {
                Ok(a) => Fault::new(
                    format!("is {}, which has no prefix length", quote(text)),
                    format!("for this one address: \"{a}/{}\"", if a.is_v4() { 32 } else { 128 }),
                ),
                Err(_) => fault,
            });
        }
    };
    let whole = network(p);
    if whole == p {
        Ok(p)
    } else {
        let one = if p.addr.is_v4() { 32 } else { 128 };
        Err(Fault::new(
            format!("is {}, which has bits set beyond its prefix length", quote(text)),
            format!("the prefix is \"{whole}\"; this one address is \"{}/{one}\"", p.addr),
        ))
    }
}

/// A port or an inclusive range of ports, each from `least`.
pub(super) fn port_range(text: &str, least: u16) -> Result<(u16, u16), Fault> {
    let number = |s: &str| {
        let plain = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        s.parse::<u16>().ok().filter(|&n| plain && n >= least)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(a), Some(b)) if a <= b => Ok((a, b)),
        (Some(a), Some(b)) => Err(Fault::new(
            format!("has the port range {}, which ends before it begins", quote(text)),
            format!("write \"{b}-{a}\""),
        )),
        _ => Err(Fault::new(
            format!("has {} for a port", quote(text)),
            format!(
                "a port is a number from {least} to 65535; a `vip` may have a range, such as \"5000-5999\""
            ),
        )),
    }
}

/// An address, and the ports after its colon if there are any: `10.1.0.10:80`, `[2001:db8::1]:5000-5999`, `10.1.0.10`.
pub(super) fn address_ports(text: &str) -> Result<(Addr, Option<(u16, u16)>), Fault> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err(Fault::new(
                format!("is {}, whose [ is never closed", quote(text)),
                "write \"[v6]:port\"",
            ));
        };
        let addr = address(host)?;
        if addr.is_v4() {
            let help = format!("brackets are for IPv6: write \"{addr}{after}\"");
            return Err(Fault::new(format!("is {}, an IPv4 address in brackets", quote(text)), help));
        }
        return match after.strip_prefix(':') {
            Some(ports) => Ok((addr, Some(port_range(ports, 1)?))),
            None if after.is_empty() => Ok((addr, None)),
            None => {
                let message = format!("is {}, with {} after the address", quote(text), quote(after));
                Err(Fault::new(message, "write \"[v6]:port\""))
            }
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((address(text)?, None));
    }
    match text.rsplit_once(':') {
        Some((host, ports)) if host.contains(':') && host.parse::<IpAddr>().is_ok() => Err(Fault::new(
            format!("is {}, an IPv6 address and port without brackets", quote(text)),
            format!("write \"[{host}]:{ports}\""),
        )),
        Some((host, ports)) => Ok((address(host)?, Some(port_range(ports, 1)?))),
        None => Ok((address(text)?, None)),
    }
}

/// A socket address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let help = match text.parse::<IpAddr>() {
            Ok(ip) => format!("add the port: \"{}\"", SocketAddr::new(ip, 8080)),
            Err(_) => "write an IP address and a port: \"127.0.0.1:8080\", \"[::1]:8080\"".to_owned(),
        };
        Fault::new(format!("is {}, which is not an address and port", quote(text)), help)
    })
}

/// `02:00:00:00:00:10`, also with dashes.
pub(super) fn mac(text: &str) -> Result<Mac, Fault> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut octets = [0; 6];
    let mut parts = text.split(separator);
    let mut well = true;
    for octet in &mut octets {
        match parts.next() {
            Some(p) if p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()) => {
                *octet = u8::from_str_radix(p, 16).unwrap_or(0);
            }
            _ => well = false,
        }
    }
    if !well || parts.next().is_some() {
        return Err(Fault::new(
            format!("is {}, which is not a MAC address", quote(text)),
            "write six pairs of hexadecimal digits: \"02:00:00:00:00:10\"",
        ));
    }
    Ok(Mac(octets))
}

/// An even number of hexadecimal digits.
pub(super) fn hex(text: &str) -> Result<(), Fault> {
    if text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Fault::new(
        format!("is {}, which is not hexadecimal", quote(text)),
        "write two digits for each byte: \"0a1b\"",
    ))
}

/// The bytes of an even number of hexadecimal digits.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    hex(text)?;
    let digit = |d: u8| (d as char).to_digit(16).unwrap_or_default() as u8;
    Ok(text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
}

/// Whether `n` is a prime. Trial division: for numbers of a configuration file.
pub(super) fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// The first prime from `n` on.
pub(super) fn next_prime(n: u64) -> u64 {
    (n..).find(|&p| is_prime(p)).unwrap_or(2)
}

/// The known name that is nearest to `name`, and whether it is near enough to be what was meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, bool)> {
    // Beyond this a name resembles nothing, and the distance costs time.
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let (best, distance) =
        known.into_iter().map(|k| (k, strsim::damerau_levenshtein(&name, k))).min_by_key(|&(_, d)| d)?;
    let longest = name.chars().count().max(best.chars().count());
    let prefix = name.len() >= 3 && (best.starts_with(&name) || name.starts_with(best));
    Some((best, prefix || distance * 5 <= longest * 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("7d"), Ok(7 * 86_400_000));
        for bad in
            ["", "s", "10", "10 s", " 10s", "-1s", "1.5s", "1h30m", "10S", "1µs", "99999999999999999999s"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("213503982335d").is_err(), "more than 64 bits of milliseconds");
    }

    #[test]
    fn durations_are_shown_in_their_largest_whole_unit() {
        for text in ["0s", "250ms", "90s", "2m", "36h", "7d"] {
            assert_eq!(Shown(duration(text).unwrap()).to_string(), text);
        }
        assert_eq!(Shown(Duration::from_secs(120)).to_string(), "2m");
    }

    #[test]
    fn addresses_are_of_one_family() {
        assert!(address("10.0.0.1").unwrap().is_v4());
        assert!(!address("::1").unwrap().is_v4());
        assert_eq!(address("::ffff:10.0.0.1").unwrap_err().help, "write \"10.0.0.1\"");
        assert_eq!(address("10.0.0.1/24").unwrap_err().help, "leave out the prefix length");
        assert_eq!(address("10.0.0.1:80").unwrap_err().help, "leave out the port");
        for bad in ["", "10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "localhost"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_name_the_right_one() {
        assert_eq!(prefix("10.1.0.0/16").unwrap().to_string(), "10.1.0.0/16");
        assert_eq!(prefix("0.0.0.0/0").unwrap().to_string(), "0.0.0.0/0");
        assert_eq!(prefix("::/0").unwrap().to_string(), "::/0");
        assert!(prefix("10.1.2.3/16").unwrap_err().help.contains("\"10.1.0.0/16\""));
        assert!(prefix("2001:db8::1/32").unwrap_err().help.contains("\"2001:db8::/32\""));
        assert!(prefix("10.1.2.3").unwrap_err().help.contains("\"10.1.2.3/32\""));
        for bad in
            ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/255.0.0.0", "/8", "10.0.0.0/8/8"]
        {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn address_and_ports() {
        let show = |text| address_ports(text).map(|(a, p)| (a.to_string(), p)).map_err(|f| f.help);
        assert_eq!(show("10.0.0.1:80"), Ok(("10.0.0.1".into(), Some((80, 80)))));
        assert_eq!(show("10.0.0.1:5000-5999"), Ok(("10.0.0.1".into(), Some((5000, 5999)))));
        assert_eq!(show("[2001:db8::1]:443"), Ok(("2001:db8::1".into(), Some((443, 443)))));
        assert_eq!(show("[2001:db8::1]"), Ok(("2001:db8::1".into(), None)));
        assert_eq!(show("2001:db8::1"), Ok(("2001:db8::1".into(), None)));
        assert_eq!(show("10.0.0.1"), Ok(("10.0.0.1".into(), None)));
        assert_eq!(show("2001:db8:0:0:0:0:0:1:443"), Err("write \"[2001:db8:0:0:0:0:0:1]:443\"".into()));
        assert_eq!(show("10.0.0.1:90-80"), Err("write \"80-90\"".into()));
        for bad in
            ["", ":", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:+80", "[::1", "[::1]80", "[]:80"]
        {
            assert!(address_ports(bad).is_err(), "{bad}");
        }
        assert!(address_ports("[10.0.0.1]:80").is_err());
    }

    #[test]
    fn macs_and_hex() {
        assert_eq!(mac("02:00:00:00:00:1F").unwrap().0, [2, 0, 0, 0, 0, 0x1f]);
        assert_eq!(mac("02-00-00-00-00-1f").unwrap().0, [2, 0, 0, 0, 0, 0x1f]);
        for bad in
            ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "0:0:0:0:0:1", "02:00:00:00:00:+1", "02000000001f"]
        {
            assert!(mac(bad).is_err(), "{bad}");
        }
        assert!(hex("").is_ok() && hex("0aF1").is_ok() && hex("0af").is_err() && hex("zz").is_err());
    }

    #[test]
    fn primes() {
        let primes: Vec<u64> = (0..30).filter(|&n| is_prime(n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && !is_prime(65_536));
        assert_eq!(next_prime(65_536), 65_537);
    }

    #[test]
    fn nearest_names() {
        let known = ["workers", "main_cpu", "burst", "idle"];
        assert_eq!(nearest("wokers", known), Some(("workers", true)));
        assert_eq!(nearest("Bursts", known), Some(("burst", true)));
        assert!(nearest("zzzzzzzz", known).is_some_and(|(_, near)| !near));
        assert_eq!(nearest("x", []), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (duration(&text), address_ports(&text), prefix(&text), mac(&text), socket_address(&text));
            let _ = (port_range(&text, 0), hex(&text), quote(&text), nearest(&text, ["a", "workers"]));
        }

        #[test]
        fn likely_texts_neither(text in "[0-9a-f:.\\[\\]/-]{0,40}") {
            let _ = (address_ports(&text), prefix(&text), mac(&text), socket_address(&text));
        }

        #[test]
        fn what_is_shown_reads_back(ms in 0u64..u64::MAX / 2) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(duration(&Shown(d).to_string()), Ok(d));
        }
    }
}
