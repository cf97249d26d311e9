//! The file of queries.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::expect::Expect;
use crate::prometheus::{Prometheus, now};

/// One query of the documentation, and what became of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The documentation's heading.
    pub under: String,
    /// Its comment.
    pub asks: String,
    /// The query, to the letter.
    pub seed: String,
    pub works: Works,
    /// What is wrong, or to be known.
    #[serde(default)]
    pub note: String,
    /// What it answers, in the right form if that is another one.
    pub answers: String,
    /// The right form, where it is another one.
    pub right: Option<String>,
    /// Of the last tick: asked of the moment when the traffic stopped, not of the rest after it.
    #[serde(default)]
    pub live: bool,
    pub calm: String,
    /// Where it is not as in the calm.
    pub storm: Option<String>,
    /// The same for services by name.
    pub named: Option<String>,
    pub right_calm: Option<String>,
    pub right_storm: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Works {
    /// As it is.
    Yes,
    /// It gives something else than it says.
    Misleads,
    /// It can never give anything.
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    query: Vec<Query>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    Calm,
    Storm,
    Named,
}

impl Query {
    /// The query and its right form, each with what it must give.
    fn expected(&self, moment: Moment) -> Vec<(&str, Expect)> {
        let pick = |calm: &Option<String>, storm: &Option<String>, named: &Option<String>| {
            let other = match moment {
                Moment::Calm => None,
                Moment::Storm => storm.as_ref(),
                Moment::Named => named.as_ref(),
            };
            other.or(calm.as_ref()).map(|text| Expect::read(text))
        };
        let own = pick(&Some(self.calm.clone()), &self.storm, &self.named);
        let mut all = vec![(self.seed.as_str(), own.unwrap())];
        if let Some(right) = &self.right {
            let wanted = pick(&self.right_calm, &self.right_storm, &None);
            all.push((right, wanted.unwrap_or_else(|| panic!("{right}: what must it give?"))));
        }
        all
    }
}

pub struct Seed {
    pub queries: Vec<Query>,
    /// Asked so far.
    pub asked: usize,
}

impl Seed {
    pub fn load() -> Self {
        let File { query: queries } = read("seed.toml");
        Self { queries, asked: 0 }
    }

    /// Asks everything, and gives what is wrong. `$service` is this; `live` is when traffic stopped.
    pub fn look(&mut self, moment: Moment, prometheus: &Prometheus, service: &str, live: f64) -> Vec<String> {
        let text = |query: &str| query.replace("$service", service);
        let at = now();
        let mut wrong = Vec::new();
        for query in &self.queries {
            for (promql, wanted) in query.expected(moment) {
                self.asked += 1;
                let at = Some(moment_of(promql, if query.live { live } else { at }));
                let verdict = prometheus
                    .query(&text(promql), at)
                    .and_then(|found| wanted.judge(&found, prometheus, at, &text));
                if let Err(why) = verdict {
                    wrong.push(format!("{moment:?}: {} / {}: {promql}\n    {why}", query.under, query.asks));
                }
            }
        }
        wrong
    }

    /// In the file's order, by heading.
    pub fn by_heading(&self) -> Vec<(&str, Vec<&Query>)> {
        let mut groups: Vec<(&str, Vec<&Query>)> = Vec::new();
        let mut seen = BTreeMap::new();
        for query in &self.queries {
            let at = *seen.entry(query.under.as_str()).or_insert_with(|| {
                groups.push((&query.under, Vec::new()));
                groups.len() - 1
            });
            groups[at].1.push(query);
        }
        groups
    }
}

/// One of the files of this folder. Read when the test runs, so that a changed expectation needs no compiler.
pub fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/tests/queries/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A subquery takes its values at whole minutes, of which the lab sees few: it is asked at the next one.
fn moment_of(promql: &str, at: f64) -> f64 {
    let sub = promql.contains(":]") || promql.contains(":1m]");
    if sub { (at / 60.0).ceil() * 60.0 } else { at }
}
