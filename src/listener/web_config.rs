//! Prometheus' own web configuration (`--web.config.file` of Prometheus and its exporters, prometheus/exporter-toolkit), read as they
//! read it. What rustls cannot do is refused by name, nothing is left out in silence.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_saphyr::Error as YamlError;
use tokio_rustls::rustls::crypto::SupportedKxGroup;
use tokio_rustls::rustls::crypto::ring::{cipher_suite, kx_group};
use tokio_rustls::rustls::{RootCertStore, SupportedCipherSuite, version};

use super::files::{self, Print, Trouble};
use super::rate::Rate;
use super::security::{Findings, WEB_CONFIG};
use super::tls::{self, ClientAuth, Mismatch, Terms, Tls};

/// What a web configuration says.
#[derive(Default)]
pub(super) struct WebConfig {
    pub tls: Option<Tls>,
    /// Every client shows one.
    pub client_certificates: bool,
    /// Hashes by name.
    pub users: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub rate: Option<Rate>,
    pub prints: Vec<Print>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsServer>,
    http_server_config: Option<HttpServer>,
    rate_limit: Option<RateLimit>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct TlsServer {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_auth_type: Option<String>,
    client_ca_file: Option<String>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    prefer_server_cipher_suites: Option<bool>,
    client_allowed_sans: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    interval: Option<String>,
    burst: Option<u32>,
}

/// The headers that may be set, and the values of those that have few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// By the names of Go's crypto/tls. TLS 1.3 has all of its own, whatever is listed.
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

const GROUPS: [(&str, &dyn SupportedKxGroup); 3] =
    [("X25519", kx_group::X25519), ("CurveP256", kx_group::SECP256R1), ("CurveP384", kx_group::SECP384R1)];

/// Reads the file, and those that it names.
pub(super) fn read(path: &Path, findings: &mut Findings) -> WebConfig {
    let mut reading = Reading { path, findings, web: WebConfig::default() };
    if let Some(file) = reading.file() {
        reading.http(file.http_server_config.unwrap_or_default());
        reading.rate(file.rate_limit.unwrap_or_default());
        reading.web.users = file.basic_auth_users.unwrap_or_default();
        if let Some(tls) = file.tls_server_config {
            reading.tls(tls);
        }
    }
    reading.web
}

struct Reading<'a> {
    path: &'a Path,
    findings: &'a mut Findings,
    web: WebConfig,
}

