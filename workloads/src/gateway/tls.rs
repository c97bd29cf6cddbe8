//! TLS configurations out of the files that a gateway's configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use annulus_engine::tls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use annulus_engine::tls::rustls::client::verify_server_name;
use annulus_engine::tls::rustls::crypto::{CryptoProvider, ring};
use annulus_engine::tls::rustls::pki_types::pem::PemObject;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use annulus_engine::tls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use annulus_engine::tls::rustls::sign::CertifiedKey;
use annulus_engine::tls::rustls::version::{TLS12, TLS13};
use annulus_engine::tls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    crypto,
};

use super::config::model::{ClientTls, Gateway, KeyPair, Tls, TlsVersion};

/// Where Linux distributions keep the certificates they trust.
const TRUSTED_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS towards clients, with HTTP/2 and HTTP/1.1 offered.
///
/// # Errors
/// A sentence that names the file.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions(tls.min_version, tls.max_version))
        .map_err(|error| format!("tls: {error}"))?;
    let builder = if tls.client_ca_certs.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = roots(&tls.client_ca_certs, tls.system_ca_pool)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
        builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("tls.ca_certs: {error}"))?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::read(&tls.keys)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Certificates, chosen by the name that a client asks for (SNI). One that asks for none, or for a name that no
/// certificate proves, sees the first, as with KrakenD.
#[derive(Debug)]
struct ByName {
    first: Arc<CertifiedKey>,
    others: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn read(pairs: &[KeyPair]) -> Result<ByName, String> {
        let mut all = Vec::new();
        for pair in pairs {
            let (chain, key) = read_pair(pair)?;
            let key = ring::sign::any_supported_type(&key).map_err(|error| named(pair, &error))?;
            let certified = CertifiedKey::new(chain, key);
            certified.keys_match().map_err(|error| named(pair, &error))?;
            certified.end_entity_cert().and_then(ParsedCertificate::try_from).map_err(|error| named(pair, &error))?;
            all.push(Arc::new(certified));
        }
        let mut all = all.into_iter();
        let first = all.next().ok_or("tls.keys: there is no certificate")?;
        Ok(ByName { first, others: all.collect() })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let proves = |certified: &&Arc<CertifiedKey>| {
            let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from).ok();
            parsed.zip(name.as_ref()).is_some_and(|(parsed, name)| verify_server_name(&parsed, name).is_ok())
        };
        let chosen = match self.others.is_empty() {
            true => None,
            false => std::iter::once(&self.first).chain(&self.others).find(proves),
        };
        Some(chosen.unwrap_or(&self.first).clone())
    }
}

/// TLS towards upstreams. What is offered by ALPN is chosen per upstream.
///
/// # Errors
/// A sentence that names the file.
pub fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions(tls.min_version, tls.max_version))
        .map_err(|error| format!("client_tls: {error}"))?
        .with_root_certificates(roots(&tls.ca_certs, tls.system_ca_pool)?);
    let mut config = match tls.client_certs.first() {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = read_pair(pair)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| named(pair, &error))?
        }
    };
    if tls.allow_insecure_connections {
        config.dangerous().set_certificate_verifier(Arc::new(TrustAll { provider: ring::default_provider() }));
    }
    Ok(Arc::new(config))
}

/// The files that both sides' TLS is made of.
pub fn files(gateway: &Gateway) -> Vec<PathBuf> {
    let ours = gateway.tls.iter().flat_map(|tls| tls.keys.iter());
    let pairs = ours.chain(&gateway.client_tls.client_certs);
    let authorities = gateway.tls.iter().flat_map(|tls| &tls.client_ca_certs).chain(&gateway.client_tls.ca_certs);
    let pairs = pairs.flat_map(|pair| [&pair.certificate, &pair.private_key]);
    authorities.chain(pairs).cloned().collect()
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, version)| version).collect()
}

fn roots(files: &[PathBuf], system: bool) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if system && let Some(file) = TRUSTED_FILES.iter().map(Path::new).find(|file| file.exists()) {
        // A system's collection may hold some that nobody can use; those are left out.
        roots.add_parsable_certificates(certificates(file)?);
    }
    for file in files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| format!("{}: no usable authority: {error}", file.display()))?;
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| format!("{}: cannot be read as PEM certificates: {error}", file.display()))?;
    match read.is_empty() {
        true => Err(format!("{}: there is no certificate in it", file.display())),
        false => Ok(read),
    }
}

fn read_pair(pair: &KeyPair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let key = PrivateKeyDer::from_pem_file(&pair.private_key)
        .map_err(|error| format!("{}: cannot be read as a PEM key: {error}", pair.private_key.display()))?;
    Ok((certificates(&pair.certificate)?, key))
}

fn named(pair: &KeyPair, error: &Error) -> String {
    format!("{} with {}: {error}", pair.certificate.display(), pair.private_key.display())
}

/// Accepts every certificate, for `allow_insecure_connections` only. Signatures are checked all the same.
#[derive(Debug)]
struct TrustAll {
    provider: CryptoProvider,
}

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
