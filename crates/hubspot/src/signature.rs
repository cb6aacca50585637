//! Webhook signatures (HubSpot's documentation, "Validating requests").

use std::sync::{Arc, PoisonError, RwLock};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
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

/// Verifies that a request came from HubSpot. Clones share their secrets.
#[derive(Debug, Clone)]
pub struct SignatureVerifier {
    secrets: Arc<RwLock<Vec<SecretString>>>,
    public_url: String,
    accept_v1: bool,
    accept_v2: bool,
}

/// The verification of a request whose body has yet to arrive.
#[derive(Debug)]
pub struct Verification<'a> {
    given: &'a [u8],
    /// Comes after the body in what v3 signs; empty for v1 and v2.
    timestamp: &'a str,
    /// One for each secret, URL and version with which the request may be signed.
    candidates: Vec<Candidate>,
}

/// A signature that grows with the body.
#[derive(Debug)]
enum Candidate {
    V3(Hmac<Sha256>),
    V1OrV2(Sha256),
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
        let secrets = Arc::new(RwLock::new(without_blank(secrets)));
        Self { secrets, public_url: public_url.to_owned(), accept_v1, accept_v2 }
    }

    /// From now on, requests are verified with these secrets. One that has begun keeps those before.
    pub fn replace_secrets(&self, secrets: Vec<SecretString>) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = without_blank(secrets);
    }

    /// Looks at a request before its body arrives. HubSpot signs the URL that it calls: the public URL, and with the `query`
    /// of the request where it has one that the public URL has not.
    ///
    /// # Errors
    /// The request cannot be HubSpot's, whatever its body is.
    pub fn begin<'a>(
        &self,
        method: &str,
        query: Option<&str>,
        headers: SignatureHeaders<'a>,
        now: OffsetDateTime,
    ) -> Result<Verification<'a>, SignatureError> {
        let urls = self.signed_urls(query);
        if let Some(signature) = headers.signature_v3 {
            let timestamp = headers.timestamp.ok_or(SignatureError::BadTimestamp)?;
            check_time(timestamp, now)?;
            has_form(signature, V3_CHARACTERS, |byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))?;
            let candidates =
                self.candidates(|secret| urls.iter().filter_map(|url| v3_head(secret, method, url)).collect());
            return Ok(Verification { given: signature.as_bytes(), timestamp, candidates });
        }
        match headers.signature {
            Some(signature) if self.accept_v1 || self.accept_v2 => {
                has_form(signature, HEX_CHARACTERS, |byte| byte.is_ascii_hexdigit())?;
                let candidates = self.candidates(|secret| {
                    let v2 = urls.iter().filter(|_| self.accept_v2).map(|url| v2_head(secret, method, url));
                    v2.chain(self.accept_v1.then(|| v1_head(secret))).collect()
                });
                Ok(Verification { given: signature.as_bytes(), timestamp: "", candidates })
            }
            _ => Err(SignatureError::Missing),
        }
    }

    /// Checks a request whose body is there. See [`SignatureVerifier::begin`].
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
        let mut verification = self.begin(method, None, headers, now)?;
        verification.update(body);
        verification.finish()
    }

    /// The URLs that HubSpot may have signed: as it is configured, which is also right behind a proxy that changes queries,
    /// and with the query of the request.
    fn signed_urls(&self, query: Option<&str>) -> Vec<String> {
        let mut urls = vec![signed_uri(&self.public_url)];
        if let Some(query) = query {
            let path = self.public_url.split_once('?').map_or(self.public_url.as_str(), |(path, _)| path);
            let called = signed_uri(&format!("{path}?{query}"));
            if called != urls[0] {
                urls.push(called);
            }
        }
        urls
    }

    fn candidates(&self, of: impl Fn(&str) -> Vec<Candidate>) -> Vec<Candidate> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().flat_map(|secret| of(secret.expose_secret())).collect()
    }
}

