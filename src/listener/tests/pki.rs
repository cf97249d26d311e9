//! Authorities, servers and clients with certificates of a few days, made by openssl; and a client that speaks TLS.

use std::fs::File;
use std::io::{BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

pub fn openssl(folder: &Path, args: &str) {
    let out = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(out.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// `NAME.key`
pub fn key(folder: &Path, name: &str) {
    openssl(folder, &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
}

/// `NAME.pem` of an authority of its own.
pub fn authority(folder: &Path, name: &str) {
    key(folder, name);
    openssl(folder, &format!("req -x509 -new -key {name}.key -subj /CN={name} -days 30 -out {name}.pem"));
}

/// `NAME.pem` by an authority, with these alternative names.
pub fn certificate(folder: &Path, authority: &str, name: &str, days: u32, names: &str) {
    key(folder, name);
    openssl(folder, &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    std::fs::write(folder.join("names"), format!("subjectAltName = {names}\n")).unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days {days} -extfile names -out {name}.pem"
        ),
    );
}

/// The authority `ca` with a server's and two clients' certificates, and one of an authority that nobody knows.
pub fn all(folder: &Path) {
    authority(folder, "ca");
    certificate(folder, "ca", "server", 30, "DNS:lb.example,IP:127.0.0.1");
    certificate(
        folder,
        "ca",
        "client",
        30,
        "DNS:prometheus.example,email:ops@example.org,IP:192.0.2.7,URI:spiffe://a/b",
    );
    certificate(folder, "ca", "guest", 30, "DNS:guest.example");
    authority(folder, "elsewhere");
    certificate(folder, "elsewhere", "stranger", 30, "DNS:prometheus.example");
}

pub static TLS12: [&SupportedProtocolVersion; 1] = [&version::TLS12];
pub static TLS13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
pub static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// How a client speaks.
#[derive(Clone)]
pub struct Client<'a> {
    pub folder: &'a Path,
    /// Whose certificate it shows.
    pub certificate: Option<&'a str>,
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub alpn: &'static [&'static [u8]],
}

impl<'a> Client<'a> {
    pub fn new(folder: &'a Path) -> Self {
        Self { folder, certificate: None, versions: &BOTH, alpn: &[] }
    }

    pub fn connect(&self, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let read = |name: String| File::open(self.folder.join(name)).map(BufReader::new).unwrap();
        let chain = |name| {
            CertificateDer::pem_reader_iter(read(format!("{name}.pem")))
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        };
        let mut roots = RootCertStore::empty();
        roots.add(chain("ca").remove(0)).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let mut pem = Vec::new();
                read(format!("{name}.key")).read_to_end(&mut pem).unwrap();
                builder
                    .with_client_auth_cert(chain(name), PrivateKeyDer::from_pem_slice(&pem).unwrap())
                    .unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("lb.example").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        StreamOwned::new(tls, stream)
    }

    /// Status of a request; none where there is no answer.
    pub fn get(&self, to: SocketAddr, path: &str, headers: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        super::talk(self.connect(to), &request).map(|reply| reply.status)
    }
}
