//! Web configurations of Prometheus': what is good there is good here, what rustls lacks is named.

use tokio_rustls::rustls::{CipherSuite, NamedGroup};

use super::pki::{self, Client, TLS12, TLS13};
use super::*;

const LINE: &str = "web_config = \"web.yml\"";
const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: \"server.key\"\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pki::all(folder.path());
    folder
}

#[track_caller]
fn good(folder: &Path, text: &str) -> Security {
    write(folder, "web.yml", text);
    loaded(folder, LINE)
}

#[test]
fn what_is_good_for_prometheus_is_good_here() {
    let folder = folder();
    let folder = folder.path();
    for text in
        ["", "# nothing\n", "---\n", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", "{}\n"]
    {
        assert!(!good(folder, text).is_tls(), "{text:?}");
    }
    for more in [
        "",
        "  client_auth_type: NoClientCert\n",
        "  client_auth_type: \"RequireAndVerifyClientCert\"\n  client_ca_file: \"ca.pem\"\n",
        "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n",
        "  client_auth_type: RequireAnyClientCert\n",
        "  client_auth_type: RequireClientCert\n",
        "  client_auth_type: RequestClientCert\n",
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans:\n    - \"one\"\n    - two\n",
        "  min_version: TLS13\n",
        "  min_version: TLS12\n  max_version: TLS12\n  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  prefer_server_cipher_suites: false\n",
        "  curve_preferences:\n    - CurveP256\n    - X25519\n    - CurveP384\nhttp_server_config:\n  http2: false\n",
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-Content-Type-Options: nosniff\n    Content-Security-Policy: \"default-src 'self' *.example.net\"\n",
        "rate_limit:\n  interval: 0\n  burst: 0\n",
        "basic_auth_users:\n  alice: $2y$10$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW\n  \"bob b\": $2a$04$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW\n",
    ] {
        assert!(good(folder, &format!("{TLS}{more}")).is_tls(), "{more}");
    }
    // PEM that stands there itself.
    let indented = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        text.lines().map(|line| format!("    {line}\n")).collect::<String>()
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}  client_auth_type: RequireAndVerifyClientCert\n",
        indented("server.pem"),
        indented("server.key"),
        indented("ca.pem")
    );
    assert!(good(folder, &text).is_tls());
    // Paths are those from the file's own folder.
    std::fs::create_dir(folder.join("etc")).unwrap();
    write(folder, "etc/web.yml", TLS.replace("server.", "../server."));
    assert!(loaded(folder, "web_config = \"etc/web.yml\"").is_tls());
}

#[test]
fn what_cannot_be_is_named() {
    let folder = folder();
    let folder = folder.path();
    let at = |text: &str, says: &str| {
        write(folder, "web.yml", text);
        let (security, problems) = load(folder, LINE);
        assert!(security.is_none(), "{text}");
        let found = problems.iter().any(|problem| {
            problem.starts_with("pollux.toml:6:14: `web_config` of [metrics]: ") && problem.contains(says)
        });
        assert!(found, "{says:?} is not in {problems:?}");
    };
    let (security, problems) = load(folder, LINE);
    assert!(security.is_none() && problems[0].contains("web.yml does not exist"), "{problems:?}");
    at("a\nb\nc\n", "web.yml: line 1");
    at("tls_server_config: [\n", "web.yml: line ");
    at("tls_server_config:\n  cert_filse: x\n", "line 2, column 3: unknown key `cert_filse`");
    at("tls_server:\n", "unknown key `tls_server`");
    at("http_server_config:\n  http2: 3\n", "line 2");
    at("basic_auth_users:\n  a: b\n  a: c\n", "a key is there twice");
    at("basic_auth_users:\n  john: doe\n", "what user \"john\" has is no bcrypt hash");
    at("http_server_config:\n  headers:\n    Content-Type: foo\n", "\"Content-Type\", which cannot be set");
    at("http_server_config:\n  headers:\n    X-Frame-Options: foo\n", "it can be deny or sameorigin");
    at("http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n", "it can be nosniff");
    at("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n", "which no header can be");
    at("rate_limit:\n  interval: soon\n", "\"soon\", which is no duration");
    for (file, says) in [
        ("cert_file: \"\"\n  key_file: server.key", "neither `cert_file` nor `cert`"),
        ("cert_file: server.pem\n  key: \"\"", "neither `key_file` nor `key`"),
        ("cert_file: \"\"\n  key_file: \"\"\n  client_auth_type: x", "neither `cert_file` nor `cert`"),
        ("cert_file: somefile\n  key_file: server.key", "`cert_file` somefile does not exist"),
        ("cert_file: server.pem\n  key_file: somefile", "`key_file` somefile does not exist"),
        ("cert_file: server.pem\n  key_file: client.key", "`key_file` client.key has not the private key"),
        ("cert: nothing\n  key_file: server.key", "`cert` has no certificate"),
    ] {
        at(&format!("tls_server_config:\n  {file}\n"), says);
    }
    for (more, says) in [
        ("client_auth_type: Sometimes", "`client_auth_type` is \"Sometimes\", which is unknown"),
        (
            "client_ca_file: ca.pem",
            "asks for no certificate; set `client_auth_type: RequireAndVerifyClientCert`",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: somefile",
            "`client_ca_file` somefile does not exist",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.key",
            "`client_ca_file` server.key has no certificate",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n  client_allowed_sans: [a]",
            "requires no certificate",
        ),
        ("client_allowed_sans: [a]", "requires no certificate"),
        ("min_version: TLS111", "`min_version` is \"TLS111\", which is unknown"),
        ("min_version: TLS10", "`min_version` is TLS10, which rustls does not have"),
        ("max_version: TLS11", "`max_version` is TLS11, which rustls does not have"),
        ("min_version: TLS13\n  max_version: TLS12", "leave no version of TLS"),
        ("max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]", "leave no version of TLS"),
        (
            "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]",
            "`cipher_suites` has \"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\", which rustls does not have",
        ),
        ("cipher_suites: [TLS_INVENTED]", "\"TLS_INVENTED\""),
        (
            "curve_preferences: [X25519, CurveP521]",
            "`curve_preferences` has \"CurveP521\", which rustls does not have; remove it; there are X25519",
        ),
    ] {
        at(&format!("{TLS}  {more}\n"), says);
    }
}

