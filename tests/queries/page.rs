//! `docs/queries.md`, made from the file of queries.

use std::fmt::Write as _;

use crate::expect::Expect;
use crate::seed::{Query, Seed, Works};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/queries.md");
const MARK: &str = "<!-- queries -->\n";

pub fn check() {
    let page = std::fs::read_to_string(PATH).unwrap();
    let (before, _) = page.split_once(MARK).unwrap();
    let wanted = [before, MARK, &queries()].concat();
    if std::env::var_os("POLLUX_UPDATE_DOCS").is_some() {
        std::fs::write(PATH, wanted).unwrap();
    } else {
        assert!(page == wanted, "POLLUX_UPDATE_DOCS=1 cargo test --test queries page writes it anew");
    }
}

fn queries() -> String {
    let mut page = String::new();
    for (heading, queries) in Seed::load().by_heading() {
        let _ = writeln!(page, "\n## {heading}");
        for query in queries {
            one(&mut page, query);
        }
    }
    page
}

fn one(page: &mut String, query: &Query) {
    let block = |page: &mut String, promql: &str| {
        let _ = writeln!(page, "\n```promql\n{}\n```", promql.trim_end());
    };
    let _ = writeln!(page, "\n### {}", query.asks);
    block(page, &query.seed);
    let verdict = match query.works {
        Works::Yes => "Works.",
        Works::Misleads => "**Misleads.**",
        Works::Never => "**Cannot work.**",
    };
    let note = if query.note.is_empty() { String::new() } else { format!(" {}", query.note) };
    let _ = writeln!(page, "\n{verdict}{note}");
    if let Some(right) = &query.right {
        let _ = writeln!(page, "\nThe right form:");
        block(page, right);
    }
    let _ = writeln!(page, "\nAnswers: {}", query.answers);
    let line = |calm: &str, storm: &Option<String>| {
        let calm = Expect::read(calm);
        match storm.as_deref().map(Expect::read) {
            Some(storm) if storm != calm && storm.to_string() != calm.to_string() => {
                format!("in the calm {calm}; in the storm {storm}")
            }
            _ => format!("{calm}"),
        }
    };
    let _ = write!(page, "\nIn the lab: {}", line(&query.calm, &query.storm));
    if let (Some(calm), storm) = (&query.right_calm, &query.right_storm) {
        let _ = write!(page, ". The right form: {}", line(calm, storm));
    }
    let _ = writeln!(page, ".");
}
