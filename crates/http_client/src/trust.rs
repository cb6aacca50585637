//! Whom clients trust, read once for many clients: each would keep the system's certificates for itself.

use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use rustls_platform_verifier::Verifier;

/// What TLS offers a host, the newest first (RFC 9113, section 3.2).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whom clients trust. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust(ClientConfig);

/// Why it cannot be said whom to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The authorities are no certificates in PEM.
    #[error("the authorities that are trusted beside the system's cannot be read")]
    Authorities,
    /// No TLS provider is installed, or the system's certificates cannot be read.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// The system's authorities, and those in `authorities`, in PEM.
    ///
    /// # Errors
    /// Those are no certificates, or the system has none.
    pub fn system_and(authorities: Option<&str>) -> Result<Self, TrustError> {
        let extra = authorities.map_or_else(|| Some(Vec::new()), certificates::chain).ok_or(TrustError::Authorities)?;
        let mut known = RootCertStore::empty();
        if extra.iter().any(|authority| known.add(authority.clone()).is_err()) {
            return Err(TrustError::Authorities);
        }
        let provider =
            CryptoProvider::get_default().ok_or_else(|| rustls::Error::General("no TLS provider".to_owned()))?;
        let verifier = Verifier::new_with_extra_roots(extra, provider.clone())?;
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let verified = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = verified.with_no_client_auth();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(config))
    }

    /// A client of `builder` that trusts these.
    pub fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.tls_backend_preconfigured(self.0.clone())
    }
}
