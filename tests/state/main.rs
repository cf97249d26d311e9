//! What a running engine says of itself: the API, the commands that show it, and that both agree with `/metrics`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;
mod schema;
mod terminal;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use rig::{POLLUX, Running};
use serde_json::{Value, json};
use terminal::Terminal;

const LISTS: [(&str, &str); 6] = [
    ("status", "Status"),
    ("services", "Services"),
    ("endpoints", "Endpoints"),
    ("firewall", "Firewall"),
    ("ports", "Ports"),
    ("workers", "Workers"),
];

/// One engine, asked by all tests: DPDK takes its time to start.
#[test]
fn what_an_engine_says() {
    let (engine, document) = while_connections_are_young(|engine, document| {
        figures_are_those_of_the_traffic(engine);
        flows(engine, document);
        tables(engine);
        top(engine);
        top_sorted(engine);
    });
    assert_eq!(engine.admin("GET", "/api/openapi.json").1, engine.http("GET", "/api/openapi.json").1);

    every_answer_is_as_described(&engine, &document);
    figures_are_those_of_the_metrics(&engine, &document);
    refusals(&engine, &document);
    top_on_a_terminal(&engine);
    colours(&engine);
    sides(&engine, &document);
    changes(&engine, &document);
    schemathesis(&engine);
}

/// An engine of which all that was asserted while none of its half-open connections, which live for 10 s, could be gone. Where
/// the machine takes longer, what is wrong says nothing, and another engine is asked.
fn while_connections_are_young(assert: impl Fn(&Running, &Value)) -> (Running, Value) {
    for _ in 0..5 {
        let began = Instant::now();
        let engine = Running::start();
        let document = serde_json::from_str(&engine.http("GET", "/api/openapi.json").1).unwrap();
        let asserted = catch_unwind(AssertUnwindSafe(|| assert(&engine, &document)));
        println!("while connections are young: {:.1} s", began.elapsed().as_secs_f64());
        match asserted {
            Ok(()) => return (engine, document),
            Err(wrong) if began.elapsed() < Duration::from_secs(9) => resume_unwind(wrong),
            Err(_) => {}
        }
    }
    panic!("connections are never young");
}

fn top(engine: &Running) {
    let (status, out, err) = engine.ask(&["top"]);
    assert_eq!((status, err.as_str()), (0, ""), "no terminal: one frame");
    assert!(!out.contains('\x1b'), "{out}");
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines[1].contains("connections 45 of 1024 endpoints 3 up, 1 down"), "{out}");
    for begin in
        ["web 203.0.113.100:80 tcp 2/3 40 ", "10.1.0.12:8080 web down 0 ", "firewall 3 0 pps", "0 0 "]
    {
        assert!(lines.iter().any(|line| line.starts_with(begin)), "{begin:?} in {out}");
    }
    assert!(lines.iter().any(|line| line.starts_with("198.51.100.")), "top clients: {out}");
    assert_eq!(engine.ask(&["top", "--once"]).0, 0);
    let json = engine.json(&["top"]);
    assert_eq!(json["status"]["connections"]["active"], 45);
    assert_eq!(json["workers"]["workers"].as_array().unwrap().len(), 2);
}

fn on_terminal(engine: &Running, args: &[&str]) -> Command {
    let mut command = Command::new(POLLUX);
    command.args(args).arg("--socket").arg(engine.socket()).env_remove("NO_COLOR");
    command
}

/// Only keys and another size have it drawn anew.
const TOP: [&str; 3] = ["top", "--interval", "3600"];

fn bottom(screen: &[String]) -> String {
    screen.iter().rfind(|line| !line.is_empty()).cloned().unwrap_or_default()
}

