//! Certificates and keys in PEM, as far as text shows whether they are some.

use secrecy::{ExposeSecret, SecretString};

/// What is wrong with a text that should hold certificates.
pub(crate) fn certificates(text: &str) -> Option<&'static str> {
    let is_one = text.contains("-----BEGIN CERTIFICATE-----") && text.contains("-----END CERTIFICATE-----");
    (!is_one).then_some(
        "holds no certificate in PEM; it takes the text itself, and with _FILE behind its variable a file's name",
    )
}

/// What is wrong with a certificate and the key that belongs to it, and with which of the two.
pub(crate) fn pair(certificate: Option<&str>, key: Option<&SecretString>) -> Vec<(&'static str, &'static str)> {
    let key = key.map(ExposeSecret::expose_secret);
    let mut problems: Vec<_> =
        certificate.and_then(certificates).map(|problem| ("tls_certificate", problem)).into_iter().collect();
    if key.is_some_and(|key| !key.contains("PRIVATE KEY-----")) {
        problems.push(("tls_key", "holds no private key in PEM"));
    }
    match (certificate, key) {
        (Some(_), None) => problems.push(("tls_key", "is not set, and tls_certificate is")),
        (None, Some(_)) => problems.push(("tls_certificate", "is not set, and tls_key is")),
        _ => {}
    }
    problems
}
