//! TLS for `https`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Failure;
use crate::config::Tls;

/// Made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    verified: OnceLock<Result<Arc<ClientConfig>, String>>,
    unverified: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl std::fmt::Debug for Any {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Any")
    }
}

impl Contexts {
    /// Instead of the machine's.
    #[cfg(test)]
    pub fn with_roots(roots: RootCertStore) -> Self {
        Self { verified: OnceLock::from(connector(Verify::By(roots))), unverified: OnceLock::new() }
    }

    /// A handshake with the server of this name.
    pub async fn connect(
        &self,
        stream: TcpStream,
        tls: Tls,
        to: SocketAddr,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let config = match tls {
            Tls::Verified => self.verified.get_or_init(|| roots().and_then(|r| connector(Verify::By(r)))),
            Tls::Unverified => self.unverified.get_or_init(|| connector(Verify::Not)),
        };
        let config = config.as_ref().map_err(|error| Failure::Unable(error.clone()))?;
        let name = match host {
            "" => ServerName::IpAddress(to.ip().into()),
            host => ServerName::try_from(host.to_owned())
                .map_err(|_| Failure::bad(format!("{host:?} can be no name of a certificate's")))?,
        };
        TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
            .map_err(|error| Failure::of("TLS", &error))
    }
}

/// The machine's trusted certificates: the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
    Err(format!("no trusted certificates: {why}; install ca-certificates"))
}

enum Verify {
    By(RootCertStore),
    Not,
}

fn connector(verify: Verify) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match verify {
        Verify::By(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        Verify::Not => {
            let any = Arc::new(Any(provider));
            builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
        }
    };
    Ok(Arc::new(config))
}

/// `verify = false`: any certificate, but its own key.
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
