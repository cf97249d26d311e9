//! Who may read.

use std::fmt::Write as _;

use super::*;

const TOKENS: &str = "first-token-0123456789\n\n  second-token-0123456789 \n";

fn bearer(text: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "tokens", text);
    let security = loaded(folder.path(), "bearer_token_file = \"tokens\"");
    let server = Server::start(limits(), security);
    (folder, server)
}

#[test]
fn data_want_one_of_the_tokens_and_pages_none() {
    let (_folder, server) = bearer(TOKENS);
    let with = |token: &str| server.get("/metrics", &format!("Authorization: {token}\r\n"));
    for good in ["Bearer first-token-0123456789", "bearer  second-token-0123456789"] {
        assert_eq!(with(good).status, 200, "{good}");
    }
    for bad in [
        "Bearer first-token-012345678",
        "Bearer first-token-01234567890",
        "Bearer FIRST-TOKEN-0123456789",
        "Bearer first-token-0123456789 second-token-0123456789",
        "Bearer ",
        "Bearer",
        "Basic first-token-0123456789",
        "first-token-0123456789",
    ] {
        let reply = with(bad);
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some("Bearer realm=\"pollux\"")),
            "{bad}"
        );
        assert_eq!(reply.body.lines().count(), 1);
        assert!(reply.body.contains("metrics.bearer_token_file"), "{}", reply.body);
        assert!(!reply.body.contains("0123456789"), "{}", reply.body);
    }
    let missing = server.get("/metrics", "");
    assert_eq!((missing.status, missing.header("cache-control")), (401, Some("no-store")));
    assert!(missing.body.starts_with("a token is needed: Authorization: Bearer TOKEN"), "{}", missing.body);
    for public in ["/", "/healthz"] {
        assert_eq!(server.get(public, "").status, 200, "{public}");
    }
    // Nothing tells what there is.
    for other in ["/nothing", "/api/v1/pollux/status", "/metrics/", "//healthz", "/healthz/", "/%2e%2e/", "*"]
    {
        assert_eq!(server.get(other, "").status, 401, "{other}");
    }
    let post = talk(
        server.connect(),
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(post.unwrap().status, 401);
    assert_eq!(server.answered("401"), 17);
    assert_eq!(server.answered("200"), 4);
}

#[test]
fn tokens_rotate_with_a_reload_and_the_old_go_at_once() {
    let (folder, server) = bearer("old-token-0123456789");
    let mut kept = server.connect();
    let mut ask = move |token: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut answer = [0; 1024];
        kept.write_all(request.as_bytes()).and_then(|()| kept.read(&mut answer)).unwrap_or(0)
    };
    assert!(ask("old-token-0123456789") > 0);
    let reload = |text: &str| {
        write(folder.path(), "tokens", text);
        let security = loaded(folder.path(), "bearer_token_file = \"tokens\"");
        let changed = server.gate.security().rewritten(&security);
        server.gate.exchange(limits(), security);
        changed
    };
    let with = |token: &str| server.get("/metrics", &format!("Authorization: Bearer {token}\r\n")).status;
    assert_eq!(reload("old-token-0123456789"), []);
    assert!(ask("old-token-0123456789") > 0, "nothing has changed: the connection lives");

    let changed = reload("old-token-0123456789\nnew-token-0123456789");
    assert_eq!(changed, [("bearer_token_file", folder.path().join("tokens").display().to_string())]);
    until("the connection ends", || server.gate.stats().connections == 0);
    assert_eq!((with("old-token-0123456789"), with("new-token-0123456789")), (200, 200));
    reload("new-token-0123456789");
    assert_eq!((with("old-token-0123456789"), with("new-token-0123456789")), (401, 200));
}

fn basic(users: &[(&str, &str)], more: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("{more}basic_auth_users:\n");
    for (name, password) in users {
        // As `htpasswd -B` writes it.
        let hash = bcrypt::hash_with_result(password, 5).unwrap().format_for_version(bcrypt::Version::TwoY);
        writeln!(text, "  {name}: {hash}").unwrap();
    }
    write(folder.path(), "web.yml", &text);
    let security = loaded(folder.path(), "web_config = \"web.yml\"");
    let server = Server::start(Limits { connections: 64, ..limits() }, security);
    (folder, server)
}

#[test]
fn passwords_are_those_of_the_web_configuration() {
    use base64::Engine as _;
    let (_folder, server) = basic(&[("alice", "se:cret"), ("bob", "pass\u{f6}")], "");
    let with = |pair: &str| {
        let pair = base64::prelude::BASE64_STANDARD.encode(pair);
        server.get("/metrics", &format!("Authorization: Basic {pair}\r\n"))
    };
    for good in ["alice:se:cret", "bob:pass\u{f6}", "alice:se:cret"] {
        assert_eq!(with(good).status, 200, "{good}");
    }
    for bad in ["alice:secret", "alice:pass\u{f6}", "carol:se:cret", "alice", ":", "alice:"] {
        let reply = with(bad);
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some("Basic realm=\"pollux\", charset=\"UTF-8\"")),
            "{bad}"
        );
        assert!(reply.body.contains("basic_auth_users") && !reply.body.contains("cret"), "{}", reply.body);
    }
    assert_eq!(server.get("/metrics", "Authorization: Bearer abc\r\n").status, 401);
    assert_eq!(server.get("/healthz", "").status, 200);
}

#[test]
fn two_hundred_scrapers_with_one_password_compute_it_once() {
    use base64::Engine as _;
    let (_folder, server) = basic(&[("alice", "secret")], "");
    let pair = base64::prelude::BASE64_STANDARD.encode("alice:secret");
    let request = |_| server.get("/metrics", &format!("Authorization: Basic {pair}\r\n")).status;
    assert_eq!(request(0), 200);
    let began = Instant::now();
    assert!((0..200).map(request).all(|status| status == 200));
    // A hash of cost 12, which is usual, takes a quarter of a second: 50 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn headers_and_the_rate_of_a_web_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    Strict-Transport-Security: \"\"\n\
                rate_limit:\n  interval: 1h\n  burst: 2\n";
    write(folder.path(), "web.yml", text);
    let server = Server::start(limits(), loaded(folder.path(), "web_config = \"web.yml\""));
    for status in [200, 200, 429, 429] {
        let reply = server.get("/metrics", "");
        assert_eq!(reply.status, status);
        assert_eq!(
            (reply.header("x-frame-options"), reply.header("x-xss-protection")),
            (Some("deny"), Some("1"))
        );
        assert_eq!(reply.header("strict-transport-security"), None);
        assert_eq!(reply.header("retry-after"), (status == 429).then_some("1"));
    }
    assert_eq!(server.get("/healthz", "").status, 200, "health is always told");
    assert_eq!(server.answered("429"), 2);
}
