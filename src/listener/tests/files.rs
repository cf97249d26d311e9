//! What `check` says of files that cannot be used.

use std::os::unix::fs::PermissionsExt as _;

use super::pki;
use super::*;

/// One error, at the value of its key, that has these words.
#[track_caller]
fn refused(folder: &Path, lines: &str, place: &str, says: &[&str]) {
    let (security, problems) = load(folder, lines);
    assert!(security.is_none());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(&format!("pollux.toml:{place}: ")), "{place}: {problems:?}");
    for say in says {
        assert!(problems[0].contains(say), "{say:?} is not in {:?}", problems[0]);
    }
}

#[test]
fn token_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let lines = "bearer_token_file = \"tokens\"";
    let refused = |says: &[&str]| refused(folder, lines, "6:21", says);
    refused(&["`bearer_token_file` of [metrics]: tokens does not exist; make it, or name another file"]);
    std::fs::create_dir(folder.join("tokens")).unwrap();
    refused(&["tokens is a directory"]);
    std::fs::remove_dir(folder.join("tokens")).unwrap();
    for empty in ["", "\n\n", "  \t\r\n"] {
        write(folder, "tokens", empty);
        refused(&["tokens has no token; write one token a line"]);
    }
    for bad in ["good-token-0123456789\nba d-token\n", "good-token-0123456789\nt\u{f6}ken\n", "x\n\u{7f}\n"] {
        write(folder, "tokens", bad);
        refused(&["visible ASCII within the token on line 2"]);
    }
    write(folder, "tokens", vec![b'a'; (1 << 20) + 1]);
    refused(&["tokens is larger than 1024 KiB"]);
    let fifo = folder.join("tokens");
    std::fs::remove_file(&fifo).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&["tokens is no regular file"]);
    std::fs::remove_file(&fifo).unwrap();

    write(folder, "tokens", "short\n");
    let (_, warnings) = load(folder, lines);
    assert!(
        warnings.len() == 1 && warnings[0].contains("fewer than 16 characters on line 1"),
        "{warnings:?}"
    );
    write(folder, "tokens", "good-token-0123456789\r\n");
    for (mode, says) in [
        (0o600, None),
        (0o640, None),
        (0o644, Some("everybody can read it (mode 0644)")),
        (0o660, Some("can write it")),
    ] {
        std::fs::set_permissions(folder.join("tokens"), std::fs::Permissions::from_mode(mode)).unwrap();
        let (security, warnings) = load(folder, lines);
        assert!(security.is_some());
        assert_eq!(warnings.len(), usize::from(says.is_some()), "{warnings:?}");
        assert!(
            says.is_none_or(|says| warnings[0].contains(says) && warnings[0].contains("chmod o=,g-w")),
            "{warnings:?}"
        );
    }
    // An absolute path is taken as it is.
    std::fs::set_permissions(folder.join("tokens"), std::fs::Permissions::from_mode(0o600)).unwrap();
    loaded(folder, &format!("bearer_token_file = \"{}\"", folder.join("tokens").display()));
}