impl Reading<'_> {
    fn here(&self, Trouble { message, cure }: Trouble) -> Trouble {
        Trouble { message: format!("{}: {message}", self.path.display()), cure }
    }

    fn error(&mut self, trouble: Trouble) {
        let trouble = self.here(trouble);
        self.findings.error(WEB_CONFIG, trouble);
    }

    fn warn(&mut self, trouble: Trouble) {
        let trouble = self.here(trouble);
        self.findings.warn(WEB_CONFIG, Some(trouble));
    }

    fn some<T>(&mut self, done: Result<T, Trouble>) -> Option<T> {
        done.map_err(|trouble| self.error(trouble)).ok()
    }

    fn file(&mut self) -> Option<File> {
        let file = self.findings.some(WEB_CONFIG, files::read(WEB_CONFIG, self.path))?;
        self.web.prints.push(file.print.clone());
        let Ok(text) = str::from_utf8(&file.bytes) else {
            self.error(Trouble::new("is not UTF-8 text", "save it as UTF-8"));
            return None;
        };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Some(File::default());
        }
        let parsed = self.some(parse(text))?.unwrap_or_default();
        let secret = parsed.basic_auth_users.as_ref().is_some_and(|users| !users.is_empty())
            || parsed.tls_server_config.as_ref().is_some_and(|tls| tls.key.is_some());
        if secret {
            self.findings.warn(WEB_CONFIG, file.loose("secrets"));
        }
        Some(parsed)
    }

    fn http(&mut self, http: HttpServer) {
        if http.http2 == Some(true) {
            self.warn(Trouble::new(
                "`http2` is true, but HTTP/1.1 alone is spoken here, which every client can",
                "nothing is to be done; without `http2` this is not said",
            ));
        }
        for (name, value) in http.headers.unwrap_or_default() {
            let Some((known, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
                let all: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
                self.error(Trouble::new(
                    format!("`headers` has {name:?}, which cannot be set"),
                    format!("those that can: {}", all.join(", ")),
                ));
                continue;
            };
            if !values.is_empty() && !values.contains(&value.as_str()) {
                self.error(Trouble::new(
                    format!("`headers` has {name}: {value:?}"),
                    format!("it can be {}", values.join(" or ")),
                ));
                continue;
            }
            let header = HeaderName::try_from(*known).ok().zip(HeaderValue::try_from(&value).ok());
            match header {
                Some(_) if value.is_empty() => {}
                Some((name, value)) => drop(self.web.headers.insert(name, value)),
                None => self.error(Trouble::new(
                    format!("`headers` has {name}: {value:?}, which no header can be"),
                    "use visible characters",
                )),
            }
        }
    }

    fn rate(&mut self, limit: RateLimit) {
        let interval = limit.interval.unwrap_or_default();
        match go_duration(&interval) {
            Some(Duration::ZERO) => {}
            Some(interval) => self.web.rate = Some(Rate::new(interval, limit.burst.unwrap_or(0))),
            None => self.error(Trouble::new(
                format!("`interval` of `rate_limit` is {interval:?}, which is no duration"),
                "write one such as 100ms, 1s or 1m30s; 0 is no limit",
            )),
        }
    }

    fn tls(&mut self, tls: TlsServer) {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let client_auth = tls.client_auth_type.clone().unwrap_or_default();
        let wanted =
            [&tls.cert, &tls.cert_file, &tls.key, &tls.key_file, &tls.client_ca, &tls.client_ca_file]
                .into_iter()
                .any(set)
                || !client_auth.is_empty();
        if !wanted {
            self.warn(Trouble::new(
                "`tls_server_config` names no certificate: it is plain HTTP",
                "set `cert_file` and `key_file`, or remove it",
            ));
            return;
        }
        let certificate = self.pem("cert_file", tls.cert_file.as_ref(), "cert", tls.cert.as_ref());
        let key = self.pem("key_file", tls.key_file.as_ref(), "key", tls.key.as_ref());
        for (found, name) in [(&certificate, "cert"), (&key, "key")] {
            if matches!(found, Found::Nothing) {
                self.error(Trouble::new(
                    format!("`tls_server_config` has neither `{name}_file` nor `{name}`"),
                    "set it: TLS needs a certificate and its key",
                ));
            }
        }
        let ca = self.pem("client_ca_file", tls.client_ca_file.as_ref(), "client_ca", tls.client_ca.as_ref());
        let (cert_name, key_name) = (certificate.name(), key.name());
        let chain = certificate.bytes().and_then(|bytes| {
            let done = tls::certificates(&bytes).map_err(|trouble| prefixed(&cert_name, trouble));
            self.some(done)
        });
        let key = key.bytes().and_then(|bytes| {
            let done = tls::key(&bytes).map_err(|trouble| prefixed(&key_name, trouble));
            self.some(done)
        });
        let clients = self.clients(&client_auth, ca);
        let terms = self.terms(&tls, clients);
        let (Some(chain), Some(key), Some(terms)) = (chain, key, terms) else { return };
        self.web.client_certificates = matches!(terms.clients, ClientAuth::Verified { mandatory: true, .. });
        match tls::build(chain, key, terms) {
            Ok(built) => self.web.tls = Some(built),
            Err(Mismatch::Certificate(trouble)) => self.error(prefixed(&cert_name, trouble)),
            Err(Mismatch::Key(trouble)) => self.error(prefixed(&key_name, trouble)),
            Err(Mismatch::Terms(trouble)) => self.error(prefixed("tls_server_config", trouble)),
        }
    }

    /// A PEM that is in a file of its own or stands here; the file goes before.
    fn pem(
        &mut self,
        file_key: &'static str,
        file: Option<&String>,
        here_key: &'static str,
        here: Option<&String>,
    ) -> Found {
        if let Some(file) = file.filter(|file| !file.is_empty()) {
            let path = self.path.parent().unwrap_or(Path::new("")).join(file);
            let read = files::read(WEB_CONFIG, &path).map_err(|trouble| prefixed(file_key, trouble));
            return match self.some(read) {
                Some(contents) => {
                    self.web.prints.push(contents.print.clone());
                    if file_key == "key_file" {
                        let loose = contents.loose("the private key").map(|trouble| self.here(trouble));
                        self.findings.warn(WEB_CONFIG, loose);
                    }
                    Found::Bytes(format!("{file_key}` {}", path.display()), contents.bytes)
                }
                None => Found::Error,
            };
        }
        match here.filter(|here| !here.is_empty()) {
            Some(here) => Found::Bytes(format!("{here_key}`"), here.clone().into_bytes()),
            None => Found::Nothing,
        }
    }

    fn clients(&mut self, kind: &str, ca: Found) -> Option<ClientAuth> {
        let given = !matches!(ca, Found::Nothing);
        let name = ca.name();
        let roots = match ca {
            Found::Error => return None,
            Found::Nothing => None,
            Found::Bytes(_, bytes) => {
                let roots = tls::authorities(&bytes).map_err(|trouble| prefixed(&name, trouble));
                Some(self.some(roots)?)
            }
        };
        let mandatory = match kind {
            "" | "NoClientCert" if given => {
                self.error(Trouble::new(
                    "there is a client CA, but `client_auth_type` asks for no certificate",
                    "set `client_auth_type: RequireAndVerifyClientCert`",
                ));
                return None;
            }
            "" | "NoClientCert" => return Some(ClientAuth::None),
            "RequestClientCert" => return Some(ClientAuth::Any { mandatory: false }),
            "RequireAnyClientCert" | "RequireClientCert" => return Some(ClientAuth::Any { mandatory: true }),
            "VerifyClientCertIfGiven" => false,
            "RequireAndVerifyClientCert" => true,
            _ => {
                self.error(Trouble::new(
                    format!("`client_auth_type` is {kind:?}, which is unknown"),
                    "it can be NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
                ));
                return None;
            }
        };
        let roots = match roots {
            Some(roots) => roots,
            None => self.system_roots()?,
        };
        Some(ClientAuth::Verified { roots, mandatory })
    }

    /// As Go does without a client CA.
    fn system_roots(&mut self) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            self.error(Trouble::new(
                "there is no `client_ca_file`, and the system has no authorities either",
                "set `client_ca_file`",
            ));
            return None;
        }
        self.warn(Trouble::new(
            "there is no `client_ca_file`: certificates of every authority that the system trusts are good",
            "set `client_ca_file`",
        ));
        Some(roots)
    }

    fn terms(&mut self, tls: &TlsServer, clients: Option<ClientAuth>) -> Option<Terms> {
        let least = self.version("min_version", tls.min_version.as_deref(), 2);
        let most = self.version("max_version", tls.max_version.as_deref(), 3);
        let suites = self.suites(tls.cipher_suites.as_deref().unwrap_or_default());
        let groups = self.groups(tls.curve_preferences.as_deref().unwrap_or_default());
        let allowed_sans = tls.client_allowed_sans.clone().unwrap_or_default();
        let required = matches!(
            clients,
            None | Some(ClientAuth::Any { mandatory: true } | ClientAuth::Verified { mandatory: true, .. })
        );
        if tls.client_allowed_sans.is_some() && !required {
            self.error(Trouble::new(
                "`client_allowed_sans` is set, but `client_auth_type` requires no certificate",
                "set `client_auth_type: RequireAndVerifyClientCert`",
            ));
            return None;
        }
        if tls.client_allowed_sans.is_some() && allowed_sans.is_empty() {
            self.error(Trouble::new(
                "`client_allowed_sans` is empty: nobody may connect",
                "name some, or remove it",
            ));
            return None;
        }
        let (least, most, clients, suites, groups) = (least?, most?, clients?, suites?, groups?);
        let old = suites.iter().any(|suite| suite.tls13().is_none());
        let mut versions = Vec::new();
        if most >= 3 {
            versions.push(&version::TLS13);
        }
        if least <= 2 && old {
            versions.push(&version::TLS12);
        }
        if versions.is_empty() || least > most {
            self.error(Trouble::new(
                "`min_version`, `max_version` and `cipher_suites` leave no version of TLS",
                "TLS12 to TLS13 is the default",
            ));
            return None;
        }
        let own_order = tls.prefer_server_cipher_suites.unwrap_or(true);
        Some(Terms { versions, suites, groups, own_order, clients, allowed_sans })
    }

    /// The minor number of TLS 1.x.
    fn version(&mut self, key: &str, name: Option<&str>, default: u8) -> Option<u8> {
        match name {
            None => Some(default),
            Some("TLS12") => Some(2),
            Some("TLS13") => Some(3),
            Some(old @ ("TLS10" | "TLS11")) => {
                self.error(Trouble::new(
                    format!("`{key}` is {old}, which rustls does not have: it is broken (RFC 8996)"),
                    "write TLS12 or TLS13",
                ));
                None
            }
            Some(other) => {
                self.error(Trouble::new(
                    format!("`{key}` is {other:?}, which is unknown"),
                    "write TLS12 or TLS13",
                ));
                None
            }
        }
    }

    fn suites(&mut self, names: &[String]) -> Option<Vec<SupportedCipherSuite>> {
        if names.is_empty() {
            return Some(Terms::default().suites);
        }
        // Those of TLS 1.3 cannot be chosen, as in Go.
        let mut suites: Vec<_> =
            SUITES.iter().map(|(_, suite)| *suite).filter(|suite| suite.tls13().is_some()).collect();
        let mut good = true;
        for name in names {
            match SUITES.iter().find(|(known, _)| known == name) {
                Some((_, suite)) if !suites.contains(suite) => suites.push(*suite),
                Some(_) => {}
                None => {
                    good = false;
                    self.unsupported("cipher_suites", name, &SUITES.map(|(known, _)| known));
                }
            }
        }
        good.then_some(suites)
    }

    fn groups(&mut self, names: &[String]) -> Option<Vec<&'static dyn SupportedKxGroup>> {
        if names.is_empty() {
            return Some(Terms::default().groups);
        }
        let mut groups = Vec::new();
        for name in names {
            match GROUPS.iter().find(|(known, _)| known == name) {
                Some((_, group)) => groups.push(*group),
                None => self.unsupported("curve_preferences", name, &GROUPS.map(|(known, _)| known)),
            }
        }
        (groups.len() == names.len()).then_some(groups)
    }

    fn unsupported(&mut self, key: &str, name: &str, known: &[&str]) {
        self.error(Trouble::new(
            format!("`{key}` has {name:?}, which rustls does not have"),
            format!("remove it; there are {}", known.join(", ")),
        ));
    }
}

