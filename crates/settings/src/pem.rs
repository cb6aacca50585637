//! Certificates and keys in PEM, as far as text shows whether they are some.

use secrecy::{ExposeSecret, SecretString};

/// What is wrong with a text that should hold certificates.
pub(crate) fn certificates(text: &str) -> Option<&'static str> {
    (!holds(text, &["CERTIFICATE"])).then_some(
        "holds no certificate in PEM; it takes the text itself, and with _FILE behind its variable a file's name",
    )
}

/// What private keys are called in PEM.
const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// What is wrong with a text that should hold a private key.
fn private_key(text: &str) -> Option<&'static str> {
    if holds(text, &KEYS) {
        None
    } else if holds(text, &["ENCRYPTED PRIVATE KEY"]) {
        Some("is encrypted; it takes a private key without a password")
    } else {
        Some("holds no private key in PEM, with its lines as they were")
    }
}

/// Whether a text has a section with one of these labels. Its first and last line stand alone: PEM on one line is none.
fn holds(text: &str, labels: &[&str]) -> bool {
    let mut lines = text.lines().map(str::trim_end);
    let begun = lines.find_map(|line| {
        let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        labels.iter().find(|known| **known == label)
    });
    begun.is_some_and(|label| lines.any(|line| line == format!("-----END {label}-----")))
}

/// What is wrong with a certificate and the key that belongs to it, and with which of the two.
pub(crate) fn pair(certificate: Option<&str>, key: Option<&SecretString>) -> Vec<(&'static str, &'static str)> {
    let key = key.map(ExposeSecret::expose_secret);
    let of_certificate = certificate.and_then(certificates).map(|problem| ("tls_certificate", problem));
    let of_key = key.and_then(private_key).map(|problem| ("tls_key", problem));
    let mut problems: Vec<_> = of_certificate.into_iter().chain(of_key).collect();
    match (certificate, key) {
        (Some(_), None) => problems.push(("tls_key", "is not set, and tls_certificate is")),
        (None, Some(_)) => problems.push(("tls_certificate", "is not set, and tls_key is")),
        _ => {}
    }
    problems
}