fn top_sorted(engine: &Running) {
    let terminal = Terminal::run(on_terminal(engine, &TOP), 45, 100);
    let screen = terminal.wait("drawn", |screen| bottom(screen).starts_with("q quits"));
    assert!(screen[0].starts_with("pollux "), "{screen:#?}");
    for part in ["service ", "endpoint ", "client ", "dropped ", "worker "] {
        assert!(screen.iter().any(|line| line.starts_with(part)), "no {part:?}: {screen:#?}");
    }
    assert!(
        screen.iter().any(|line| line.starts_with("10.1.0.10:8080") && line.contains('▁')),
        "{screen:#?}"
    );
    assert!(terminal.is_raw() && terminal.written().contains("\x1b[?1049h"));

    // Sorted by connections, and by name.
    let services = |screen: &[String]| {
        let names = screen.iter().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| ["web", "dns"].contains(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    terminal.press("c");
    terminal.wait("sorted by connections", |screen| {
        bottom(screen).contains("by connections") && services(screen) == ["web", "dns"]
    });
    terminal.press("n");
    terminal.wait("sorted by name", |screen| {
        bottom(screen).contains("by name") && services(screen) == ["dns", "web"]
    });
}

fn top_on_a_terminal(engine: &Running) {
    let mut terminal = Terminal::run(on_terminal(engine, &TOP), 45, 100);
    terminal.wait("drawn", |screen| bottom(screen).starts_with("q quits"));

    // A small terminal shows the beginning; down there is the rest.
    terminal.resize(12, 80);
    terminal.wait("as large as the terminal", |screen| {
        screen[0].starts_with("pollux ")
            && screen[11].starts_with("q quits")
            && screen[11].contains(" 0 lines above")
    });
    terminal.press("\x1b[6~");
    let screen = terminal.wait("a page down", |screen| screen[11].contains("11 lines above"));
    assert!(!screen[0].starts_with("pollux "), "{screen:#?}");
    terminal.press("G");
    terminal.wait("at its end", |screen| {
        screen[11].contains(" 0 below") && screen.iter().any(|line| line.starts_with("worker "))
    });
    terminal.press("k");
    terminal.wait("a line up", |screen| screen[11].contains(" 1 below"));
    terminal.press("\x1b[H");
    terminal.wait("back at the top", |screen| screen[0].starts_with("pollux "));

    // All is left as it was.
    for keys in ["q", "\x03", "\x1b"] {
        terminal.press(keys);
        assert!(terminal.ends().success(), "{keys:?}");
        assert!(!terminal.is_raw(), "after {keys:?}");
        assert!(terminal.written().ends_with("\x1b[?25h\x1b[?1049l"));
        terminal = Terminal::run(on_terminal(engine, &TOP), 24, 80);
        terminal.wait("drawn", |screen| bottom(screen).starts_with("q quits"));
    }
}

/// Colour on a terminal, unless it has none or nobody wants any.
fn colours(engine: &Running) {
    for (variable, coloured) in
        [(None, true), (Some(("NO_COLOR", "1")), false), (Some(("TERM", "dumb")), false)]
    {
        for args in [&["endpoints"][..], &["services"], &["top", "--once"]] {
            let mut command = on_terminal(engine, args);
            if let Some((name, value)) = variable {
                command = {
                    let mut env = Command::new("env");
                    env.arg(format!("{name}={value}")).arg(command.get_program()).args(command.get_args());
                    env.env_remove("NO_COLOR");
                    env
                };
            }
            let mut terminal = Terminal::run(command, 40, 160);
            assert!(terminal.ends().success());
            terminal.wait("written", |screen| {
                screen.iter().any(|line| line.contains("203.0.113.100") || line.contains("10.1.0.12"))
            });
            assert_eq!(
                terminal.written().contains("\x1b["),
                coloured,
                "{args:?} {variable:?}: {}",
                terminal.written()
            );
        }
    }
}

fn every_answer_is_as_described(engine: &Running, document: &Value) {
    for (path, name) in LISTS.into_iter().chain([("flows", "Flows")]) {
        let path = format!("/api/v1/pollux/{path}");
        let said = &document["paths"][&path]["get"]["responses"]["200"]["content"]["application/json"];
        assert_eq!(said["schema"]["$ref"], format!("#/components/schemas/{name}"));
        for (status, body) in [engine.http("GET", &path), engine.admin("GET", &path)] {
            assert_eq!(status, "200", "{path}: {body}");
            let value: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(schema::problems(document, name, &value), [""; 0], "{path}");
        }
        // It only reads.
        assert_eq!(engine.http("POST", &path).0, "405");
        assert_eq!(engine.http("DELETE", &path).0, "405");
    }
    // The validator can find something.
    let mut status: Value = serde_json::from_str(&engine.http("GET", "/api/v1/pollux/status").1).unwrap();
    status["ready"] = "yes".into();
    status["connections"]["more"] = 1.into();
    status.as_object_mut().unwrap().remove("version");
    assert_eq!(schema::problems(document, "Status", &status).len(), 3);
}

/// Each side serves what the document's tags say, and nothing else of it; what is refused is refused in one way.
fn sides(engine: &Running, document: &Value) {
    let (mut state, mut listener, mut admin) = (0, 0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let (method, path) = (method.to_uppercase(), path.replace("{id}", "1"));
            // Without a body: whoever wants one says so, and nothing is changed.
            let here = [engine.http(&method, &path).0 != "404", engine.admin(&method, &path).0 != "404"];
            let (served, count) = match operation["tags"][0].as_str().unwrap() {
                "state" => ([true, true], &mut state),
                "listener" => ([true, false], &mut listener),
                "admin" => ([false, true], &mut admin),
                tag => panic!("{path}: {tag}"),
            };
            assert_eq!(here, served, "{path}");
            *count += 1;
            let wrong = if method == "PUT" { "PATCH" } else { "PUT" };
            for (side, (status, body)) in
                here.into_iter().zip([engine.http(wrong, &path), engine.admin(wrong, &path)])
            {
                assert_eq!(status, if side { "405" } else { "404" }, "{wrong} {path}: {body}");
                refusal(document, &body, &path);
            }
        }
    }
    // The contract's paths, as far as they are built; new ones are counted here.
    assert!(state >= 8 && listener >= 5 && admin >= 6, "{state}, {listener}, {admin}");
    for (status, body) in [engine.http("GET", "/no/such"), engine.admin("GET", "/no/such")] {
        assert_eq!(status, "404");
        refusal(document, &body, "/no/such");
    }
}

/// `{"error": …}` in one line, and what it is about.
#[track_caller]
fn refusal(document: &Value, body: &str, word: &str) {
    let value: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(schema::problems(document, "Refusal", &value), [""; 0]);
    let line = value["error"].as_str().unwrap();
    assert!(line.contains(word) && !line.contains('\n'), "{word}: {line}");
}

/// What is on the socket alone: answers and refusals are as described.
fn changes(engine: &Running, document: &Value) {
    let is = |path: &str, json: &str, status: &str| {
        let (is, body) = engine.tell("POST", &format!("/api/v1/pollux/{path}"), json);
        assert_eq!(is, status, "{path} {json}: {body}");
        let operation = &document["paths"][format!("/api/v1/pollux/{path}")]["post"];
        let said = &operation["responses"][status]["content"]["application/json"]["schema"]["$ref"];
        let name = said
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {status} is not described"))
            .rsplit('/')
            .next()
            .unwrap();
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(schema::problems(document, name, &value), [""; 0], "{path} {json}");
        value
    };
    let file = engine.file();
    let text = std::fs::read_to_string(&file).unwrap();
    let another = |text: &str| {
        let path = engine.folder.path().join("other.toml");
        std::fs::write(&path, text).unwrap();
        json!({ "config": path }).to_string()
    };
    assert_eq!(is("diff", "{}", "200")["changes"], json!([]));
    let changed = is("diff", &another(&text.replace("weight = 3", "weight = 4")), "200");
    assert_eq!(changed["changes"][0]["fields"], json!([{ "key": "weight", "from": "3", "to": "4" }]));
    let restart = another(&text.replace("memory_mb = 128", "memory_mb = 129"));
    assert_eq!(is("diff", &restart, "200")["restart"].as_array().unwrap().len(), 1);
    assert_eq!(is("reload", &restart, "409")["restart"].as_array().unwrap().len(), 1);
    assert!(!is("reload", &another("nonsense"), "422")["problems"].as_array().unwrap().is_empty());
    is("diff", &another("nonsense"), "422");
    is("reload", r#"{"config": 1}"#, "422");
    is("reload", "{", "400");
    is("reload", r#"{"config": "relative"}"#, "400");
    is("diff", "", "415");
    assert_eq!(is("reload", "{}", "200")["changes"], json!([]));

    let endpoint = r#"{"service": "web", "endpoint": "10.1.0.11:8080"}"#;
    assert_eq!(is("drain", endpoint, "200")["state"], "drain");
    assert_eq!(is("diff", "{}", "200")["runtime"].as_array().unwrap().len(), 1);
    assert_eq!(is("undrain", endpoint, "200")["state"], "up");
    is("undrain", endpoint, "409");
    is("drain", &endpoint.replace("web", "no"), "404");
    is("drain", r#"{"service": "web"}"#, "422");
    is("drain", "[", "400");
    is("drain", "", "415");

    is("capture", r#"{"limit": "x"}"#, "422");
    is("capture", r#"{"port": "no"}"#, "400");
    is("capture", "", "415");
    is("capture", r#"{"limit": 0}"#, "400");
    // A stream until it is ended: all captures up to a number are.
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| engine.tell("POST", "/api/v1/pollux/capture", "{}"));
        std::thread::sleep(Duration::from_millis(500));
        let (status, body) = engine.tell("DELETE", "/api/v1/pollux/capture/1000", "");
        let ending: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status.as_str(), schema::problems(document, "Ending", &ending)), ("202", vec![]));
        assert_eq!(stream.join().unwrap().0, "200");
    });
    let (status, body) = engine.tell("DELETE", "/api/v1/pollux/capture/x", "");
    assert_eq!(status, "400");
    refusal(document, &body, "x");
}

/// Thousands of questions, in and out of bounds, by somebody else's reading of the document.
fn schemathesis(engine: &Running) {
    let began = Instant::now();
    let out = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ci/schemathesis"))
        .arg(format!("http://{}", engine.metrics))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let summary =
        said.lines().find(|line| line.contains("generated")).unwrap_or_else(|| panic!("no summary: {said}"));
    println!("schemathesis: {} in {:.0} s", summary.trim(), began.elapsed().as_secs_f64());
}

/// Every field whose description names a metric is that metric, in the same snapshot.
fn figures_are_those_of_the_metrics(engine: &Running, document: &Value) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for (path, name) in LISTS {
        let (samples, value) = loop {
            let samples = engine.samples();
            let value = engine.json(&[path]);
            if value["snapshot"].as_f64() == samples.get("pollux_snapshot_timestamp_seconds").copied() {
                break (samples, value);
            }
            assert!(Instant::now() < deadline, "{path}: never of the same snapshot");
        };
        let mut compared = 0;
        compare(document, &document["components"]["schemas"][name], &value, "", &samples, &mut compared);
        let least = match path {
            "status" => 30,
            "services" => 12,
            "endpoints" => 8,
            "firewall" => 2,
            "ports" => 18,
            _ => 8,
        };
        assert!(compared >= least, "{path}: only {compared} figures are metrics");
    }
}

fn compare(
    document: &Value,
    schema: &Value,
    value: &Value,
    labels: &str,
    samples: &HashMap<String, f64>,
    compared: &mut usize,
) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return compare(document, &document["components"]["schemas"][name], value, labels, samples, compared);
    }
    match value {
        Value::Object(fields) => {
            let dip = |address: &str| address.rsplit_once(':').unwrap().0.to_owned();
            let label = |key: &str| fields.get(key).and_then(Value::as_str);
            let labels = match (label("address"), label("service"), label("name")) {
                (Some(endpoint), Some("web"), _) => {
                    format!("service=\"203.0.113.100:80\",dip=\"{}\"", dip(endpoint))
                }
                (Some(endpoint), Some("dns"), _) => {
                    format!("service=\"203.0.113.100:53\",dip=\"{}\"", dip(endpoint))
                }
                (Some(service), None, _) => format!("service=\"{service}\""),
                (_, _, Some(rule)) if fields.contains_key("action") => {
                    format!("fw_rule=\"{}\"", rule.replace('"', "\\\""))
                }
                (_, _, Some(port)) if fields.contains_key("link_up") => format!("port=\"{port}\""),
                (_, _, Some(pool)) => format!("pool=\"{pool}\""),
                _ => match fields.get("worker") {
                    Some(worker) => format!("worker=\"{worker}\""),
                    None => String::new(),
                },
            };
            for (key, value) in fields {
                let schema = &schema["properties"][key];
                if key == "dropped" {
                    for (reason, n) in value.as_object().unwrap() {
                        let sample = samples[&format!("pollux_dropped_packets_total{{reason=\"{reason}\"}}")];
                        assert_eq!(n.as_f64(), Some(sample), "{reason}");
                    }
                    let reasons = samples.keys().filter(|k| k.starts_with("pollux_dropped_packets_total{"));
                    assert_eq!(reasons.count(), value.as_object().unwrap().len());
                } else {
                    compare(document, schema, value, &labels, samples, compared);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                compare(document, &schema["items"], item, labels, samples, compared);
            }
        }
        Value::Number(_) | Value::Bool(_) => {
            let described = schema["description"].as_str().unwrap_or_default();
            let Some(name) = described.split('`').nth(1) else { return };
            let known = samples.keys().any(|key| key.split('{').next() == name.split('{').next());
            if !known {
                return;
            }
            let sample = if name == "pollux_mempool_buffers_in_use" || name == "pollux_mempool_buffers" {
                samples.get(&format!("{name}{{pool=\"pollux\"}}")).copied()
            } else if let Some((family, state)) = name.split_once('{') {
                let of = samples
                    .iter()
                    .filter(|(key, _)| key.starts_with(family) && key.contains(&state[..state.len() - 1]));
                Some(of.map(|(_, value)| value).sum())
            } else if labels.is_empty() {
                samples.get(name).copied()
            } else {
                samples.get(&format!("{name}{{{labels}}}")).copied()
            };
            let number = value.as_f64().unwrap_or_else(|| f64::from(u8::from(value == &Value::Bool(true))));
            if described.contains("0 of a rule that allows") && sample.is_none() {
                assert_eq!(number, 0.0);
                return;
            }
            assert_eq!(Some(number), sample, "{name}{{{labels}}}");
            *compared += 1;
        }
        _ => {}
    }
}

