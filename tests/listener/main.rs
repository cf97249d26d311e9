//! The listener secured: one engine that a reload takes from one way to the next, scraped by Prometheus in each, and as our own
//! configuration of Prometheus has it; the page in a browser.
#![allow(clippy::unwrap_used, reason = "tests")]

mod browser;
#[path = "../lab/engine.rs"]
#[allow(dead_code, reason = "nothing is balanced here")]
mod engine;
#[path = "../lab/ground.rs"]
mod ground;
#[path = "../lab/net.rs"]
#[allow(dead_code, reason = "nothing is balanced here")]
mod net;
#[path = "../lab/prometheus.rs"]
#[allow(dead_code, reason = "who scrapes without more is elsewhere")]
mod prometheus;
#[path = "../lab/scrape.rs"]
#[allow(dead_code, reason = "nothing is balanced here")]
mod scrape;
mod secured;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use browser::Browser;
use engine::{Engine, METRICS};
use ground::Ground;
use net::Namespace;
use prometheus::Prometheus;
use scrape::http_get;

const TOKEN: &str = "a-token-of-the-lab-0123456789";
/// Of `the-password`, cost 5.
const PASSWORD: &str = "the-password";

/// An engine without traffic, and these lines in `[metrics]`.
fn config(dir: &Path, metrics: &str) -> String {
    format!(
        r#"
[engine]
hugepages = false
memory_mb = 128
max_flows = 1024
idle = "backoff"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["203.0.113.2/24"]
rx_descriptors = 256
tx_descriptors = 256
[[neighbor]]
address = "203.0.113.10"
mac = "02:00:00:00:00:10"
port = "wan"
[control]
socket = "{}/p.sock"
[[service]]
name = "web"
vip = "203.0.113.100:80"
[[service.endpoint]]
address = "203.0.113.10:80"
[metrics]
tick = "1s"
{metrics}
"#,
        dir.display()
    )
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The shell lines of the documentation that make the certificates, run as they stand but for the engine's name.
fn certificates(dir: &Path, name: &str) {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let (_, from) = page.split_once("## Securing the listener").unwrap();
    let blocks = from.split("```sh\n").skip(1).filter_map(|block| Some(block.split_once("```")?.0));
    let making: Vec<_> = blocks.filter(|block| block.contains("openssl")).collect();
    assert_eq!(making.len(), 3, "a token, a server's certificate, a client's");
    for block in making {
        let out = Command::new("bash")
            .args(["-euc", &block.replace("lb.example.com", name)])
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "{block}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

/// `pollux` with these arguments: status and standard error.
fn pollux(args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_pollux")).args(args).env("NO_COLOR", "1").output().unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn prometheus_scrapes_each_way_and_a_reload_leads_from_one_to_the_next() {
    let ground = Ground::take();
    let dir = ground.path();
    let ns = Namespace::new("lb");
    certificates(dir, "lb.example.com");
    let own = std::fs::read_to_string(dir.join("tokens")).unwrap();
    write(dir, "tokens", &format!("{own}{TOKEN}\n"));
    write(dir, "token", TOKEN);
    let hash = bcrypt::hash_with_result(PASSWORD, 5).unwrap().format_for_version(bcrypt::Version::TwoY);
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    write(dir, "web.yml", &format!("{tls}basic_auth_users:\n  prometheus: {hash}\n"));

    let keys = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";
    let d = dir.display();
    let ca =
        format!("    scheme: https\n    tls_config: {{ ca_file: {d}/ca.pem, server_name: lb.example.com");
    let authorization = format!("    authorization: {{ credentials_file: {d}/token }}\n");
    let ways = [
        ("bearer_token_file = \"tokens\"".to_owned(), authorization.clone()),
        (format!("bearer_token_file = \"tokens\"\n{keys}"), format!("{ca} }}\n{authorization}")),
        (
            format!("{keys}tls_client_ca = \"ca.pem\""),
            format!("{ca}, cert_file: {d}/client.pem, key_file: {d}/client.key }}\n"),
        ),
        (
            "web_config = \"web.yml\"".to_owned(),
            format!("{ca} }}\n    basic_auth: {{ username: prometheus, password: {PASSWORD} }}\n"),
        ),
    ];
    let mut engine = Engine::spawn(&ns, dir, &config(dir, ""));
    engine.wait_until_ready(&ns);
    assert_eq!(http_get(&ns, METRICS, "/metrics").unwrap().0, 200);
    let socket = format!("{d}/p.sock");
    for (n, (metrics, job)) in ways.iter().enumerate() {
        write(dir, "pollux.toml", &config(dir, metrics));
        let (status, said) = pollux(&["reload", "--socket", &socket]);
        assert_eq!(status, Some(0), "{said}");
        // Without what it takes, nothing is told.
        let refused = http_get(&ns, METRICS, "/metrics");
        assert!(!refused.is_ok_and(|(status, _)| status == 200), "{metrics}");
        let here = dir.join(format!("prometheus-{n}"));
        std::fs::create_dir(&here).unwrap();
        let prometheus = Prometheus::spawn(&ns, &here, METRICS, "1s", ("", job));
        until(&format!("Prometheus scrapes: {job}"), || prometheus.query(&ns, "up") == Some(1.0));
        let requests = "sum(pollux_http_requests_total{code=\"200\"}) > 1";
        until("its requests are counted", || prometheus.query(&ns, requests).is_some());
        if metrics.contains("tls") {
            let days = "(pollux_certificate_expiry_timestamp_seconds - time()) / 86400";
            until("the expiry is there", || prometheus.query(&ns, days).is_some_and(|days| days > 300.0));
        }
    }

    // A bad file: named, refused, and nothing has changed.
    std::fs::rename(dir.join("server.key"), dir.join("away.key")).unwrap();
    let file = format!("{d}/pollux.toml");
    for (args, status) in [(["check", "--config", &file], 2), (["reload", "--socket", &socket], 1)] {
        let (is, said) = pollux(&args);
        assert_eq!(is, Some(status), "{said}");
        assert!(said.contains(&format!("`key_file` {d}/server.key does not exist")), "{said}");
    }
    std::fs::rename(dir.join("away.key"), dir.join("server.key")).unwrap();
    let here = dir.join("prometheus-last");
    std::fs::create_dir(&here).unwrap();
    let prometheus = Prometheus::spawn(&ns, &here, METRICS, "1s", ("", &ways[3].1));
    until("it is scraped on", || prometheus.query(&ns, "pollux_config_last_reload_successful") == Some(0.0));
    drop(prometheus);

    // With another password Prometheus is told.
    let here = dir.join("prometheus-wrong");
    std::fs::create_dir(&here).unwrap();
    let wrong = ways[3].1.replace(PASSWORD, "another");
    let prometheus = Prometheus::spawn(&ns, &here, METRICS, "1s", ("", &wrong));
    until("it is refused", || prometheus.query(&ns, "up") == Some(0.0));
    // A scrape may have come to nothing for lack of time before.
    until("it says why", || ns.inside(|| http_get_plain("/api/v1/targets")).contains("401 Unauthorized"));
    drop(prometheus);

    // Neither the log nor the engine's own account of itself has a secret.
    let mut said = engine.log();
    for command in ["status", "services", "endpoints", "ports", "workers"] {
        let out = Command::new(env!("CARGO_BIN_EXE_pollux"))
            .args([command, "--json", "--socket", &socket])
            .output();
        said += &String::from_utf8(out.unwrap().stdout).unwrap();
    }
    said += &pollux(&["diff", "--config", &file, "--socket", &socket]).1;
    for secret in [TOKEN, PASSWORD, own.trim(), &hash] {
        assert!(!said.contains(secret), "{said}");
    }
    engine.finish();
}

fn http_get_plain(path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect("127.0.0.1:9090").unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_browser_asks_once_for_the_token() {
    let ground = Ground::take();
    let dir = ground.path();
    let ns = Namespace::new("lb");
    write(dir, "tokens", TOKEN);
    let engine = Engine::start(&ns, dir, &config(dir, "bearer_token_file = \"tokens\""));
    let browser = Browser::start(&ns, dir);
    let shown = |id: &str| browser.script(&format!("return !document.getElementById('{id}').hidden")) == true;
    let text = |id: &str| {
        browser
            .script(&format!("return document.getElementById('{id}').textContent"))
            .as_str()
            .unwrap()
            .to_owned()
    };
    browser.open("http://127.0.0.1:8080/");
    until("it asks", || shown("gate"));
    assert!(!shown("now") && !shown("wrong"));
    browser.write("#token", "none of them");
    browser.click("#gate button");
    until("it says so", || shown("wrong"));
    assert!(shown("gate") && !shown("now"));
    browser.write("#token", TOKEN);
    browser.click("#gate button");
    until("it shows the state", || shown("now"));
    assert!(!shown("gate"));
    assert_eq!(
        (text("state").as_str(), text("services").as_str(), text("endpoints").as_str()),
        ("ready", "1", "1 of 1")
    );
    browser.picture(&dir.join("page.png"));

    // Once: also after the page was loaded again, and for what the links lead to.
    browser.open("http://127.0.0.1:8080/");
    until("it knows the token", || shown("now"));
    assert!(!shown("gate"));
    for (link, says) in
        [("metrics?flows=0", "# TYPE lb_rule_count gauge"), ("api/v1/pollux/status", "\"uptime_seconds\"")]
    {
        browser.click(&format!("a[href='{link}']"));
        until(link, || {
            browser
                .script("return location.protocol == 'blob:' ? document.body.innerText : ''")
                .as_str()
                .unwrap()
                .contains(says)
        });
        browser.back();
        until("back", || browser.script("return document.title") == "Pollux");
        until("the page is there", || shown("now"));
    }
    // A token that is withdrawn is asked for again.
    write(dir, "tokens", "another-token-0123456789");
    engine.reload(&config(dir, "bearer_token_file = \"tokens\""));
    until("it asks again", || shown("gate") && shown("wrong") && !shown("now"));
    assert_eq!(browser.script("return sessionStorage.length + localStorage.length"), 0);
    drop(browser);
    engine.finish();
}
