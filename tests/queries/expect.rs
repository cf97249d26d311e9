//! What a query must give, as it is written down.

use std::fmt;
use std::ops::RangeInclusive;

use crate::prometheus::{Prometheus, Samples};

/// How far two figures of one thing may lie apart: Prometheus extrapolates, the more the shorter a series is, and the engine's are as
/// old as their first packet.
const TOLERANCE: f64 = 0.25;

/// In the file:
///
/// | | |
/// |---|---|
/// | `empty` | no series |
/// | `12`, `1..20` | one series with this value, or within |
/// | `3 series`, `3 series 0..1` | so many, each within; `some series`: one at least |
/// | `~ sum(rate(ledger_bytes[1m]))` | what the ledger says, label by label, give or take a quarter |
/// | `empty or 3` | either |
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Empty,
    Series(Option<usize>, Option<RangeInclusive<f64>>),
    Like(String),
    EmptyOr(Box<Self>),
}

impl Expect {
    pub fn read(text: &str) -> Self {
        if text == "empty" {
            return Self::Empty;
        }
        if let Some(other) = text.strip_prefix("empty or ") {
            return Self::EmptyOr(Box::new(Self::read(other)));
        }
        if let Some(query) = text.strip_prefix("~ ") {
            return Self::Like(query.to_owned());
        }
        if let Some((count, rest)) = text.split_once(" series") {
            let count = (count != "some").then(|| count.parse().expect("a number of series"));
            let rest = rest.trim();
            return Self::Series(count, (!rest.is_empty()).then(|| range(rest)));
        }
        Self::Series(Some(1), Some(range(text)))
    }

    /// What is wrong with an answer, if anything. `text` puts variables into a query.
    pub fn judge(
        &self,
        found: &Samples,
        prometheus: &Prometheus,
        at: Option<f64>,
        text: &dyn Fn(&str) -> String,
    ) -> Result<(), String> {
        match self {
            Self::EmptyOr(_) | Self::Empty if found.is_empty() => Ok(()),
            Self::EmptyOr(other) => other.judge(found, prometheus, at, text),
            Self::Empty => Err(format!("not empty: {found:?}")),
            Self::Series(count, values) => {
                if count.map_or(found.is_empty(), |count| found.len() != count) {
                    return Err(format!("{} series: {found:?}", found.len()));
                }
                let within = |value: &f64| values.as_ref().is_none_or(|range| range.contains(value));
                if found.values().all(within) { Ok(()) } else { Err(format!("{found:?}")) }
            }
            Self::Like(query) => {
                let wanted = prometheus.query(&text(query), at)?;
                let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()) + 1e-9;
                if wanted.is_empty() {
                    return Err(format!("the ledger has nothing to say: {}", text(query)));
                }
                // Who has not moved need not have a series on both sides, and divided by nothing is no number.
                let all = wanted.keys().chain(found.keys());
                for labels in all {
                    let side = |samples: &Samples| {
                        samples.get(labels).copied().filter(|v| !v.is_nan()).unwrap_or(0.0)
                    };
                    if !near(side(found), side(&wanted)) {
                        return Err(format!(
                            "{labels:?} is {}, the ledger says {}",
                            side(found),
                            side(&wanted)
                        ));
                    }
                }
                if found.is_empty() { Err(format!("empty; the ledger says {wanted:?}")) } else { Ok(()) }
            }
        }
    }
}

fn range(text: &str) -> RangeInclusive<f64> {
    let number = |text: &str| text.trim().parse::<f64>().unwrap_or_else(|_| panic!("no number: {text}"));
    match text.split_once("..") {
        Some((low, high)) => number(low)..=number(high),
        None => number(text)..=number(text),
    }
}

/// For the page.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = |range: &RangeInclusive<f64>| {
            if range.start() == range.end() {
                range.start().to_string()
            } else {
                format!("{} to {}", range.start(), range.end())
            }
        };
        match self {
            Self::Empty => write!(f, "nothing"),
            Self::EmptyOr(other) => write!(f, "nothing, or {other}"),
            Self::Like(_) => write!(f, "what the clients and endpoints counted"),
            Self::Series(Some(1), Some(range)) => write!(f, "{}", values(range)),
            Self::Series(count, range) => {
                match count {
                    Some(count) => write!(f, "{count} series")?,
                    None => write!(f, "series")?,
                }
                range.as_ref().map_or(Ok(()), |range| write!(f, " of {}", values(range)))
            }
        }
    }
}