fn figures_are_those_of_the_traffic(engine: &Running) {
    let sent = rig::traffic();
    let status = engine.json(&["status"]);
    assert_eq!(status["ready"], true);
    assert_eq!(status["stale"], Value::Null);
    assert_eq!(status["connections"]["active"], 45);
    assert_eq!(status["connections"]["udp"], 5);
    assert_eq!(status["totals"]["requests"], 45);
    assert_eq!(status["totals"]["packets"], 85);
    assert_eq!(status["ledger"]["rx"], sent.len());
    assert_eq!(status["ledger"]["dropped"]["firewall"], 3);
    assert_eq!(status["ledger"]["dropped"]["no_service"], 1);
    assert_eq!(status["endpoints"], json!({ "healthy": 3, "unhealthy": 1 }));

    let services = engine.json(&["services"]);
    let web = &services["services"][0];
    assert_eq!((&web["name"], &web["algorithm"]), (&"web".into(), &"round-robin".into()));
    assert_eq!((&web["endpoints"], &web["endpoints_up"]), (&3.into(), &2.into()));
    assert_eq!((&web["connections"], &web["packets"]), (&40.into(), &80.into()));

    let endpoints = engine.json(&["endpoints"]);
    let rows = endpoints["endpoints"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["connections"].as_u64().unwrap()).sum::<u64>(), 45);
    assert_eq!((&rows[2]["state"], &rows[2]["connections"]), (&"down".into(), &0.into()));
    assert_eq!((&rows[3]["weight"], &rows[3]["health"]), (&3.into(), &Value::Null));

    assert_eq!(engine.ask(&["drain", "web", "10.1.0.11:8080"]).0, 0);
    let row = &engine.json(&["endpoints"])["endpoints"][1];
    assert_eq!(
        (&row["state"], &row["configured"], &row["drained"]),
        (&"drain".into(), &"up".into(), &true.into())
    );
    assert!(engine.ask(&["endpoints"]).1.contains("drain (by hand)"));
    assert_eq!(engine.ask(&["undrain", "web", "10.1.0.11:8080"]).0, 0);
    assert_eq!(engine.json(&["endpoints"])["endpoints"][1]["state"], "up");

    let rule = &engine.json(&["firewall"])["rules"][0];
    assert_eq!((&rule["drops"], &rule["destination_port"]), (&3.into(), &json!([1, 1023])));
    let ports = engine.json(&["ports"]);
    assert_eq!(ports["ports"][0]["rx_packets"], sent.len());
    // 85 of them forwarded; a neighbour may be asked for again where the machine is slow.
    let told = ports["ports"][1]["tx_packets"].as_u64().unwrap();
    assert!((85..95).contains(&told), "{told}");
    assert_eq!(engine.json(&["workers"])["workers"].as_array().unwrap().len(), 2);
}

