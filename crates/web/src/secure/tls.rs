//! TLS of the server: what the configuration says becomes a configuration of rustls, and connections are accepted with the newest.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use fk_config::{ClientAuth, Pem, TlsVersion, WebTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, NamedGroup, OtherError, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{WebFile, san};

/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest file with a certificate or a key, bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// What the client says during the handshake if it speaks HTTP/2.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Agrees on keys with a client, by what the files say now.
pub(crate) async fn accept(file: &WebFile, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let config = file.now().tls.clone().ok_or_else(|| std::io::Error::other("no TLS configuration"))?;
    let accepting = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(accepted) => accepted,
        Err(_elapsed) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// A configuration for connections.
///
/// Errors: a file cannot be read, the certificate is not of the key, or nothing is left that could be agreed on.
pub(crate) fn server_config(section: &WebTls, http2: bool) -> Result<Arc<ServerConfig>, String> {
    let cert = read_pem(&section.cert, "cert_file")?;
    let key = read_pem(&section.key, "key_file")?;
    // Texts as in Prometheus:
    let pair = |error: &dyn std::fmt::Display| format!("failed to load X509KeyPair: {error}");
    let chain = certificates(&cert).map_err(|error| pair(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| pair(&error))?;

    let provider = Arc::new(provider(section)?);
    let versions: Vec<&SupportedProtocolVersion> = [&rustls::version::TLS12, &rustls::version::TLS13]
        .into_iter()
        .zip([TlsVersion::Tls12, TlsVersion::Tls13])
        .filter(|(_, version)| (section.min_version..=section.max_version).contains(version))
        .map(|(version, _)| version)
        .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("TLS versions, cipher suites and curves do not fit: {error}"))?;
    let builder = match section.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        _ => builder.with_client_cert_verifier(Arc::new(Clients::new(section, &provider)?)),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| pair(&error))?;
    config.alpn_protocols = if http2 { vec![HTTP2.to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

/// What can be agreed on. Suites of TLS 1.3 cannot be chosen, as in Go.
fn provider(section: &WebTls) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !section.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            suite.version() == &rustls::version::TLS13 || section.cipher_suites.contains(&name)
        });
        let tls12 = provider.cipher_suites.iter().any(|suite| suite.version() == &rustls::version::TLS12);
        if !tls12 && section.max_version == TlsVersion::Tls12 {
            return Err("none of the cipher_suites is there: firekeeper has no CBC".to_owned());
        }
    }
    if !section.curves.is_empty() {
        let wanted = |group: NamedGroup| {
            let name = match group {
                NamedGroup::secp256r1 => "CurveP256",
                NamedGroup::secp384r1 => "CurveP384",
                NamedGroup::X25519 => "X25519",
                _ => return None,
            };
            section.curves.iter().position(|curve| curve == name)
        };
        provider.kx_groups.retain(|group| wanted(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| wanted(group.name()));
        if provider.kx_groups.is_empty() {
            return Err("none of the curve_preferences is there: firekeeper has no CurveP521".to_owned());
        }
    }
    Ok(provider)
}

fn read_pem(pem: &Pem, name: &str) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Inline(text) => Ok(text.expose().as_bytes().to_vec()),
        Pem::File(path) => {
            // Texts as in Prometheus:
            let failed = |error: &dyn std::fmt::Display| format!("failed to read {name} ({}): {error}", path.display());
            let bytes = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
            if bytes > PEM_BYTES_MAX {
                return Err(failed(&format!("it has more than {PEM_BYTES_MAX} bytes")));
            }
            std::fs::read(path).map_err(|error| failed(&error))
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

/// Decides which certificates of clients are good.
#[derive(Debug)]
struct Clients {
    /// Verifies them against the client CA; `None`: any will do.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    /// Names one of which a certificate must have.
    allowed_sans: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    fn new(section: &WebTls, provider: &Arc<CryptoProvider>) -> Result<Clients, String> {
        let verified = matches!(section.client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
        let required = matches!(section.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
        let verifier = match &section.client_ca {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                let text = read_pem(pem, "client_ca_file")?;
                let (added, _) = roots.add_parsable_certificates(certificates(&text)?);
                if added == 0 {
                    return Err("there is no usable certificate in the client CA".to_owned());
                }
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                Some(builder.build().map_err(|error| format!("client CA: {error}"))?)
            }
            // DIFFERENCE: Prometheus takes the certificates of the system's authorities then, that is, of nearly anybody.
            None if verified => return Err("client certificates cannot be verified without a client CA".to_owned()),
            None => None,
        };
        Ok(Clients {
            verifier: verifier.filter(|_| verified),
            // A client without a certificate has none of the names, and is refused as in Prometheus.
            mandatory: required || section.client_allowed_sans.is_some(),
            allowed_sans: section.client_allowed_sans.clone(),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(verifier) = &self.verifier {
            verifier.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.allowed_sans {
            let names = san::names(end_entity).unwrap_or_default();
            if !names.iter().any(|name| allowed.contains(name)) {
                // Text as in Prometheus:
                let text = format!("could not find allowed SANs in client cert, found: {allowed:?}");
                return Err(Error::Other(OtherError(Arc::new(std::io::Error::other(text)))));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