/// A PEM, and what it is called: without the first backquote.
enum Found {
    Nothing,
    Error,
    Bytes(String, Vec<u8>),
}

impl Found {
    fn name(&self) -> String {
        match self {
            Self::Bytes(name, _) => name.clone(),
            _ => String::new(),
        }
    }

    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(_, bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// `` `key_file` /path …``
fn prefixed(name: &str, Trouble { message, cure }: Trouble) -> Trouble {
    let close = if name.contains('`') { "" } else { "`" };
    Trouble { message: format!("`{name}{close} {message}"), cure }
}

/// Without anything of the file's text, in which there are secrets.
fn parse(text: &str) -> Result<Option<File>, Trouble> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or_else(String::new, |place| {
            format!("line {}, column {}: ", place.line(), place.column())
        });
        let (what, cure) = match error.without_snippet() {
            YamlError::SerdeUnknownField { field, .. } => (
                format!("unknown key `{field}`"),
                "the keys are those of Prometheus' web configuration: https://prometheus.io/docs/prometheus/latest/configuration/https/",
            ),
            YamlError::DuplicateMappingKey { .. } => ("a key is there twice".to_owned(), "remove one"),
            YamlError::Message { .. } | YamlError::ExternalMessage { .. } => {
                ("not valid YAML".to_owned(), "mend it there")
            }
            _ => ("a value of another type is expected".to_owned(), "mend it there"),
        };
        Trouble::new(format!("{place}{what}"), cure)
    })
}

/// A duration as Go writes them, whole numbers alone: `1m30s`; without a unit nanoseconds.
fn go_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return Some(Duration::ZERO);
    }
    if let Ok(nanos) = text.parse() {
        return Some(Duration::from_nanos(nanos));
    }
    let mut whole = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let nanos: u64 = match &rest[..unit] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        whole = whole.checked_add(Duration::from_nanos(number.checked_mul(nanos)?))?;
        rest = &rest[unit..];
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let of = |text| go_duration(text).map(|d| d.as_millis());
        assert_eq!([of("0"), of(""), of("1s"), of("1m30s")], [Some(0), Some(0), Some(1000), Some(90_000)]);
        assert_eq!([of("250ms"), of("1000000"), of("1h")], [Some(250), Some(1), Some(3_600_000)]);
        assert_eq!(
            [of("1"), of("s"), of("1d"), of("-1s"), of("1.5s"), of("x")],
            [Some(0), None, None, None, None, None]
        );
    }
}
