//! A strict reader of the text format 0.0.4: what Prometheus accepts, and nothing that it only tolerates.

use std::collections::{BTreeMap, BTreeSet};

/// Label values in the order in which they are written.
pub type Labels = Vec<(String, String)>;

/// A scrape, read.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Type by family.
    pub types: BTreeMap<String, String>,
    /// Help by family.
    pub help: BTreeMap<String, String>,
    /// Values as written.
    pub samples: BTreeMap<(String, Labels), String>,
}

impl Scrape {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scrape = Self::default();
        let mut current = String::new();
        let mut closed = BTreeSet::new();
        let body = text.strip_suffix('\n').ok_or("no line feed at the end")?;
        for line in body.split('\n') {
            let fail = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else { return fail("HELP without text") };
                if !closed.insert(name.to_owned()) {
                    return fail("a family in two places");
                }
                current = name.to_owned();
                let help = unescape(help, false).ok_or_else(|| format!("bad escape: {line:?}"))?;
                scrape.help.insert(name.to_owned(), help);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return fail("TYPE without type") };
                if name != current || !["counter", "gauge", "histogram"].contains(&kind) {
                    return fail("unexpected TYPE");
                }
                if scrape.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return fail("second TYPE");
                }
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| format!("no sample: {line:?}"))?;
                let kind = scrape.types.get(&current).map(String::as_str);
                let suffix = name.strip_prefix(&current);
                if !match kind {
                    Some("histogram") => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                    kind => kind.is_some() && suffix == Some(""),
                } {
                    return fail("a sample outside its family");
                }
                if scrape.samples.insert((name, labels), value).is_some() {
                    return fail("a series twice");
                }
            }
        }
        Ok(scrape)
    }

    /// All samples of a family.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, &'a str)> {
        self.samples.iter().filter(move |((n, _), _)| n == name).map(|((_, l), v)| (l, v.as_str()))
    }

    /// The value as written of one series.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<&str> {
        let labels = labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).map(String::as_str)
    }

    /// The value of one series that is there and a whole number.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.get(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name}{labels:?} is {value}"))
    }

    /// The value of one series that is there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?}")).parse().unwrap()
    }

    /// Sum over a family of whole numbers.
    pub fn sum(&self, name: &str) -> u64 {
        self.family(name)
            .map(|(labels, v)| v.parse::<u64>().unwrap_or_else(|_| panic!("{name}{labels:?} {v}")))
            .sum()
    }
}

fn name_ok(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    !name.is_empty() && name.bytes().enumerate().all(|(i, b)| ok(b) || i > 0 && b.is_ascii_digit())
}

fn sample(line: &str) -> Option<(String, Labels, String)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let close = closing_quote(after)?;
            let value = unescape(&after[..close], true)?;
            if !name_ok(label) || labels.iter().any(|(l, _)| l == label) {
                return None;
            }
            labels.push((label.to_owned(), value));
            rest = &after[close + 1..];
            if let Some(next) = rest.strip_prefix(',') {
                rest = next;
            } else {
                rest = rest.strip_prefix('}')?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    (name_ok(name) && value.parse::<f64>().ok()?.is_finite() && value.trim() == value).then_some(())?;
    Some((name.to_owned(), labels, value.to_owned()))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, quotes: bool) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => out.push('\\'),
                'n' => out.push('\n'),
                '"' if quotes => out.push('"'),
                _ => return None,
            },
            '"' if quotes => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[test]
fn it_is_strict() {
    let ok = "# HELP a An \"a\" \\\\ \\n.\n# TYPE a counter\na 1\na{b=\"x\\\"\\\\\\n,}\",c=\"\"} 2.5\n# HELP d .\n# TYPE d gauge\n";
    let scrape = Scrape::parse(ok).unwrap();
    assert_eq!(scrape.get("a", &[("b", "x\"\\\n,}"), ("c", "")]), Some("2.5"));
    assert_eq!(scrape.help["a"], "An \"a\" \\ \n.");
    for bad in [
        "",
        "# HELP a b\n# TYPE a counter\na 1",
        "# HELP a b\n# TYPE a counter\n\na 1\n",
        "a 1\n",
        "# HELP a b\na 1\n",
        "# HELP a b\n# TYPE a counter\na{b=\"c\"} 1\na{b=\"c\"} 2\n",
        "# HELP a b\n# TYPE a counter\n# HELP c d\n# TYPE c gauge\na 1\n",
        "# HELP a b\n# TYPE a counter\n# HELP a b\n",
        "# HELP a b\n# TYPE a summary\n",
        "# HELP a b\n# TYPE a histogram\na 1\n",
        "# HELP a b\n# TYPE a counter\na_sum 1\n",
        "# HELP a b\n# TYPE a counter\na{b=\"\\x\"} 1\n",
        "# HELP a b\n# TYPE a counter\na{b=\"c} 1\n",
        "# HELP a b\n# TYPE a counter\na{b=\"c\",} 1\n",
        "# HELP a b\n# TYPE a counter\na{} 1\n",
        "# HELP a b\n# TYPE a counter\na{b=\"c\",b=\"d\"} 1\n",
        "# HELP a b\n# TYPE a counter\na  1\n",
        "# HELP a b\n# TYPE a counter\na NaN\n",
        "# HELP a b\n# TYPE a counter\na 1 1700000000\n",
    ] {
        assert!(Scrape::parse(bad).is_err(), "{bad:?}");
    }
}
