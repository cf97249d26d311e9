//! The panels of dashboards: ours, as they are committed, and the expressions of those that LoxiLB publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::prometheus::{Prometheus, Samples};
use crate::seed::read;

const DASHBOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/grafana/dashboards");

/// A query of a panel, or of a variable.
struct Asked {
    dashboard: String,
    panel: String,
    promql: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Variable,
    Panel,
    /// Of a graph: its edges come first, then its nodes.
    Graph,
}

/// A panel of ours that the lab leaves empty, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {
    dashboard: String,
    panel: String,
    #[allow(dead_code, reason = "for who reads the list")]
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyList {
    empty: Vec<Empty>,
}

/// An expression of LoxiLB's dashboards.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    panel: String,
    promql: Vec<String>,
    /// Of families that are not there yet.
    #[serde(default)]
    later: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedList {
    panel: Vec<Published>,
}

fn empty() -> Vec<Empty> {
    let EmptyList { empty } = read("empty.toml");
    empty
}

fn published() -> Vec<Published> {
    let PublishedList { panel } = read("loxilb.toml");
    panel
}

/// All queries of our dashboards.
fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    let mut files: Vec<_> = fs::read_dir(Path::new(DASHBOARDS)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let ask = |panel: &str, promql: &str, kind| Asked {
            dashboard: name.clone(),
            panel: panel.to_owned(),
            promql: promql.to_owned(),
            kind,
        };
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            let query = &variable["query"];
            if let Some(promql) =
                query["query"].as_str().or(query.as_str()).filter(|_| variable["type"] == "query")
            {
                all.push(ask(variable["name"].as_str().unwrap(), promql, Kind::Variable));
            }
        }
        let rows = dashboard["panels"].as_array().into_iter().flatten();
        let panels =
            rows.flat_map(|row| std::iter::once(row).chain(row["panels"].as_array().into_iter().flatten()));
        for panel in panels {
            let kind = if panel["type"] == "nodeGraph" { Kind::Graph } else { Kind::Panel };
            for target in panel["targets"].as_array().into_iter().flatten() {
                let promql =
                    target["expr"].as_str().unwrap_or_else(|| panic!("{name}: a target without expr"));
                all.push(ask(panel["title"].as_str().unwrap_or_default(), promql, kind));
            }
        }
    }
    all
}

/// Asks them all of one moment, and gives what is wrong.
pub fn look(prometheus: &Prometheus, service: &str, at: f64) -> Vec<String> {
    let put = |promql: &str| {
        let values = [
            ("$__rate_interval", "1m"),
            ("$__range", "5m"),
            ("$service", service),
            ("$endpoint", ".*"),
            ("$client", ".*"),
            ("$instance", ".*"),
            ("$job", ".*"),
        ];
        values.iter().fold(promql.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let mut wrong = Vec::new();
    let empty = empty();
    let mut frames = Vec::new();
    for Asked { dashboard, panel, promql, kind } in asked() {
        let text = put(&promql);
        let rest = text.replace("\"$1\"", "");
        assert!(!rest.contains('$'), "{dashboard}: {panel}: a variable without a value: {text}");
        let found = if kind == Kind::Variable {
            match label_values(&text) {
                Some((selector, label)) => {
                    prometheus.label_values(label, selector).map(|values| values.len())
                }
                None => Err("not label_values(selector, label)".to_owned()),
            }
        } else {
            prometheus.query(&text, Some(at)).map(|samples| {
                let series = samples.len();
                if kind == Kind::Graph {
                    frames.push(samples);
                }
                series
            })
        };
        let expected = empty.iter().any(|e| e.dashboard == dashboard && e.panel == panel);
        match found {
            Ok(0) if expected => {}
            Ok(0) => wrong.push(format!("{dashboard}: {panel}: no data: {text}")),
            Ok(_) if expected => {
                wrong.push(format!("{dashboard}: {panel}: has data, and is on the list of empty ones"))
            }
            Ok(_) => {}
            Err(why) => wrong.push(format!("{dashboard}: {panel}: {text}\n    {why}")),
        }
    }
    assert!(!frames.is_empty(), "no graph");
    for pair in frames.chunks(2) {
        wrong.extend(graph(&pair[0], &pair[1]));
    }
    for Published { panel, promql, later } in published() {
        for promql in promql {
            match prometheus.query(&put(&promql), Some(at)) {
                Ok(found) if found.is_empty() == later => {}
                Ok(found) => wrong.push(format!("LoxiLB: {panel}: {} series: {promql}", found.len())),
                Err(why) => wrong.push(format!("LoxiLB: {panel}: {promql}\n    {why}")),
            }
        }
    }
    wrong
}

/// What a node graph's panel would not draw: it wants the fields `id`, `source` and `target` of edges, `id` and `title` of nodes.
fn graph(edges: &Samples, nodes: &Samples) -> Vec<String> {
    let nodes: BTreeSet<_> = nodes
        .keys()
        .filter(|labels| labels.contains_key("title"))
        .filter_map(|labels| labels.get("id"))
        .collect();
    let leads =
        |labels: &BTreeMap<String, String>, end: &str| labels.get(end).is_some_and(|id| nodes.contains(id));
    let mut ids = BTreeSet::new();
    let whole = |labels: &&BTreeMap<String, String>| {
        ids.insert(labels.get("id").cloned()) && leads(labels, "source") && leads(labels, "target")
    };
    let drawn = edges.keys().filter(whole).count();
    if drawn == edges.len() {
        Vec::new()
    } else {
        vec![format!("a graph has {drawn} edges of {}: {edges:?}", edges.len())]
    }
}

/// Grafana's own function, which is no PromQL: selector and label.
fn label_values(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (selector, label) = inner.rsplit_once(',')?;
    Some((selector.trim(), label.trim()))
}

pub fn check_lists() {
    let panels: BTreeSet<_> = asked().into_iter().map(|a| (a.dashboard, a.panel)).collect();
    for Empty { dashboard, panel, .. } in empty() {
        assert!(
            panels.contains(&(dashboard.clone(), panel.clone())),
            "there is no panel {panel} in {dashboard}"
        );
    }
    assert!(panels.len() > 50, "only {} panels", panels.len());
    let published: usize = published().iter().map(|p| p.promql.len()).sum();
    assert!(published > 60, "only {published} of LoxiLB's expressions");
}