fn flows(engine: &Running, document: &Value) {
    let list = |args: &[&str]| {
        let value = engine.json(&[&["flows"], args].concat());
        assert_eq!(schema::problems(document, "Flows", &value), [""; 0]);
        value["flows"].as_array().unwrap().clone()
    };
    let all = list(&[]);
    assert_eq!(all.len(), 45);
    let clients: HashSet<&str> = all.iter().map(|flow| flow["client"].as_str().unwrap()).collect();
    assert_eq!(clients.len(), 45, "each once");
    // Of all workers: the first has read all, and given the other what its connections have carried, and maybe what was dropped.
    let of_other = all.iter().filter(|flow| flow["worker"] == 1);
    let carried = of_other.map(|flow| flow["packets"].as_u64().unwrap()).sum::<u64>() as f64;
    let handed = engine.samples()["pollux_handoff_packets_total"];
    assert!((carried..=carried + 4.0).contains(&handed), "{handed} packets handed on, {carried} carried");

    assert_eq!(list(&["--service", "dns"]).len(), 5);
    assert!(list(&["--service", "dns"]).iter().all(|flow| flow["protocol"] == "udp"));
    assert_eq!(list(&["--client", "198.51.100.2"]).len(), 10);
    assert_eq!(list(&["--client", "198.51.100.2", "--service", "dns"]).len(), 0);
    let at = |endpoint| list(&["--endpoint", endpoint]).len();
    assert_eq!(at("10.1.0.10") + at("10.1.0.11:8080"), 45);
    assert_eq!((at("10.1.0.10:53"), at("10.1.0.10:8080") + at("10.1.0.11")), (5, 40));
    assert_eq!(list(&["--limit", "7"]).len(), 7);

    // What each has carried is what was sent: nothing of it came back, and the pair has the sum.
    for flow in list(&["--service", "web"]) {
        let port: u64 = flow["client"].as_str().unwrap().split(':').next_back().unwrap().parse().unwrap();
        let sent = [2, 40 + 40 + 10 * (port - 4000)];
        assert_eq!([&flow["packets"], &flow["bytes"]].map(|own| own.as_u64().unwrap()), sent, "{flow}");
    }
    let table = engine.ask(&["flows", "--client", "198.51.100.77"]).1;
    let (head, row) = (table.lines().next().unwrap(), table.lines().nth(1).unwrap());
    assert!(head.ends_with("  packets  bytes"), "{table}");
    let of_one = (20 + 8 + 3).to_string();
    assert_eq!(row.split_whitespace().rev().take(3).collect::<Vec<_>>(), ["B", &of_one, "1"], "{table}");

    // What the pair has counted is what /metrics says.
    let samples = engine.samples();
    for flow in list(&["--client", "198.51.100.3"]) {
        let dip = flow["endpoint"].as_str().unwrap().split(':').next().unwrap();
        let labels = format!("{{service=\"203.0.113.100:80\",sip=\"198.51.100.3\",dip=\"{dip}\"}}");
        assert_eq!(
            flow["pair_packets"].as_f64().unwrap(),
            samples[&format!("lb_rule_interaction_packets{labels}")]
        );
        assert_eq!(
            flow["pair_bytes"].as_f64().unwrap(),
            samples[&format!("lb_rule_interaction_bytes{labels}")]
        );
        assert!(
            flow["age_seconds"].as_f64().unwrap() >= flow["idle_seconds"].as_f64().unwrap() - 0.2
                && flow["idle_seconds"].as_f64().unwrap() < 60.0
                && flow["expires_seconds"].as_f64().unwrap() > 0.0
        );
    }

    // Page by page, each connection is seen once.
    let (mut seen, mut cursor, mut pages) = (HashSet::new(), String::new(), 0);
    loop {
        let (status, body) = engine.http("GET", &format!("/api/v1/pollux/flows?limit=4{cursor}"));
        assert_eq!(status, "200", "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        pages += 1;
        for flow in page["flows"].as_array().unwrap() {
            assert!(seen.insert(flow["client"].as_str().unwrap().to_owned()), "twice: {flow}");
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 45);
    assert!(pages >= 12, "{pages}");
}

fn tables(engine: &Running) {
    let lines = |args: &[&str]| {
        let (status, out, err) = engine.ask(args);
        assert_eq!((status, err.as_str()), (0, ""), "{args:?}");
        assert!(!out.contains('\x1b'), "colour, and no terminal: {out}");
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let status = lines(&["status"]);
    assert!(
        status[0].starts_with(&format!("pollux {} (DPDK ", env!("CARGO_PKG_VERSION")))
            && status[0].contains(", ready, up "),
        "{status:?}"
    );
    for line in [
        "services 2",
        "endpoints 3 healthy, 1 unhealthy",
        "connections 45 active (tcp 40, udp 5, sctp 0), 0 closing or closed; 4.4 % of 1024",
        "now 0 pps, 0 bit/s, 0 /s requests, 0 /s errors",
        "received 89: 85 forwarded, 0 to the kernel, 0 for the engine, 0 held",
        "dropped firewall 3, no_service 1",
    ] {
        assert!(status.contains(&line.to_owned()), "{line:?} in {status:#?}");
    }
    let services = lines(&["services"]);
    assert!(services[0].starts_with("service address proto mode algorithm endpoints conns"), "{services:?}");
    assert!(
        services[1].starts_with("web 203.0.113.100:80 tcp dnat round-robin 2/3 40 40 0 80 "),
        "{services:?}"
    );
    let endpoints = lines(&["endpoints"]);
    assert!(endpoints[3].starts_with("web 10.1.0.12:8080 down - 1 0 0 B 0 bit/s 0.0 %"), "{endpoints:?}");
    let firewall = lines(&["firewall"]);
    assert_eq!(firewall[1], "block \"them\" drop tcp 192.0.2.0/24 any port 1-1023 wan 3 0 pps");
    assert_eq!(firewall[2], "pass allow udp any any any - -");
    assert!(lines(&["ports"])[1].starts_with("wan net_pcap0 net_pcap 02:70:63:61:70:00 up client - 1/1 89 "));
    assert_eq!(lines(&["workers"]).len(), 3);
    let flows = lines(&["flows", "--service", "dns"]);
    assert_eq!(flows.len(), 6);
    assert!(
        flows[1].starts_with("dns udp 198.51.100.77:500")
            && flows[1].contains(" 203.0.113.100:53 10.1.0.10:53 "),
        "{flows:?}"
    );
    let (status, out, err) = engine.ask(&["flows", "--limit", "3"]);
    assert_eq!((status, out.lines().count()), (0, 4));
    assert_eq!(err, "pollux: the first 3; there may be more (--limit)\n");
}

fn refusals(engine: &Running, document: &Value) {
    for (query, status, word) in [
        ("service=no", "404", "there is no service \"no\""),
        ("client=300.1.1.1", "400", "no IP address"),
        ("endpoint=x:1", "400", "no IP address"),
        ("limit=0", "400", "1 to 10000"),
        ("limit=10001", "400", "1 to 10000"),
        ("limit=many", "400", "limit"),
        ("cursor=3", "400", "next"),
        ("servise=web", "400", "servise"),
    ] {
        let (is, body) = engine.http("GET", &format!("/api/v1/pollux/flows?{query}"));
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(schema::problems(document, "Refusal", &value), [""; 0]);
        assert!(is == status && value["error"].as_str().unwrap().contains(word), "{query}: {is} {body}");
    }
    let (status, out, err) = engine.ask(&["flows", "--service", "no"]);
    let says = "pollux: there is no service \"no\"; there are web, dns\n";
    assert_eq!((status, out.as_str(), err.as_str()), (1, "", says));
    let (status, out, err) = engine.ask(&["flows", "--client", "192.0.2.1"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", "pollux: no such connection\n"));
    let (status, _, err) = engine.ask(&["flows", "--limit", "0"]);
    assert!(status == 2 && err.contains("--limit"), "{err}");
    for command in ["status", "services", "endpoints", "firewall", "ports", "workers", "flows"] {
        let out = std::process::Command::new(rig::POLLUX)
            .args([command, "--socket", "/nonexistent/p.sock"])
            .output()
            .unwrap();
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(
            err.starts_with(
                "pollux: no engine is running here: nothing answers on /nonexistent/p.sock (start one"
            ),
            "{err}"
        );
    }
}
