//! The certificate with which a listener speaks TLS.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The chain is no PEM, or holds nothing.
    #[error("holds no certificate in PEM")]
    Certificate,
    /// The key is no PEM, or of an unknown kind. What it holds is not told.
    #[error("its key is no private key in PEM")]
    Key,
    /// The certificate and the key do not belong together, or cannot be used.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

/// The certificate of a listener. Clones share it: a new one holds for every connection that is accepted from then on.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<TlsAcceptor>>);

impl ServerTls {
    /// TLS with this chain, the listener's own certificate first, and its key, both in PEM.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn new(chain: &str, key: &str) -> Result<Self, ServerTlsError> {
        Ok(Self(Arc::new(RwLock::new(acceptor(chain, key)?))))
    }

    /// Takes another certificate.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; then the one before stays.
    pub fn replace(&self, chain: &str, key: &str) -> Result<(), ServerTlsError> {
        let fresh = acceptor(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(chain: &str, key: &str) -> Result<TlsAcceptor, ServerTlsError> {
    let chain = certificates::chain(chain).ok_or(ServerTlsError::Certificate)?;
    let key = certificates::private_key(key).ok_or(ServerTlsError::Key)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    // The listener speaks HTTP/1.1 alone.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
