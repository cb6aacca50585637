//! Certificates and private keys, read from PEM. What is wrong with a text is not told: that would quote a key's bytes.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// The certificates of a text, in their order; `None` when it holds none, or one that cannot be read.
pub fn chain(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty())
}

/// The private key of a text; `None` when it holds none, or an encrypted one.
pub fn private_key(text: &str) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::{chain, private_key};

    /// PEM of three bytes.
    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn a_text_without_a_section_of_its_kind_holds_nothing() {
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        assert_eq!(chain(&certificate.repeat(2)).map(|all| all.len()), Some(2));
        assert!(private_key(&key).is_some());
        assert!(chain(&key).is_none() && private_key(&certificate).is_none());
        for unusable in ["", "a certificate", "-----BEGIN CERTIFICATE-----\n", &pem("ENCRYPTED PRIVATE KEY")] {
            assert!(chain(unusable).is_none() && private_key(unusable).is_none(), "{unusable}");
        }
    }
}
