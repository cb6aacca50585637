//! Connections that many requests share.
//!
//! Over TLS, OpenAI speaks HTTP/2: an HTTP client keeps one connection, and the host bounds how many requests are open
//! on it (RFC 9113, section 6.5.2, recommends at least 100). Further requests would wait inside the HTTP client, where
//! no metric shows them. So there are as many HTTP clients as needed, and a request takes the first one that has room.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_client::Trust;
use reqwest::header::HeaderMap;

use crate::OpenAiSetupError;

/// How connections are made, and how requests share them.
#[derive(Debug, Clone)]
pub struct ConnectionSharing {
    /// Authorities that are trusted beside the system's, in PEM.
    pub authorities: Option<String>,
    /// The most open requests of one connection, where the host speaks HTTP/2.
    pub per_connection: usize,
    /// Speak HTTP/2 without negotiation, to a host without TLS that is known to support it. Over TLS the host chooses.
    pub http2_prior_knowledge: bool,
}

/// HTTP clients, each with its own connection (with HTTP/1.1 as many as it needs). One is added when all others are
/// full.
#[derive(Debug, Clone)]
pub struct Connections {
    all: Arc<Mutex<Vec<SharedConnection>>>,
    sharing: ConnectionSharing,
    trust: Trust,
    timeout: Duration,
    headers: HeaderMap,
}

/// An HTTP client and a count of its open requests: the number of clones of `open` less one, which is the pool's own.
#[derive(Debug, Clone)]
pub struct SharedConnection {
    http: reqwest::Client,
    open: Arc<()>,
}

impl Connections {
    /// Creates the first HTTP client, so that an error of its setup shows at the start. `timeout` bounds an attempt;
    /// `headers` are sent with each request.
    pub fn new(sharing: ConnectionSharing, timeout: Duration, headers: HeaderMap) -> Result<Self, OpenAiSetupError> {
        let trust = Trust::system_and(sharing.authorities.as_deref())?;
        let connections = Self { all: Arc::default(), sharing, trust, timeout, headers };
        connections.pick()?;
        Ok(connections)
    }

    /// The first connection that has room. The returned clone counts as an open request until it is dropped.
    pub fn pick(&self) -> Result<SharedConnection, reqwest::Error> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room =
            |connection: &&SharedConnection| Arc::strong_count(&connection.open) <= self.sharing.per_connection.max(1);
        if let Some(connection) = all.iter().find(has_room) {
            return Ok(connection.clone());
        }
        let connection = SharedConnection { http: self.client()?, open: Arc::default() };
        all.push(connection.clone());
        Ok(connection)
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        let builder = self.trust.apply(http_client::builder(self.timeout)).default_headers(self.headers.clone());
        if self.sharing.http2_prior_knowledge { builder.http2_prior_knowledge() } else { builder }.build()
    }
}

impl SharedConnection {
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::HeaderMap;

    use super::{ConnectionSharing, Connections};

    #[test]
    fn a_connection_is_added_when_the_others_are_full_and_reused_when_it_has_room() {
        // Every service installs a TLS provider at its start. An error means that another test has already done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sharing = ConnectionSharing { authorities: None, per_connection: 2, http2_prior_knowledge: true };
        let connections = Connections::new(sharing, Duration::from_secs(1), HeaderMap::new()).expect("a client");
        let count = || connections.all.lock().expect("unpoisoned").len();
        let mut open: Vec<_> = (0..4).map(|_| connections.pick().expect("a client")).collect();
        assert_eq!(count(), 2);
        open.remove(0);
        open.push(connections.pick().expect("a client"));
        assert_eq!(count(), 2, "the first has room again");
        open.push(connections.pick().expect("a client"));
        assert_eq!(count(), 3);
    }
}