impl Verification<'_> {
    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        for candidate in &mut self.candidates {
            candidate.update(bytes);
        }
    }

    /// Compares, once the whole body has been taken. It takes the same time at whatever byte a wrong signature differs.
    ///
    /// # Errors
    /// No secret gives the request's signature.
    pub fn finish(self) -> Result<(), SignatureError> {
        let Self { given, timestamp, candidates } = self;
        let matches =
            |candidate: Candidate| bool::from(candidate.over(&[timestamp.as_bytes()]).as_bytes().ct_eq(given));
        // Every candidate is tried, so that the time does not tell which of two secrets matched.
        let matched = candidates.into_iter().map(matches).filter(|matches| *matches).count();
        if matched > 0 { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

impl Candidate {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::V3(mac) => mac.update(bytes),
            Self::V1OrV2(hash) => hash.update(bytes),
        }
    }

    /// The signature of what was taken and these parts.
    fn over(mut self, parts: &[&[u8]]) -> String {
        parts.iter().for_each(|part| self.update(part));
        self.finish()
    }

    /// The signature as the header has it.
    fn finish(self) -> String {
        match self {
            Self::V3(mac) => BASE64.encode(mac.finalize().into_bytes()),
            Self::V1OrV2(hash) => hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// What is blank is no secret: everybody could sign with it.
fn without_blank(secrets: Vec<SecretString>) -> Vec<SecretString> {
    secrets.into_iter().filter(|secret| !secret.expose_secret().trim().is_empty()).collect()
}

/// The length of a v3 signature: 32 bytes in base64.
const V3_CHARACTERS: usize = 44;

/// The length of a v1 or v2 signature: 32 bytes in hex.
const HEX_CHARACTERS: usize = 64;

/// What does not look like a signature is none, whatever the body.
fn has_form(signature: &str, length: usize, is_allowed: impl Fn(u8) -> bool) -> Result<(), SignatureError> {
    let has_form = signature.len() == length && signature.bytes().all(is_allowed);
    has_form.then_some(()).ok_or(SignatureError::Mismatch)
}

/// What v3 signs before the body. HMAC accepts keys of any length, so there is always one.
fn v3_head(secret: &str, method: &str, uri: &str) -> Option<Candidate> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    Some(Candidate::V3(mac.chain_update(method).chain_update(uri)))
}

fn v2_head(secret: &str, method: &str, uri: &str) -> Candidate {
    Candidate::V1OrV2(Sha256::new().chain_update(secret).chain_update(method).chain_update(uri))
}

fn v1_head(secret: &str) -> Candidate {
    Candidate::V1OrV2(Sha256::new().chain_update(secret))
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
    // An empty signature would match no request.
    v3_head(secret, method, uri).map(|head| head.over(&[body, timestamp.as_bytes()])).unwrap_or_default()
}

/// The v2 signature: hex of SHA-256 over secret, method, URI and body.
pub fn v2(secret: &str, method: &str, uri: &str, body: &[u8]) -> String {
    v2_head(secret, method, uri).over(&[body])
}

/// The v1 signature: hex of SHA-256 over secret and body.
pub fn v1(secret: &str, body: &[u8]) -> String {
    v1_head(secret).over(&[body])
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
    fn the_head_alone_shows_what_cannot_be_hubspots() {
        let begin = |headers| verifier(&[SECRET], false, false).begin("POST", None, headers, at(0)).map(|_| ());
        let with = |signature| SignatureHeaders { signature_v3: Some(signature), ..v3_headers() };
        assert_eq!(begin(v3_headers()), Ok(()));
        assert_eq!(begin(with("AAAA")), Err(SignatureError::Mismatch), "no signature has this form");
        assert_eq!(begin(with("ääääääääääääääääääääää")), Err(SignatureError::Mismatch));
        assert_eq!(begin(SignatureHeaders::default()), Err(SignatureError::Missing));
        let old = SignatureHeaders { timestamp: Some("1"), ..v3_headers() };
        assert_eq!(begin(old), Err(SignatureError::TooOld));
    }

    #[test]
    fn the_url_is_good_as_configured_and_with_the_query_of_the_call() {
        let check = |configured: &str, signed: &str, query: Option<&str>| {
            let signature = v3(SECRET, "POST", signed, BODY, SENT);
            let headers = SignatureHeaders { signature_v3: Some(&signature), ..v3_headers() };
            let verifier = SignatureVerifier::new(vec![SECRET.into()], configured, false, false);
            let mut verification = verifier.begin("POST", query, headers, at(0)).expect("the form of a signature");
            let (first, second) = BODY.split_at(7);
            verification.update(first);
            verification.update(second);
            verification.finish()
        };
        let (with_1, with_2) = (format!("{URL}?tenant=1"), format!("{URL}?tenant=2"));
        assert_eq!(check(URL, URL, None), Ok(()));
        assert_eq!(check(URL, &with_1, Some("tenant=1")), Ok(()));
        assert_eq!(check(&with_1, &with_1, Some("tenant=1")), Ok(()));
        assert_eq!(check(&with_1, &with_1, None), Ok(()), "a proxy removes queries");
        assert_eq!(check(URL, URL, Some("added-by-a-proxy")), Ok(()));
        assert_eq!(check(&with_1, &with_2, Some("tenant=2")), Ok(()));
        assert_eq!(check(URL, &with_1, None), Err(SignatureError::Mismatch));
        assert_eq!(check(URL, &with_1, Some("tenant=2")), Err(SignatureError::Mismatch));
        assert_eq!(check(URL, &format!("{URL}?q=a:b"), Some("q=a%3Ab")), Ok(()), "HubSpot decodes before it signs");
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
