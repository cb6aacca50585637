//! Where the broker is, and how both sides show who they are.

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use rustls::{crypto::ring, sign::CertifiedKey};
use secrecy::{ExposeSecret, SecretString};

/// Where the broker is, and how both sides show who they are.
#[derive(Debug, Clone)]
pub struct BrokerAddress {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…`: at least one. Several are those of a cluster's nodes.
    pub urls: Vec<SecretString>,
    /// Who is trusted beside the system's authorities.
    pub authorities: Option<Authorities>,
    /// What the broker is shown, if it wants a certificate.
    pub identity: Option<ClientIdentity>,
}

/// Why the settings of TLS cannot be used. What they hold is not told, nor what the parser says of it: that quotes a key's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerTlsError {
    /// The authorities are no certificates.
    #[error("broker.tls_ca: holds no certificate in PEM that can be read")]
    Authorities,
    /// The chain is no PEM, or holds nothing that can be used.
    #[error("broker.tls_certificate: holds no certificate in PEM that can be read")]
    Certificate,
    /// The key is no PEM, encrypted, or of an unknown kind.
    #[error("broker.tls_key: holds no private key in PEM that can be read without a password")]
    Key,
    /// The key is another certificate's.
    #[error("broker.tls_key: does not belong to broker.tls_certificate")]
    OtherKey,
}

/// Authorities in PEM, which can be read.
#[derive(Debug, Clone)]
pub struct Authorities(String);

impl Authorities {
    /// Those of this text.
    ///
    /// # Errors
    /// [`BrokerTlsError::Authorities`].
    pub fn from_pem(text: String) -> Result<Self, BrokerTlsError> {
        certificates::chain(&text).map_or(Err(BrokerTlsError::Authorities), |_| Ok(Self(text)))
    }

    /// Their text.
    pub(crate) fn as_pem(&self) -> &str {
        &self.0
    }
}

/// A certificate by which the broker knows its client, and its key, both in PEM. They can be read, and belong together.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and its authority.
    certificate: String,
    key: SecretString,
}

impl ClientIdentity {
    /// The identity that a chain, the client's own certificate first, and its key make.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub fn from_pem(certificate: String, key: SecretString) -> Result<Self, BrokerTlsError> {
        let chain = certificates::chain(&certificate).ok_or(BrokerTlsError::Certificate)?;
        let parsed = certificates::private_key(key.expose_secret()).ok_or(BrokerTlsError::Key)?;
        CertifiedKey::from_der(chain, parsed, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => BrokerTlsError::OtherKey,
            rustls::Error::InvalidCertificate(_) => BrokerTlsError::Certificate,
            _ => BrokerTlsError::Key,
        })?;
        Ok(Self { certificate, key })
    }
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
        OwnedTLSConfig {
            identity,
            cert_chain: self.authorities.as_ref().map(|authorities| authorities.as_pem().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use super::{Authorities, BrokerTlsError, ClientIdentity};

    #[test]
    fn a_key_that_cannot_be_read_or_is_another_ones_is_refused_and_never_told() {
        let authority = testbed::Authority::new().expect("an authority");
        let issue = |name| {
            let issued = authority.issue(name, &["DNS:client.example.com"]).expect("a certificate");
            [issued.chain, issued.key].map(|file| read_to_string(file).expect("PEM"))
        };
        let [[chain, key], [_, other_key]] = [issue("client"), issue("other")];
        let identity = |chain: &str, key: &str| ClientIdentity::from_pem(chain.to_owned(), key.into());
        identity(&chain, &key).expect("they belong together");
        let of_one_line = identity(&chain, &key.replace('\n', " ")).expect_err("no PEM");
        assert_eq!(of_one_line, BrokerTlsError::Key);
        assert!(std::error::Error::source(&of_one_line).is_none(), "a log tells sources as well");
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(identity(&chain, &encrypted).expect_err("encrypted"), BrokerTlsError::Key);
        assert_eq!(identity(&chain, &other_key).expect_err("another one's"), BrokerTlsError::OtherKey);
        assert_eq!(identity(&key, &key).expect_err("no certificate"), BrokerTlsError::Certificate);
        Authorities::from_pem(chain.clone()).expect("readable");
        assert_eq!(Authorities::from_pem(chain.replace('\n', " ")).expect_err("no PEM"), BrokerTlsError::Authorities);
    }
}