#[test]
fn what_is_worth_a_warning() {
    let folder = folder();
    let folder = folder.path();
    let warns = |text: &str, says: &str| {
        write(folder, "web.yml", text);
        let (security, warnings) = load(folder, LINE);
        assert!(security.is_some(), "{warnings:?}");
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{says:?}: {warnings:?}");
    };
    warns("http_server_config:\n  http2: true\n", "HTTP/1.1 alone is spoken here");
    warns("tls_server_config:\n  min_version: TLS12\n", "names no certificate: it is plain HTTP");
    warns(
        &format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n"),
        "every authority that the system trusts",
    );
    warns(
        "basic_auth_users:\n  bob: $2y$18$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW\n",
        "cost 18",
    );
    write(
        folder,
        "web.yml",
        "basic_auth_users:\n  bob: $2y$10$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW\n",
    );
    let (_, warnings) = load(folder, &format!("{LINE}\nlisten = \"0.0.0.0:1\""));
    assert!(
        warnings.len() == 1 && warnings[0].contains("tokens and passwords cross the network"),
        "{warnings:?}"
    );
}

#[test]
fn clients_certificates_by_type_and_name() {
    let folder = folder();
    let folder = folder.path();
    let who = [None, Some("client"), Some("guest"), Some("stranger")];
    let sans = |names: &str| {
        format!("RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: {names}")
    };
    for (kind, admitted) in [
        ("NoClientCert".to_owned(), [true, true, true, true]),
        ("RequestClientCert".to_owned(), [true, true, true, true]),
        ("RequireAnyClientCert".to_owned(), [false, true, true, true]),
        ("VerifyClientCertIfGiven\n  client_ca_file: ca.pem".to_owned(), [true, true, true, false]),
        ("RequireAndVerifyClientCert\n  client_ca_file: ca.pem".to_owned(), [false, true, true, false]),
        (sans("[x, prometheus.example]"), [false, true, false, false]),
        (sans("[ops@example.org]"), [false, true, false, false]),
        (sans("[192.0.2.7]"), [false, true, false, false]),
        (sans("[\"spiffe://a/b\"]"), [false, true, false, false]),
        (sans("[prometheus, example, \"*.example\"]"), [false, false, false, false]),
    ] {
        let server = Server::start(limits(), good(folder, &format!("{TLS}  client_auth_type: {kind}\n")));
        for versions in [&TLS13[..], &TLS12] {
            let is = who.map(|certificate| {
                let client = Client { certificate, versions, ..Client::new(folder) };
                client.get(server.address, "/metrics", "") == Some(200)
            });
            assert_eq!(is, admitted, "{kind}");
        }
    }
}

#[test]
fn versions_ciphers_and_curves_are_those_asked_for() {
    let folder = folder();
    let folder = folder.path();
    let client = Client::new(folder);
    let spoken = |more: &str, client: &Client<'_>| {
        let server = Server::start(limits(), good(folder, &format!("{TLS}{more}")));
        let mut stream = client.connect(server.address);
        stream.conn.complete_io(&mut stream.sock).ok()?;
        let conn = &stream.conn;
        Some((conn.negotiated_cipher_suite()?.suite(), conn.negotiated_key_exchange_group()?.name()))
    };
    let old = Client { versions: &TLS12, ..client.clone() };
    assert_eq!(spoken("  min_version: TLS13\n", &old), None);
    let new = Client { versions: &TLS13, ..client };
    assert_eq!(spoken("  max_version: TLS12\n", &new), None);
    let chacha = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n";
    let suite = |more: &str| spoken(more, &old).unwrap().0;
    assert_eq!(
        suite(chacha),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "the server's first"
    );
    let theirs = format!("{chacha}  prefer_server_cipher_suites: false\n");
    assert_eq!(suite(&theirs), CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "the client's first");
    for (name, group) in [
        ("CurveP384", NamedGroup::secp384r1),
        ("CurveP256", NamedGroup::secp256r1),
        ("X25519", NamedGroup::X25519),
    ] {
        assert_eq!(spoken(&format!("  curve_preferences: [{name}]\n"), &new).unwrap().1, group);
    }
}
