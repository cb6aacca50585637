//! Webhook signatures (HubSpot's documentation, "Validating requests").

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use domain::hash::sha256_hex;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};

/// The greatest age of a request: five minutes (HubSpot's documentation).
pub const MAX_AGE: Duration = Duration::milliseconds(300_000);

/// How far a timestamp may lie in the future: one minute, because clocks differ.
pub const MAX_AHEAD: Duration = Duration::milliseconds(60_000);

/// The sequences of a URL that HubSpot decodes before it signs; it decodes no others.
const DECODED: [(&str, &str); 12] = [
    ("%3A", ":"),
    ("%2F", "/"),
    ("%3F", "?"),
    ("%40", "@"),
    ("%21", "!"),
    ("%24", "$"),
    ("%27", "'"),
    ("%28", "("),
    ("%29", ")"),
    ("%2A", "*"),
    ("%2C", ","),
    ("%3B", ";"),
];

/// Verifies that a request came from HubSpot.
#[derive(Debug)]
pub struct SignatureVerifier {
    secrets: Vec<SecretString>,
    uri: String,
    accept_v1: bool,
    accept_v2: bool,
}

/// The headers of a request that the signature is about, as received.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignatureHeaders<'a> {
    /// `X-HubSpot-Signature-v3`
    pub signature_v3: Option<&'a str>,
    /// `X-HubSpot-Request-Timestamp`, in milliseconds.
    pub timestamp: Option<&'a str>,
    /// `X-HubSpot-Signature`, for v1 and v2.
    pub signature: Option<&'a str>,
}

/// Why a request is not accepted as HubSpot's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature of an accepted version.
    #[error("no signature: the header X-HubSpot-Signature-v3 is missing")]
    Missing,
    /// The timestamp is missing or is not a number of milliseconds.
    #[error("the header X-HubSpot-Request-Timestamp is missing or is not a number of milliseconds")]
    BadTimestamp,
    /// The timestamp is more than five minutes old.
    #[error("the request is older than 300,000 ms")]
    TooOld,
    /// The timestamp is more than one minute in the future.
    #[error("the request's timestamp is more than 60,000 ms in the future")]
    TooNew,
    /// No secret gives this signature.
    #[error("the signature does not match; check hubspot.client_secret and receiver.public_url")]
    Mismatch,
}

impl SignatureVerifier {
    /// A verifier for requests to `public_url`, the exact URL that is registered in HubSpot; behind a proxy it differs
    /// from the `Host` header. `secrets` are the app's client secrets, two of them during a rotation. The signatures v1
    /// and v2 have no timestamp, so a request can be replayed: they are accepted only where the operator allows it, and
    /// only when the request has no v3 signature.
    pub fn new(secrets: Vec<SecretString>, public_url: &str, accept_v1: bool, accept_v2: bool) -> Self {
        Self { secrets, uri: signed_uri(public_url), accept_v1, accept_v2 }
    }

