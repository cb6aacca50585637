//! Links by which a person decides about one proposal without a shell. A link names the proposal and its end, and is signed; that it
//! works once is seen to by the proposal's state.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::WriteCommandId;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;
use time::OffsetDateTime;

/// Makes and checks links.
#[derive(Clone)]
pub struct ReviewLinks {
    key: Hmac<Sha256>,
    public_url: String,
    lasts: Duration,
}

/// What a link says beside the proposal's id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ticket {
    /// Of which claim the proposal came: a link is about what was proposed then, and nothing later.
    pub attempt: i32,
    /// When the link ends, in seconds since 1970.
    pub expires: i64,
    /// Who makes links has the secret.
    pub signature: String,
}

/// Why a link is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongTicket {
    /// It was not made with the secret.
    Forged,
    /// Its time is over.
    Expired,
}

impl ReviewLinks {
    /// Links to `public_url`, signed with `secret`, that end after `lasts`. `None` when the secret is empty.
    pub fn new(secret: &SecretString, public_url: &str, lasts: Duration) -> Option<Self> {
        let key = Hmac::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
        let public_url = public_url.trim_end_matches('/').to_owned();
        (!secret.expose_secret().is_empty()).then_some(Self { key, public_url, lasts })
    }

    /// The link to a proposal.
    pub fn url(&self, id: WriteCommandId, attempt: i32, now: OffsetDateTime) -> String {
        let expires = (now + self.lasts).unix_timestamp();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.mac(id, attempt, expires).finalize().into_bytes());
        format!("{}/review/{id}?attempt={attempt}&expires={expires}&signature={signature}", self.public_url)
    }

    /// Whether a link is one of these and not too old.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, id: WriteCommandId, ticket: &Ticket, now: OffsetDateTime) -> Result<(), WrongTicket> {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(&ticket.signature).map_err(|_| WrongTicket::Forged)?;
        // In constant time.
        self.mac(id, ticket.attempt, ticket.expires).verify_slice(&signature).map_err(|_| WrongTicket::Forged)?;
        if ticket.expires <= now.unix_timestamp() { Err(WrongTicket::Expired) } else { Ok(()) }
    }

    fn mac(&self, id: WriteCommandId, attempt: i32, expires: i64) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(format!("review/{id}/{attempt}/{expires}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_its_proposal_and_its_time_alone() {
        let links = |secret: &str| {
            ReviewLinks::new(&secret.to_owned().into(), "https://review.example.com/", Duration::from_secs(60))
                .expect("a secret")
        };
        let (ours, others, now) = (links("a secret"), links("another one"), OffsetDateTime::UNIX_EPOCH);
        let id = WriteCommandId::new();
        let url = ours.url(id, 2, now);
        assert!(url.starts_with(&format!("https://review.example.com/review/{id}?attempt=2&expires=60&signature=")));
        let signature = url.rsplit_once('=').expect("a signature").1.to_owned();
        let good = Ticket { attempt: 2, expires: 60, signature };
        assert_eq!(ours.check(id, &good, now), Ok(()));
        assert_eq!(ours.check(id, &good, now + Duration::from_secs(60)), Err(WrongTicket::Expired));
        assert_eq!(others.check(id, &good, now), Err(WrongTicket::Forged));
        assert_eq!(ours.check(WriteCommandId::new(), &good, now), Err(WrongTicket::Forged));
        for wrong in [
            Ticket { attempt: 3, ..good.clone() },
            Ticket { expires: 6_000, ..good.clone() },
            Ticket { signature: String::new(), ..good.clone() },
        ] {
            assert_eq!(ours.check(id, &wrong, now), Err(WrongTicket::Forged), "{wrong:?}");
        }
        assert!(ReviewLinks::new(&String::new().into(), "", Duration::ZERO).is_none());
    }
}
