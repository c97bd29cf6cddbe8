//! TLS configurations of the chat.

use std::sync::Arc;

use annulus_engine::tls::rustls::crypto::ring;
use annulus_engine::tls::rustls::pki_types::pem::PemObject;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use annulus_engine::tls::rustls::{ClientConfig, ServerConfig};

use super::config::Tls;
use crate::outbound;

/// Towards clients: the certificate is read anew.
///
/// # Errors
/// A sentence that names the key of the configuration, or the file.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, String> {
    let (cert, key) = (tls.cert.load(), tls.key.load());
    let cert = cert.map_err(|error| format!("chat.tls.cert: {error}"))?;
    let key = key.map_err(|error| format!("chat.tls.key: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("chat.tls.cert: it is no PEM certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|error| format!("chat.tls.key: it is no PEM key: {error}"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("chat.tls: {error}"))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config =
        config.map_err(|error| format!("chat.tls: the certificate and its key cannot be used: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Towards hooks and key sets: what the system trusts.
///
/// # Errors
/// A sentence.
pub fn client_config() -> Result<Arc<ClientConfig>, String> {
    outbound::trusted().map_err(|error| format!("chat: {error}"))
}
