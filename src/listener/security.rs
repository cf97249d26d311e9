//! What secures the listener, read from the files that the configuration names.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use tokio_rustls::TlsAcceptor;

use super::basic::Users;
use super::files::{self, Contents, Print, Trouble};
use super::guard::Guard;
use super::rate::Rate;
use super::tls::{self, ClientAuth, Mismatch, Terms, Tls};
use super::tokens::Tokens;
use super::web_config;
use crate::config::{self, Access, Beyond, Config, Report, ServerTls, Severity, Warning};

/// The keys of the configuration that lead here.
pub(super) const BEARER: &str = "bearer_token_file";
pub(super) const CERTIFICATE: &str = "tls_certificate";
pub(super) const KEY: &str = "tls_key";
pub(super) const CLIENT_CA: &str = "tls_client_ca";
pub(super) const WEB_CONFIG: &str = "web_config";

/// Days before its end from which on a certificate is worth a warning.
const SOON: i64 = 7;

/// Who may read, and by what the listener is known. Shows no secret in any form.
#[derive(Debug)]
pub struct Security {
    guard: Guard,
    tls: Option<Tls>,
    client_certificates: bool,
    headers: HeaderMap,
    rate: Option<Rate>,
    /// The files as they were read.
    prints: Vec<Print>,
}

impl Default for Security {
    /// Everybody may read, over plain HTTP.
    fn default() -> Self {
        Self {
            guard: Guard::Open,
            tls: None,
            client_certificates: false,
            headers: HeaderMap::new(),
            rate: None,
            prints: Vec::new(),
        }
    }
}

/// A configuration, and what its listener needs.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Of its listener.
    pub security: Security,
    /// What the file's reader should know.
    pub warnings: Vec<Warning>,
}

/// Reads a configuration file and the files that secure its listener. What is the same in `before` is shared
/// ([`config::load_with`]).
///
/// # Errors
/// A report of every problem of all of them.
pub fn load(path: &Path, before: Option<&Config>) -> Result<Loaded, Report> {
    let open = |config: &Config| Security::open(&config.metrics.access, config.metrics.listen);
    let (config, security, warnings) = config::load_with(path, before, open)?;
    Ok(Loaded { config, security, warnings })
}

/// Problems by the key that leads to them.
#[derive(Default)]
pub(super) struct Findings(Vec<Beyond>);

impl Findings {
    fn push(&mut self, key: &'static str, severity: Severity, trouble: Trouble) {
        let Trouble { message, cure } = trouble;
        let message = format!("`{key}` of [metrics]: {message}");
        self.0.push(Beyond { table: "metrics", key, severity, message, cure });
    }

    pub fn error(&mut self, key: &'static str, trouble: Trouble) {
        self.push(key, Severity::Error, trouble);
    }

    pub fn warn(&mut self, key: &'static str, trouble: Option<Trouble>) {
        if let Some(trouble) = trouble {
            self.push(key, Severity::Warning, trouble);
        }
    }

    /// What it is, or an error.
    pub fn some<T>(&mut self, key: &'static str, done: Result<T, Trouble>) -> Option<T> {
        done.map_err(|trouble| self.error(key, trouble)).ok()
    }
}

impl Security {
    /// Reads the files of `access`. Where there is an error, what comes with it is not to be used.
    fn open(access: &Access, listen: SocketAddr) -> (Self, Vec<Beyond>) {
        let mut findings = Findings::default();
        let security = match access {
            Access::Keys { bearer_token_file, tls } => {
                let mut security = Self::default();
                if let Some(path) = bearer_token_file {
                    security.bearer(path, &mut findings);
                }
                if let Some(tls) = tls {
                    security.tls_keys(tls, &mut findings);
                }
                security
            }
            Access::WebConfig(path) => Self::web_config(path, &mut findings),
        };
        let sound = findings.0.iter().all(|finding| finding.severity != Severity::Error);
        if sound && let Some(expiry) = security.certificate_expiry() {
            let key = if matches!(access, Access::WebConfig(_)) { WEB_CONFIG } else { CERTIFICATE };
            findings.warn(key, expiring(expiry));
        }
        if sound && !listen.ip().is_loopback() {
            findings.warn("listen", security.exposed(listen));
        }
        (security, findings.0)
    }

    fn bearer(&mut self, path: &Path, findings: &mut Findings) {
        let Some(file) = findings.some(BEARER, files::read(BEARER, path)) else { return };
        if let Some((tokens, warning)) =
            findings.some(BEARER, Tokens::parse(&file.bytes).map_err(|t| t.of(path)))
        {
            findings.warn(BEARER, warning.map(|warning| warning.of(path)));
            findings.warn(BEARER, file.loose("tokens"));
            self.guard = Guard::Bearer(Arc::new(tokens));
        }
        self.prints.push(file.print);
    }