    /// Checks a request. The comparison takes the same time at whatever byte a wrong signature differs.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        method: &str,
        headers: SignatureHeaders<'_>,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), SignatureError> {
        if let Some(signature) = headers.signature_v3 {
            let timestamp = headers.timestamp.ok_or(SignatureError::BadTimestamp)?;
            check_time(timestamp, now)?;
            return self.any_secret(signature.as_bytes(), |secret| v3(secret, method, &self.uri, body, timestamp));
        }
        match headers.signature {
            Some(signature) if self.accept_v1 || self.accept_v2 => {
                let v2 = self.any_secret(signature.as_bytes(), |secret| v2(secret, method, &self.uri, body));
                let v1 = self.any_secret(signature.as_bytes(), |secret| v1(secret, body));
                if self.accept_v2 && v2.is_ok() || self.accept_v1 && v1.is_ok() {
                    Ok(())
                } else {
                    Err(SignatureError::Mismatch)
                }
            }
            _ => Err(SignatureError::Missing),
        }
    }

    fn any_secret(&self, given: &[u8], expected: impl Fn(&str) -> String) -> Result<(), SignatureError> {
        let matches = |secret: &SecretString| bool::from(expected(secret.expose_secret()).as_bytes().ct_eq(given));
        // Every secret is tried, so that the time does not tell which of two secrets matched.
        let matched = self.secrets.iter().filter(|secret| matches(secret)).count();
        if matched > 0 { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

fn check_time(timestamp: &str, now: OffsetDateTime) -> Result<(), SignatureError> {
    let sent: i64 = timestamp.parse().map_err(|_| SignatureError::BadTimestamp)?;
    let sent = OffsetDateTime::from_unix_timestamp_nanos(i128::from(sent) * 1_000_000)
        .map_err(|_| SignatureError::BadTimestamp)?;
    match now - sent {
        age if age > MAX_AGE => Err(SignatureError::TooOld),
        age if -age > MAX_AHEAD => Err(SignatureError::TooNew),
        _ => Ok(()),
    }
}

/// The URL in the form that HubSpot signs: with some percent-encoded characters decoded.
pub fn signed_uri(url: &str) -> String {
    DECODED.iter().fold(url.to_owned(), |uri, (encoded, plain)| uri.replace(encoded, plain))
}

/// The v3 signature: base64 of HMAC-SHA256 over method, URI, body and timestamp.
pub fn v3(secret: &str, method: &str, uri: &str, body: &[u8], timestamp: &str) -> String {
    // HMAC accepts keys of any length, so this cannot fail. An empty signature would match no request.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    for part in [method.as_bytes(), uri.as_bytes(), body, timestamp.as_bytes()] {
        mac.update(part);
    }
    BASE64.encode(mac.finalize().into_bytes())
}

/// The v2 signature: hex of SHA-256 over secret, method, URI and body.
pub fn v2(secret: &str, method: &str, uri: &str, body: &[u8]) -> String {
    sha256_hex(&[secret.as_bytes(), method.as_bytes(), uri.as_bytes(), body])
}

/// The v1 signature: hex of SHA-256 over secret and body.
pub fn v1(secret: &str, body: &[u8]) -> String {
    sha256_hex(&[secret.as_bytes(), body])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    const URL: &str = "https://www.example.com/webhook_uri";
    const BODY: &[u8] = br#"{"example_field":"example_value"}"#;
    const SENT: &str = "1693657560000";
    const V3: &str = "oaA3M5dEtt6kFsseJD/Hv/x+JNl1vsoxFj4oxmwP6Go=";

    fn at(ms_after: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_693_657_560).expect("valid") + Duration::milliseconds(ms_after)
    }

    fn verifier(secrets: &[&str], accept_v1: bool, accept_v2: bool) -> SignatureVerifier {
        SignatureVerifier::new(secrets.iter().map(|s| (*s).into()).collect(), URL, accept_v1, accept_v2)
    }

    fn v3_headers() -> SignatureHeaders<'static> {
        SignatureHeaders { signature_v3: Some(V3), timestamp: Some(SENT), signature: None }
    }

    #[test]
    fn the_test_vectors_of_hubspots_documentation_verify() {
        assert_eq!(v2(SECRET, "GET", URL, b""), "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e");
        assert_eq!(v2(SECRET, "POST", URL, BODY), "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900");
        assert_eq!(v3(SECRET, "POST", URL, BODY, SENT), V3);
    }

    #[test]
    fn v3_is_bound_to_method_body_url_secret_and_time() {
        let check =
            |secret, method, body, headers, ms| verifier(&[secret], false, false).verify(method, headers, body, at(ms));
        assert_eq!(check(SECRET, "POST", BODY, v3_headers(), 1_000), Ok(()));
        assert_eq!(check(SECRET, "PUT", BODY, v3_headers(), 0), Err(SignatureError::Mismatch));
        assert_eq!(check(SECRET, "POST", b"[]", v3_headers(), 0), Err(SignatureError::Mismatch));
        assert_eq!(check("other", "POST", BODY, v3_headers(), 0), Err(SignatureError::Mismatch));
        assert_eq!(check(SECRET, "POST", BODY, v3_headers(), 300_000), Ok(()));
        assert_eq!(check(SECRET, "POST", BODY, v3_headers(), 300_001), Err(SignatureError::TooOld));
        assert_eq!(check(SECRET, "POST", BODY, v3_headers(), -60_001), Err(SignatureError::TooNew));
        let with = |timestamp| SignatureHeaders { timestamp, ..v3_headers() };
        assert_eq!(check(SECRET, "POST", BODY, with(None), 0), Err(SignatureError::BadTimestamp));
        assert_eq!(check(SECRET, "POST", BODY, with(Some("soon")), 0), Err(SignatureError::BadTimestamp));
        assert_eq!(
            check(SECRET, "POST", BODY, with(Some("9223372036854775807")), 0),
            Err(SignatureError::BadTimestamp)
        );
        assert_eq!(check(SECRET, "POST", BODY, with(Some("1693657560001")), 0), Err(SignatureError::Mismatch));
        assert_eq!(check(SECRET, "POST", BODY, SignatureHeaders::default(), 0), Err(SignatureError::Missing));
    }

    #[test]
    fn either_secret_of_a_rotation_is_accepted() {
        for secrets in [["new", SECRET], [SECRET, "old"]] {
            assert_eq!(verifier(&secrets, false, false).verify("POST", v3_headers(), BODY, at(0)), Ok(()));
        }
    }

    #[test]
    fn v1_and_v2_are_accepted_only_where_allowed_and_never_instead_of_a_wrong_v3() {
        let v2_signature = v2(SECRET, "POST", URL, BODY);
        let v1_signature = v1(SECRET, BODY);
        let old = |signature| SignatureHeaders { signature: Some(signature), ..SignatureHeaders::default() };
        let verify = |v1, v2, headers| verifier(&[SECRET], v1, v2).verify("POST", headers, BODY, at(0));
        assert_eq!(verify(false, false, old(&v2_signature)), Err(SignatureError::Missing));
        assert_eq!(verify(false, true, old(&v2_signature)), Ok(()));
        assert_eq!(verify(true, false, old(&v2_signature)), Err(SignatureError::Mismatch));
        assert_eq!(verify(true, false, old(&v1_signature)), Ok(()));
        assert_eq!(verify(false, true, old(&v1_signature)), Err(SignatureError::Mismatch));
        let downgrade =
            SignatureHeaders { signature: Some(&v2_signature), signature_v3: Some("AAAA"), timestamp: Some(SENT) };
        assert_eq!(verify(true, true, downgrade), Err(SignatureError::Mismatch));
    }

    #[test]
    fn exactly_the_documented_sequences_are_decoded() {
        assert_eq!(signed_uri("https://x/y?q=a%3Ab%2Fc%20d%26e%3B"), "https://x/y?q=a:b/c%20d%26e;");
    }
}