#[test]
fn certificates_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pki::all(folder);
    write(folder, "empty.pem", "nothing\n");
    write(folder, "broken.pem", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    write(folder, "none.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    pki::openssl(folder, "pkcs8 -topk8 -in server.key -passout pass:x -out locked.key");
    pki::openssl(folder, "genrsa -out small.key 1024");
    let tls = |certificate: &str, key: &str, more: &str| {
        format!("tls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n{more}")
    };
    for (certificate, key, more, place, says) in [
        ("no.pem", "server.key", "", "6:19", "`tls_certificate` of [metrics]: no.pem does not exist"),
        ("empty.pem", "server.key", "", "6:19", "empty.pem has no certificate; name a PEM file"),
        ("broken.pem", "server.key", "", "6:19", "broken.pem is no good PEM"),
        ("none.pem", "server.key", "", "6:19", "none.pem has a certificate that is none"),
        ("server.pem", "no.key", "", "7:11", "`tls_key` of [metrics]: no.key does not exist"),
        ("server.pem", "server.pem", "", "7:11", "server.pem has no private key"),
        ("server.pem", "locked.key", "", "7:11", "locked.key has a key with a passphrase"),
        (
            "server.pem",
            "client.key",
            "",
            "7:11",
            "client.key has not the private key of the certificate; name the key",
        ),
        ("server.pem", "small.key", "", "7:11", "small.key has a private key that cannot be used"),
        (
            "server.pem",
            "server.key",
            "tls_client_ca = \"no.pem\"",
            "8:17",
            "`tls_client_ca` of [metrics]: no.pem does not exist",
        ),
        ("server.pem", "server.key", "tls_client_ca = \"empty.pem\"", "8:17", "empty.pem has no certificate"),
    ] {
        refused(folder, &tls(certificate, key, more), place, &[says]);
    }
    // Every problem at once.
    let (_, problems) = load(folder, &(tls("no.pem", "no.key", "tls_client_ca = \"no.pem\"\n") + "tick = 1"));
    assert_eq!(problems.len(), 4, "{problems:?}");

    refused(folder, "tls_certificate = \"server.pem\"", "6:19", &["is set without `tls_key`"]);
    refused(folder, "tls_key = \"server.key\"", "6:11", &["is set without `tls_certificate`"]);
    refused(folder, "tls_client_ca = \"ca.pem\"", "6:17", &["only HTTPS asks clients"]);
    write(folder, "web.yml", "");
    for key in ["bearer_token_file", "tls_certificate", "tls_key", "tls_client_ca"] {
        let says = format!("`{key}` of [metrics] is set beside `web_config`");
        refused(
            folder,
            &format!("{key} = \"x\"\nweb_config = \"web.yml\""),
            &format!("6:{}", key.len() + 4),
            &[&says],
        );
    }

    std::fs::set_permissions(folder.join("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (security, warnings) = load(folder, &tls("server.pem", "server.key", ""));
    assert!(security.is_some() && warnings.len() == 1, "{warnings:?}");
    assert!(
        warnings[0].contains("server.key has the private key, and everybody can read it"),
        "{warnings:?}"
    );
    pki::certificate(folder, "ca", "soon", 3, "DNS:x");
    let (_, warnings) = load(folder, &tls("soon.pem", "soon.key", ""));
    // Whole days: three still within the second in which it was made.
    let soon = [2, 3].map(|days| format!("expires in {days} day(s); renew it"));
    assert!(warnings.len() == 1 && soon.iter().any(|soon| warnings[0].contains(soon)), "{warnings:?}");
}

#[test]
fn what_others_can_reach_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pki::all(folder);
    write(folder, "tokens", "good-token-0123456789");
    let tls = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";
    let token = "bearer_token_file = \"tokens\"\n";
    for (more, says) in [
        (
            String::new(),
            Some(
                "everybody who reaches it can read the metrics and the state, in the clear; set `bearer_token_file`",
            ),
        ),
        (
            token.to_owned(),
            Some("tokens and passwords cross the network in the clear; set `tls_certificate`"),
        ),
        (
            tls.to_owned(),
            Some("everybody who reaches it can read the metrics and the state; set `bearer_token_file`"),
        ),
        (format!("{token}{tls}"), None),
        (format!("{tls}tls_client_ca = \"ca.pem\"\n"), None),
    ] {
        for listen in ["0.0.0.0:9100", "[::]:9100", "192.0.2.1:9100"] {
            let (security, warnings) = load(folder, &format!("listen = \"{listen}\"\n{more}"));
            assert!(security.is_some());
            assert_eq!(warnings.len(), usize::from(says.is_some()), "{warnings:?}");
            if let Some(says) = says {
                let start = format!(
                    "pollux.toml:6:10: warning: `listen` of [metrics]: {listen} is not on loopback: {says}"
                );
                assert!(warnings[0].starts_with(&start), "{start}: {warnings:?}");
            }
        }
        for listen in ["127.0.0.1:9100", "[::1]:9100", "127.9.9.9:9100"] {
            loaded(folder, &format!("listen = \"{listen}\"\n{more}"));
        }
    }
}

#[test]
fn nothing_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pki::all(folder);
    write(folder, "tokens", "good-token-0123456789");
    let key = std::fs::read_to_string(folder.join("server.key")).unwrap();
    let lines =
        "bearer_token_file = \"tokens\"\ntls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";
    let shown = format!("{:?}", loaded(folder, lines));
    let hash = bcrypt::hash("secret", 4).unwrap();
    write(folder, "web.yml", format!("basic_auth_users:\n  alice: {hash}\n"));
    let shown = shown + &format!("{:?}", loaded(folder, "web_config = \"web.yml\""));
    // Also not where it is not understood.
    let mut shown = shown;
    for bad in [
        format!("basic_auth_users: {hash}\n"),
        format!("basic_auth_users:\n  alice: [{hash}\n"),
        format!("basic_auth_users:\n- {hash}\n"),
        format!("tls_server_config:\n  min_version: TLS12\n  key: {{ a: {hash} }}\n"),
        format!("{hash}\n"),
    ] {
        write(folder, "web.yml", bad);
        let (security, problems) = load(folder, "web_config = \"web.yml\"");
        assert!(security.is_none() && !problems.is_empty());
        shown += &problems.join("\n");
    }
    for secret in ["good-token", &hash, hash.split_at(29).1, key.lines().nth(1).unwrap()] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}
