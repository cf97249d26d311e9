//! Nothing panics, whatever the text.

use proptest::prelude::*;

use super::*;

/// Everything that is done with a text, displays included.
fn exercise(text: &str) {
    let problems = match parse("f", text) {
        Ok((_, warnings)) => warnings,
        Err(report) => {
            assert!(report.problems().iter().any(|p| p.severity() == Severity::Error));
            assert_eq!(report.lines().lines().count(), report.problems().len(), "{}", report.lines());
            report.problems().to_vec()
        }
    };
    let _ = Style::Plain.render(&problems);
    let _ = Style::Graphical { color: true, width: 60 }.render(&problems);
}

/// Fragments of which a file could be made, rightly and wrongly.
fn fragment() -> impl Strategy<Value = String> {
    let pieces = [
        "[",
        "]",
        "[[",
        "]]",
        "=",
        "\"",
        "\"\"\"",
        "'",
        "{",
        "}",
        ",",
        ".",
        "#",
        "\n",
        "\r\n",
        " ",
        "engine",
        "port",
        "service",
        "endpoint",
        "health_check",
        "firewall",
        "metrics",
        "history",
        "remote_write",
        "name",
        "address",
        "vip",
        "workers",
        "burst",
        "tick",
        "1",
        "-1",
        "0x",
        "1_0",
        "1e9",
        "nan",
        "true",
        "\"10s\"",
        "10.0.0.1/24",
        "\"[::1]:80\"",
        "\"10.0.0.1:1-2\"",
        "1979-05-27",
        "\\u0000",
        "ü",
        "\u{feff}",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..60).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn no_fragments_panic(text in fragment()) {
        exercise(&text);
    }

    #[test]
    fn no_mutated_file_panics(
        cuts in prop::collection::vec((0usize..WHOLE.len(), 0usize..40, fragment()), 1..6),
    ) {
        let mut text = WHOLE.to_owned();
        for (at, len, put) in cuts {
            let start = source::floor_boundary(&text, at);
            let end = source::floor_boundary(&text, start + len);
            text.replace_range(start..end, &put);
        }
        exercise(&text);
    }

    #[test]
    fn no_value_panics(
        line in 0usize..120,
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}")),
            "\\PC{0,20}".prop_map(|s| format!("{s:?}")),
            "[0-9a-f:.\\[\\]/-]{0,24}".prop_map(|s| format!("\"{s}\"")),
            "[0-9]{1,22}(ms|s|m|h|d)".prop_map(|s| format!("\"{s}\"")),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just("[[], {}, 1, \"x\", true]".to_owned()),
        ],
    ) {
        let lines: Vec<String> = WHOLE.lines().enumerate().map(|(i, l)| match l.split_once('=') {
            Some((key, _)) if i == line => format!("{key}= {value}"),
            _ => l.to_owned(),
        }).collect();
        exercise(&lines.join("\n"));
    }
}
