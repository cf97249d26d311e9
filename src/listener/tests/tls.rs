//! TLS, and clients' certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::ProtocolVersion;

use super::pki::{self, BOTH, Client, TLS12, TLS13};
use super::*;

const KEYS: &str = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pki::all(folder.path());
    folder
}

#[test]
fn https_of_both_versions_and_nothing_else() {
    let folder = folder();
    let security = loaded(folder.path(), KEYS);
    let in_days =
        |days: u64| (SystemTime::now() + Duration::from_secs(days * 86_400)).duration_since(UNIX_EPOCH);
    let expiry = security.certificate_expiry().unwrap() as u64;
    assert!((in_days(29).unwrap().as_secs()..=in_days(31).unwrap().as_secs()).contains(&expiry), "{expiry}");

    let server = Server::start(Limits { header_timeout: Duration::from_secs(2), ..limits() }, security);
    assert_eq!(server.gate.stats().certificate_expiry, Some(expiry as i64));
    let client = Client::new(folder.path());
    for versions in [&TLS13[..], &TLS12, &BOTH] {
        let client = Client { versions, ..client.clone() };
        assert_eq!(client.get(server.address, "/metrics", ""), Some(200));
    }
    let mut stream = Client { alpn: &[b"h2", b"http/1.1"], ..client.clone() }.connect(server.address);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(Client { alpn: &[b"h2"], ..client.clone() }.get(server.address, "/metrics", ""), None);
    until("it is counted", || server.rejected("handshake_failed") == 1);

    // No redirect: whoever asks in the clear has sent the token in the clear already.
    let plain = server.get("/metrics", "");
    assert_eq!((plain.status, plain.body.as_str()), (400, "HTTPS is spoken here: ask with https:// before"));
    until("it is counted", || server.rejected("plain_http") == 1);

    // A handshake that never begins, and one that never ends.
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    for stream in [&mut silent, &mut half] {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    until("both are counted", || server.rejected("handshake_timeout") == 2);
    assert_eq!(client.get(server.address, "/metrics", ""), Some(200));
}

#[test]
fn half_open_handshakes_keep_nobody_out() {
    let folder = folder();
    let server = Server::start(limits(), loaded(folder.path(), KEYS));
    let mut half: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for stream in half.iter_mut().step_by(2) {
        let _ = stream.write_all(&[0x16, 3, 1]);
    }
    let client = Client::new(folder.path());
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(client.get(server.address, "/metrics", ""), Some(200));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_client_ca_lets_its_own_in_alone() {
    let folder = folder();
    let server = Server::start(limits(), loaded(folder.path(), &format!("{KEYS}tls_client_ca = \"ca.pem\"")));
    for versions in [&TLS13[..], &TLS12] {
        let with = |certificate| {
            Client { certificate, versions, ..Client::new(folder.path()) }.get(server.address, "/healthz", "")
        };
        assert_eq!(with(Some("client")), Some(200));
        assert_eq!(with(None), None);
        assert_eq!(with(Some("stranger")), None);
    }
    until("all are counted", || server.rejected("handshake_failed") == 4);
}

#[test]
fn a_token_and_tls_together() {
    let folder = folder();
    write(folder.path(), "tokens", "a-token-0123456789");
    let lines = format!("listen = \"0.0.0.0:9\"\nbearer_token_file = \"tokens\"\n{KEYS}");
    let server = Server::start(limits(), loaded(folder.path(), &lines));
    let client = Client::new(folder.path());
    assert_eq!(client.get(server.address, "/metrics", ""), Some(401));
    assert_eq!(
        client.get(server.address, "/metrics", "Authorization: Bearer a-token-0123456789\r\n"),
        Some(200)
    );
}

#[test]
fn a_reload_brings_another_certificate_and_a_bad_one_changes_nothing() {
    let folder = folder();
    let path = folder.path();
    let server = Server::start(limits(), loaded(path, KEYS));
    let shown = || {
        let mut stream = Client::new(path).connect(server.address);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown();
    let reload = || {
        let (security, problems) = load(path, KEYS);
        let changed = security.map(|security| {
            let changed = server.gate.security().rewritten(&security);
            server.gate.exchange(limits(), security);
            changed.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        });
        (changed, problems)
    };
    pki::certificate(path, "ca", "server", 20, "DNS:lb.example");
    assert_eq!(reload(), (Some(vec!["tls_certificate", "tls_key"]), vec![]));
    let second = shown();
    assert!(first != second);

    // A certificate that was renewed with another key, which did not come along.
    std::fs::copy(path.join("server.key"), path.join("kept.key")).unwrap();
    pki::certificate(path, "ca", "server", 20, "DNS:lb.example");
    std::fs::rename(path.join("kept.key"), path.join("server.key")).unwrap();
    let (changed, problems) = reload();
    assert_eq!((changed, problems.len()), (None, 1), "{problems:?}");
    assert!(problems[0].contains("server.key has not the private key of the certificate"), "{problems:?}");
    assert_eq!(shown(), second);
}
