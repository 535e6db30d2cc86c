//! TLS as `tls_config` describes it.

use std::sync::{Arc, OnceLock};

use crate::timings::TimedSessions;
use fk_config::{SecretSource, TlsConfig, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What the files of a section hold. Compared to notice changes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Material {
    /// Reads certificates and key.
    pub(crate) fn read(config: &TlsConfig) -> Result<Material, String> {
        let read = |source: &Option<SecretSource>, what: &str| match source {
            None => Ok(None),
            Some(SecretSource::Inline(secret)) => Ok(Some(secret.expose().as_bytes().to_vec())),
            Some(SecretSource::File(path)) => std::fs::read(path)
                .map(Some)
                .map_err(|error| format!("unable to load specified {what} {}: {error}", path.display())),
        };
        Ok(Material {
            ca: read(&config.ca, "CA cert")?,
            cert: read(&config.cert, "client cert")?,
            key: read(&config.key, "client key")?,
        })
    }
}

/// Whether anything of the section is in files, which may change.
pub(crate) fn has_files(config: &TlsConfig) -> bool {
    [&config.ca, &config.cert, &config.key].into_iter().any(|source| matches!(source, Some(SecretSource::File(_))))
}

/// The configuration for connections. `http2`: whether that may be agreed on in the handshake (ALPN).
pub(crate) fn client_config(config: &TlsConfig, material: &Material, http2: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let lowest = config.min_version.unwrap_or(TlsVersion::Tls12);
    let highest = config.max_version.unwrap_or(TlsVersion::Tls13);
    let versions: Vec<_> = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
        .into_iter()
        .filter(|(version, _)| (lowest..=highest).contains(version))
        .map(|(_, version)| version)
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls_config: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier(config, material, provider)?));
    let mut client = match (&material.cert, &material.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert).map_err(|error| format!("unable to use specified client cert: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| format!("unable to use specified client key: {error}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("unable to use client cert: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    client.resumption = Resumption::store(Arc::new(TimedSessions::new()));
    if http2 {
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(client)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("no certificate found".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Who vouches for the server.
#[derive(Debug)]
enum Trust {
    /// `insecure_skip_verify`
    Anyone,
    /// These authorities, or the system's.
    Authorities(Arc<dyn ServerCertVerifier>),
    /// There are no authorities on this system; the reason why.
    Nobody(String),
}

/// Verifies servers as the section says. `server_name` is only verified, it is not announced in the handshake (SNI names the
/// host of the URL): reqwest takes that name from the URL alone.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// Certificates of `ca` that servers may also present themselves: Go accepts those, and self-signed ones are common.
    pinned: Vec<CertificateDer<'static>>,
    /// Name to verify instead of the host's.
    name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

fn verifier(config: &TlsConfig, material: &Material, provider: Arc<CryptoProvider>) -> Result<Verifier, String> {
    let mut pinned = Vec::new();
    let trust = if config.insecure_skip_verify {
        Trust::Anyone
    } else if let Some(ca) = &material.ca {
        pinned = certificates(ca).map_err(|error| format!("unable to use specified CA cert: {error}"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pinned.iter().cloned());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        Trust::Authorities(verifier.map_err(|error| format!("unable to use specified CA cert: {error}"))?)
    } else {
        match system_authorities() {
            Ok(verifier) => Trust::Authorities(verifier),
            Err(reason) => Trust::Nobody(reason),
        }
    };
    let name = match &config.server_name {
        None => None,
        Some(name) => {
            let parsed = ServerName::try_from(name.clone());
            Some(parsed.map_err(|_| format!("tls_config: {name:?} is not a valid server_name"))?)
        }
    };
    Ok(Verifier { trust, pinned, name, provider })
}

/// The system's authorities, loaded once: they are many, and there is a client for each job.
fn system_authorities() -> Result<Arc<dyn ServerCertVerifier>, String> {
    static SYSTEM: OnceLock<Result<Arc<rustls_platform_verifier::Verifier>, String>> = OnceLock::new();
    let load = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls_platform_verifier::Verifier::new(provider).map(Arc::new).map_err(|error| error.to_string())
    };
    let verifier = SYSTEM.get_or_init(load).clone()?;
    Ok(verifier)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(host);
        let verifier = match &self.trust {
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody(reason) => {
                log::debug!("no certificate authorities: {reason}");
                return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
            }
            Trust::Authorities(verifier) => verifier,
        };
        if self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
