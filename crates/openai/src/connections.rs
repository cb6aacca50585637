//! Connections that carry many questions at once.
//!
//! Over TLS, OpenAI speaks HTTP/2: a client keeps one connection, and the host bounds how many questions it has open on it
//! (RFC 9113 recommends to allow 100 at least). What is asked beyond that would wait within the client, unseen. So there are
//! as many clients as it takes, and the first that has room is asked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::header::HeaderMap;

/// How connections are shared.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionSharing {
    /// So many questions share a connection where the host speaks HTTP/2.
    pub per_connection: usize,
    /// Speak HTTP/2 without asking: for a host without TLS that is known to understand it. Over TLS the host chooses.
    pub http2_prior_knowledge: bool,
}

/// Clients, each with a connection of its own (or as many as it needs, with HTTP/1.1): one more whenever the others are full.
#[derive(Debug, Clone)]
pub struct Connections {
    all: Arc<Mutex<Vec<SharedConnection>>>,
    sharing: ConnectionSharing,
    timeout: Duration,
    headers: HeaderMap,
}

/// A client, and the questions that are open on it: as many as there are clones of `open`, but one.
#[derive(Debug, Clone)]
pub struct SharedConnection {
    http: reqwest::Client,
    open: Arc<()>,
}

impl Connections {
    /// Makes the first client, so that what keeps clients from being made shows at the start. `timeout` bounds a try, and
    /// `headers` are sent with each.
    pub fn new(sharing: ConnectionSharing, timeout: Duration, headers: HeaderMap) -> Result<Self, reqwest::Error> {
        let connections = Self { all: Arc::default(), sharing, timeout, headers };
        connections.pick()?;
        Ok(connections)
    }

    /// The first connection that has room. What is given back counts as a question on it until it is dropped.
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
        let builder = http_client::builder(self.timeout).default_headers(self.headers.clone());
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
    fn a_connection_is_added_when_the_others_are_full_and_used_again_when_they_are_not() {
        // As every service does at its start; another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sharing = ConnectionSharing { per_connection: 2, http2_prior_knowledge: true };
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
