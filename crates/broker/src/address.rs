//! Where the broker is, and how both sides show who they are.

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use secrecy::{ExposeSecret, SecretString};

/// Where the broker is, and how both sides show who they are.
#[derive(Debug, Clone)]
pub struct BrokerAddress {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…`: at least one. Several are those of a cluster's nodes.
    pub urls: Vec<SecretString>,
    /// Authorities that are trusted beside the system's, in PEM.
    pub authorities: Option<String>,
    /// What the broker is shown, if it wants a certificate.
    pub identity: Option<ClientIdentity>,
}

/// A certificate by which the broker knows its client.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and its authority, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: SecretString,
}

/// Only the system's authorities are trusted, and no certificate is shown.
impl From<Vec<SecretString>> for BrokerAddress {
    fn from(urls: Vec<SecretString>) -> Self {
        Self { urls, authorities: None, identity: None }
    }
}

impl BrokerAddress {
    pub(crate) fn tls(&self) -> OwnedTLSConfig {
        let identity = self.identity.as_ref().map(|identity| OwnedIdentity::PKCS8 {
            pem: identity.certificate.clone().into_bytes(),
            key: identity.key.expose_secret().to_owned().into_bytes(),
        });
        OwnedTLSConfig { identity, cert_chain: self.authorities.clone() }
    }
}
