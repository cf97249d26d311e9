//! Numbers for people. JSON has them exactly.

/// Three digits and a prefix: `1.2 M`, `950`, `12.3 k`. `unit` follows without a further space: `1.2 Mpps`.
pub fn si(value: f64, unit: &str) -> String {
    let mut value = value;
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        // What rounds to 1000 has the next prefix.
        if value.abs() < 999.5 {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    let digits = match value.abs() {
        v if v == 0.0 || v >= 99.95 || (prefix.is_empty() && v.fract() == 0.0) => 0,
        v if v < 1.0 && prefix.is_empty() => 2,
        _ => 1,
    };
    let gap = if prefix.is_empty() && unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{gap}{prefix}{unit}")
}

/// A count: exact up to four digits.
pub fn count(value: u64) -> String {
    if value < 10_000 { value.to_string() } else { si(value as f64, "") }
}

/// Bytes, in powers of 1000.
pub fn bytes(value: u64) -> String {
    si(value as f64, "B")
}

/// Bytes per second as bits per second.
pub fn bits(bytes_per_second: f64) -> String {
    si(bytes_per_second * 8.0, "bit/s")
}

/// Packets per second.
pub fn pps(value: f64) -> String {
    si(value, "pps")
}

/// Whatever else per second.
pub fn per_second(value: f64) -> String {
    si(value, "/s")
}

/// A share of 1.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The two largest parts: `3 d 4 h`, `12 s`, `1.5 s`.
pub fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = seconds as u64;
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = parts.iter().position(|(length, _)| whole >= *length).unwrap_or(parts.len() - 1);
    let (length, unit) = parts[first];
    let rest = whole % length;
    match parts.get(first + 1) {
        Some((next, unit_of_next)) if rest >= *next => {
            format!("{} {unit} {} {unit_of_next}", whole / length, rest / next)
        }
        _ => format!("{} {unit}", whole / length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        assert_eq!(pps(1_234_567.0), "1.2 Mpps");
        assert_eq!(pps(0.0), "0 pps");
        assert_eq!(pps(0.25), "0.25 pps");
        assert_eq!(pps(12.0), "12 pps");
        assert_eq!(pps(12.34), "12.3 pps");
        assert_eq!(pps(999.4), "999 pps");
        assert_eq!(pps(999.6), "1.0 kpps");
        assert_eq!(pps(999_600.0), "1.0 Mpps");
        assert_eq!(bits(1.25e9), "10.0 Gbit/s");
        assert_eq!(bytes(123_456), "123 kB");
        assert_eq!(
            (count(9_999), count(10_000), count(u64::MAX)),
            ("9999".into(), "10.0 k".into(), "18.4 E".into())
        );
        assert_eq!(percent(0.4567), "45.7 %");
        assert_eq!(
            (span(0.04), span(59.9), span(60.0), span(3_661.0)),
            ("0.0 s".into(), "59 s".into(), "1 min".into(), "1 h 1 min".into())
        );
        assert_eq!(span(2.0 * 86_400.0 + 59.0), "2 d");
    }
}