    fn tls_keys(&mut self, tls: &ServerTls, findings: &mut Findings) {
        let mut read = |key, path: &Path| -> Option<Contents> {
            let file = findings.some(key, files::read(key, path))?;
            self.prints.push(file.print.clone());
            Some(file)
        };
        let certificate = read(CERTIFICATE, &tls.certificate);
        let key = read(KEY, &tls.key);
        let authorities = tls.client_ca.as_deref().map(|path| (path, read(CLIENT_CA, path)));

        let chain = certificate.and_then(|file| {
            findings.some(
                CERTIFICATE,
                tls::certificates(&file.bytes).map_err(|trouble| trouble.of(&tls.certificate)),
            )
        });
        let key = key.and_then(|file| {
            let key = findings.some(KEY, tls::key(&file.bytes).map_err(|trouble| trouble.of(&tls.key)))?;
            findings.warn(KEY, file.loose("the private key"));
            Some(key)
        });
        let mut terms = Terms::default();
        if let Some((path, file)) = authorities {
            let Some(file) = file else { return };
            let roots = tls::authorities(&file.bytes).map_err(|trouble| trouble.of(path));
            let Some(roots) = findings.some(CLIENT_CA, roots) else { return };
            terms.clients = ClientAuth::Verified { roots, mandatory: true };
            self.client_certificates = true;
        }
        let (Some(chain), Some(key)) = (chain, key) else { return };
        match tls::build(chain, key, terms) {
            Ok(built) => self.tls = Some(built),
            Err(Mismatch::Certificate(trouble)) => findings.error(CERTIFICATE, trouble.of(&tls.certificate)),
            Err(Mismatch::Key(trouble)) => findings.error(KEY, trouble.of(&tls.key)),
            Err(Mismatch::Terms(trouble)) => findings.error(CERTIFICATE, trouble),
        }
    }

    fn web_config(path: &Path, findings: &mut Findings) -> Self {
        let web = web_config::read(path, findings);
        let mut security = Self {
            tls: web.tls,
            client_certificates: web.client_certificates,
            headers: web.headers,
            rate: web.rate,
            prints: web.prints,
            ..Self::default()
        };
        if !web.users.is_empty() {
            let users = Users::new(web.users).map_err(|trouble| Trouble {
                message: format!("{}: {}", path.display(), trouble.message),
                ..trouble
            });
            if let Some((users, warning)) = findings.some(WEB_CONFIG, users) {
                findings.warn(WEB_CONFIG, warning);
                security.guard = Guard::Basic(Arc::new(users));
            }
        }
        security
    }

    /// What is wrong with listening where others can come from.
    fn exposed(&self, listen: SocketAddr) -> Option<Trouble> {
        let guarded = self.client_certificates || !matches!(self.guard, Guard::Open);
        let (what, cure) = match (guarded, self.tls.is_some()) {
            (true, true) => return None,
            (false, true) => (
                "everybody who reaches it can read the metrics and the state",
                "set `bearer_token_file`, or `tls_client_ca`",
            ),
            (true, false) => {
                ("tokens and passwords cross the network in the clear", "set `tls_certificate` and `tls_key`")
            }
            (false, false) => (
                "everybody who reaches it can read the metrics and the state, in the clear",
                "set `bearer_token_file`, `tls_certificate` and `tls_key`; or listen on 127.0.0.1",
            ),
        };
        Some(Trouble::new(format!("{listen} is not on loopback: {what}"), cure))
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(Tls::acceptor)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(super) fn rate(&self) -> Option<&Rate> {
        self.rate.as_ref()
    }

    /// Whether it is HTTPS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// When the first certificate of the chain expires, seconds since 1970; none without TLS.
    #[must_use]
    pub fn certificate_expiry(&self) -> Option<i64> {
        self.tls.as_ref().map(|tls| tls.expiry)
    }

    /// Whether both were read from the same files with the same contents.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.prints == other.prints
    }

    /// The keys whose files are the same, but have other contents: key and path.
    #[must_use]
    pub fn rewritten(&self, new: &Self) -> Vec<(&'static str, String)> {
        let mut keys: Vec<_> = new
            .prints
            .iter()
            .filter(|new| {
                self.prints.iter().any(|old| old.key == new.key && old.path == new.path && old != *new)
            })
            .map(|print| (print.key, print.path.display().to_string()))
            .collect();
        keys.dedup();
        keys
    }
}

fn expiring(expiry: i64) -> Option<Trouble> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let days = (expiry - now).div_euclid(86_400);
    let what = if expiry <= now {
        "the certificate, or one of its chain, has expired".to_owned()
    } else if days < SOON {
        format!("the certificate, or one of its chain, expires in {days} day(s)")
    } else {
        return None;
    };
    Some(Trouble::new(what, "renew it, and reload"))
}
