//! TLS of the load's connections: whom to trust, and what to offer.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Whom the system trusts.
    #[default]
    System,
    /// The authorities in a file.
    File(PathBuf),
    /// Everybody.
    Anybody,
}

/// The settings of all connections of a side, which offer these protocols.
///
/// # Errors
/// A sentence: there is nobody to trust.
pub fn config(trust: &Trust, alpn: &[&str]) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let mut config = match trust {
        Trust::Anybody => {
            let verifier = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::File(file) => {
            let certificates = certificates(file)?;
            let roots = Arc::new(roots(file)?);
            let usual = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let usual = usual.map_err(|error| format!("{} cannot be used: {error}", file.display()))?;
            let verifier = Arc::new(Handed { usual, certificates });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::System => {
            let file =
                SYSTEM.iter().map(Path::new).find(|file| file.exists()).ok_or(
                    "this system keeps no certificates where they usually are: pass --cacert FILE, or --insecure",
                )?;
            builder.with_root_certificates(roots(file)?).with_no_client_auth()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    // A bundle may hold what this library does not understand; what it understands must be something.
    Ok(CertificateDer::pem_slice_iter(&bytes).flatten().collect())
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(file)?);
    if roots.is_empty() {
        return Err(format!("there is no certificate in {}: give a PEM file", file.display()));
    }
    Ok(roots)
}

/// What went wrong in a handshake, with what to do about it.
pub fn remedy(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(_) => {
            format!("its certificate is not trusted ({error}): pass --cacert FILE with its authority, or --insecure")
        }
        Error::InvalidMessage(_) => format!("it does not speak TLS on this port ({error}): try http:// or ws://"),
        Error::NoApplicationProtocol => "it speaks none of the protocols offered: try --protocol http1".to_owned(),
        other => format!("the TLS handshake failed ({other})"),
    }
}

/// The name that a certificate must have.
///
/// # Errors
/// A sentence.
pub fn name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no name that a certificate can have"))
}

/// Trusts what the authorities in a file vouch for, and the certificates in it themselves: one that a server made for
/// itself usually says that it is an authority, which no authority's own server would.
#[derive(Debug)]
struct Handed {
    usual: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Handed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.iter().any(|handed| handed == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Trusts any certificate, and still wants the peer to have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_to_trust_is_told() {
        let file = PathBuf::from("/nowhere/at/all.pem");
        assert!(config(&Trust::File(file), &[]).unwrap_err().contains("/nowhere/at/all.pem"));
        let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        assert!(config(&Trust::File(own), &[]).unwrap_err().contains("PEM"));
        assert_eq!(config(&Trust::Anybody, &["h2", "http/1.1"]).unwrap().alpn_protocols.len(), 2);
    }

    #[test]
    fn remedies_name_the_options() {
        let untrusted = Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(remedy(&untrusted).contains("--cacert") && remedy(&untrusted).contains("--insecure"));
        assert!(name("a b").is_err() && name("127.0.0.1").is_ok() && name("a.example").is_ok());
    }
}
