//! Chromium without a screen, driven by its driver (W3C WebDriver).

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::net::{Namespace, signal};

const DRIVER: &str = "127.0.0.1:9515";
/// What W3C calls an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with an empty profile.
pub struct Browser<'n> {
    ns: &'n Namespace,
    driver: Child,
    session: String,
}

impl<'n> Browser<'n> {
    pub fn start(ns: &'n Namespace, dir: &Path) -> Self {
        let log = std::fs::File::create(dir.join("chromedriver.log")).unwrap();
        let driver = ns
            .command("chromedriver")
            .arg("--port=9515")
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("chromedriver is installed");
        let mut browser = Self { ns, driver, session: String::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while browser.ns.inside(|| TcpStream::connect(DRIVER).is_err()) {
            assert!(Instant::now() < deadline, "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1100,1000",
            &profile,
        ];
        let options = json!({ "goog:chromeOptions": { "args": args, "binary": "/usr/bin/chromium" } });
        let made = browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": options } }));
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body);
        assert!(answer["error"].is_null(), "{method} {path}: {answer}");
        answer
    }

    /// What it answers, which may say that there was an error.
    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {DRIVER}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.ns.inside(|| {
            let mut stream = TcpStream::connect(DRIVER).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut reader = BufReader::new(stream);
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            body
        });
        serde_json::from_slice::<Value>(&answer).unwrap()["value"].take()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    pub fn back(&self) {
        self.post("/back", &json!({}));
    }

    /// What a script gives back, which only looks: where the page goes in the midst of it, it looks at the next one.
    pub fn script(&self, script: &str) -> Value {
        let (path, body) =
            (format!("{}/execute/sync", self.session), json!({ "script": script, "args": [] }));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.try_ask("POST", &path, &body);
            if answer["error"].is_null() {
                return answer;
            }
            assert!(Instant::now() < deadline, "{script}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css }));
        format!("/element/{}", found[ELEMENT].as_str().expect("an element"))
    }

    /// As a hand does it.
    pub fn click(&self, css: &str) {
        self.post(&format!("{}/click", self.element(css)), &json!({}));
    }

    pub fn write(&self, css: &str, text: &str) {
        self.post(&format!("{}/value", self.element(css)), &json!({ "text": text }));
    }

    /// What it looks like: beside the other files of a lab that fails.
    pub fn picture(&self, file: &Path) {
        let png = self.ask("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let png = base64::prelude::BASE64_STANDARD.decode(png.as_str().expect("a picture")).unwrap();
        std::fs::write(file, png).unwrap();
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ask("DELETE", &self.session, &Value::Null);
        }
        signal(self.driver.id(), Signal::TERM);
        let _ = self.driver.wait();
    }
}
