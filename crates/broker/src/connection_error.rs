//! Why there is no connection to RabbitMQ, and whether a new attempt can help.

use std::{io, time::Duration};

use lapin::ErrorKind;
use rustls::AlertDescription;

use crate::topology::TopologyError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker is unreachable or ended the connection.
    #[error("no connection to RabbitMQ: {0}")]
    Connection(lapin::Error),
    /// The broker does not let this user in, or has no such virtual host.
    #[error("broker.url: RabbitMQ refuses it, because of the user, the password or the virtual host: {0}")]
    Refused(lapin::Error),
    /// The broker's certificate is not accepted.
    #[error(
        "broker.url: RabbitMQ's certificate is not accepted: {0}. Authorities of your own are named in broker.tls_ca"
    )]
    Certificate(rustls::Error),
    /// The broker ended the TLS handshake.
    #[error(
        "broker.url: RabbitMQ ends the TLS handshake: {0}. Does it want another certificate (broker.tls_certificate)?"
    )]
    OurCertificate(rustls::Error),
    /// The URL is invalid. The client's error is not told: it may quote the URL, with the password.
    #[error("broker.url: it is no AMQP URL")]
    Url,
    /// The broker did not answer in time.
    #[error("RabbitMQ did not answer within {0:?}")]
    TimedOut(Duration),
    /// The queues could not be declared, or are not as the settings say.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl From<lapin::Error> for ConnectionError {
    fn from(error: lapin::Error) -> Self {
        /// AMQP 0-9-1: `ACCESS_REFUSED`, which is about the user, and `NOT_ALLOWED`, which is about the virtual host.
        const NOT_LET_IN: [u16; 2] = [403, 530];
        match error.kind() {
            ErrorKind::ProtocolError(reply) if NOT_LET_IN.contains(&reply.get_id()) => Self::Refused(error),
            ErrorKind::IOError(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls @ rustls::Error::InvalidCertificate(_)) => Self::Certificate(tls.clone()),
                Some(tls @ rustls::Error::AlertReceived(alert)) if is_about_certificate(*alert) => {
                    Self::OurCertificate(tls.clone())
                }
                _ => Self::Connection(error),
            },
            _ => Self::Connection(error),
        }
    }
}

/// Whether an alert says that the certificate is not the right one (RFC 8446, section 6.2). The others may be those of a server, or of a
/// load balancer before it, that is just starting.
fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        UnknownCA, UnsupportedCertificate,
    };
    matches!(
        alert,
        BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | CertificateRequired
            | UnknownCA
            | AccessDenied
    )
}

impl ConnectionError {
    /// Whether the broker's side has cut the connection without a word.
    pub(crate) fn is_reset(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Self::Connection(error) = self else { return false };
        let ErrorKind::IOError(error) = error.kind() else { return false };
        matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
    }

    /// Whether no new attempt can succeed before a person acts.
    pub fn is_fatal(&self) -> bool {
        use TopologyError::{Different, Drops, Mismatch, Missing};
        match self {
            Self::Url | Self::Refused(_) | Self::Certificate(_) | Self::OurCertificate(_) => true,
            Self::Topology(error) => matches!(error, Mismatch { .. } | Missing { .. } | Different { .. } | Drops),
            Self::Connection(_) | Self::TimedOut(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::ConnectionError;

    #[test]
    fn an_alert_about_the_certificate_needs_a_person_and_another_one_only_time() {
        let is_fatal = |alert| {
            let error = std::io::Error::other(rustls::Error::AlertReceived(alert));
            ConnectionError::from(lapin::Error::from(error)).is_fatal()
        };
        for alert in [AlertDescription::UnknownCA, AlertDescription::CertificateRequired] {
            assert!(is_fatal(alert), "{alert:?}");
        }
        for alert in [AlertDescription::InternalError, AlertDescription::HandshakeFailure] {
            assert!(!is_fatal(alert), "{alert:?}");
        }
    }
}
