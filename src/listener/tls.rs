//! TLS of the listener, by rustls.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::files::Trouble;
use super::verify::{Any, Named};

/// A certificate and what clients have to show, ready to be served.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain expires, seconds since 1970.
    pub expiry: i64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

impl Tls {
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// What clients have to show.
#[derive(Debug, Default)]
pub(super) enum ClientAuth {
    /// Nothing.
    #[default]
    None,
    /// A certificate of anybody's; or none.
    Any { mandatory: bool },
    /// A certificate of one of these authorities; or none.
    Verified { roots: RootCertStore, mandatory: bool },
}

/// How TLS is spoken.
pub(super) struct Terms {
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub suites: Vec<SupportedCipherSuite>,
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// The server's order of cipher suites decides, not the client's.
    pub own_order: bool,
    pub clients: ClientAuth,
    /// Names of which a client's certificate has one; none: any.
    pub allowed_sans: Vec<String>,
}

impl Default for Terms {
    fn default() -> Self {
        let provider = ring::default_provider();
        Self {
            versions: vec![&version::TLS13, &version::TLS12],
            suites: provider.cipher_suites,
            groups: provider.kx_groups,
            own_order: true,
            clients: ClientAuth::None,
            allowed_sans: Vec::new(),
        }
    }
}

/// The certificates of a PEM file.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Trouble::new(
            "has no certificate",
            "name a PEM file: -----BEGIN CERTIFICATE----- begins each one",
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(Trouble::new(format!("is no good PEM: {error}"), "make the file again")),
    }
}

/// The first private key of a PEM file.
pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Trouble> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound if pem.windows(17).any(|w| w == b"ENCRYPTED PRIVATE") => {
            Trouble::new("has a key with a passphrase", "take it off: openssl pkey -in FILE -out NEW")
        }
        PemError::NoItemsFound => Trouble::new(
            "has no private key",
            "name a PEM file: -----BEGIN PRIVATE KEY----- (or RSA, EC) begins it",
        ),
        error => Trouble::new(format!("is no good PEM: {error}"), "make the file again"),
    })
}

/// The authorities of a PEM file.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, Trouble> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| {
            Trouble::new(
                format!("has a certificate that can be no authority's: {error}"),
                "name the authority's certificate",
            )
        })?;
    }
    Ok(roots)
}

/// What is wrong with a certificate and a key together.
pub(super) enum Mismatch {
    Certificate(Trouble),
    Key(Trouble),
    Terms(Trouble),
}

/// Puts it all together.
pub(super) fn build(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    terms: Terms,
) -> Result<Tls, Mismatch> {
    let expiry = expiry(&chain).map_err(Mismatch::Certificate)?;
    let Terms { versions, suites, groups, own_order, clients, allowed_sans } = terms;
    let provider =
        Arc::new(CryptoProvider { cipher_suites: suites, kx_groups: groups, ..ring::default_provider() });
    let signing = provider.key_provider.load_private_key(key).map_err(|error| {
        Mismatch::Key(Trouble::new(
            format!("has a private key that cannot be used: {error}"),
            "make one of type RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519",
        ))
    })?;
    let pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(Mismatch::Key(Trouble::new(
                "has not the private key of the certificate",
                "name the key that the certificate was asked for with; the server's own certificate comes first in its file",
            )));
        }
        Err(error) => {
            return Err(Mismatch::Certificate(Trouble::new(
                format!("has a certificate that cannot be used: {error}"),
                "name an X.509 certificate of version 3",
            )));
        }
    }
    let terms = |error: &dyn fmt::Display| {
        Mismatch::Terms(Trouble::new(
            format!("cannot be served: {error}"),
            "allow more versions, ciphers or curves",
        ))
    };
    let verifier = verifier(clients, &provider).map_err(|error| terms(&error))?;
    let verifier = verifier.map(|inner| match allowed_sans {
        allowed if allowed.is_empty() => inner,
        allowed => Arc::new(Named { inner, allowed }) as Arc<dyn ClientCertVerifier>,
    });
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| terms(&error))?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.ignore_client_order = own_order;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), expiry })
}

fn verifier(
    clients: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    Ok(match clients {
        ClientAuth::None => None,
        ClientAuth::Any { mandatory } => {
            Some(Arc::new(Any { mandatory, algorithms: provider.signature_verification_algorithms }))
        }
        ClientAuth::Verified { roots, mandatory } => {
            let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
            let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
            Some(builder.build().map_err(|error| error.to_string())?)
        }
    })
}

fn expiry(chain: &[CertificateDer<'_>]) -> Result<i64, Trouble> {
    let mut first = i64::MAX;
    for certificate in chain {
        let certificate = Certificate::from_der(certificate).map_err(|error| {
            Trouble::new(format!("has a certificate that is none: {error}"), "make the file again")
        })?;
        let ends = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
        first = first.min(i64::try_from(ends).unwrap_or(i64::MAX));
    }
    Ok(first)
}
