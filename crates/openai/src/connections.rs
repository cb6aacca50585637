//! Connections that carry many questions at once.
//!
//! Over TLS, OpenAI speaks HTTP/2: a client keeps one connection, and the host bounds how many questions it has open on it
//! (RFC 9113 recommends to allow 100 at least). What is asked beyond that would wait within the client, unseen. So there are
//! as many clients as it takes, and the first that has room is asked.

use std::sync::Arc;

/// How connections are shared.
#[derive(Debug, Clone, Copy)]
pub struct Sharing {
    /// Questions that are open at once.
    pub questions: usize,
    /// Of these, so many share a connection where the host speaks HTTP/2.
    pub per_connection: usize,
    /// Speak HTTP/2 without asking: for a host without TLS that is known to understand it. Over TLS the host chooses.
    pub http2_prior_knowledge: bool,
}

/// Clients, each with a connection of its own (or as many as it needs, with HTTP/1.1).
#[derive(Debug, Clone)]
pub struct Connections {
    all: Arc<[Connection]>,
    per_connection: usize,
}

/// A client, and the questions that are open on it: as many as there are clones of `open`, but one.
#[derive(Debug, Clone)]
pub struct Connection {
    http: reqwest::Client,
    open: Arc<()>,
}

impl Connections {
    pub fn new(sharing: &Sharing, builder: impl Fn() -> reqwest::ClientBuilder) -> Result<Self, reqwest::Error> {
        let per_connection = sharing.per_connection.max(1);
        let count = sharing.questions.div_ceil(per_connection).max(1);
        let connection = |_| {
            let builder = builder();
            let builder = if sharing.http2_prior_knowledge { builder.http2_prior_knowledge() } else { builder };
            Ok(Connection { http: builder.build()?, open: Arc::default() })
        };
        Ok(Self { all: (0..count).map(connection).collect::<Result<_, reqwest::Error>>()?, per_connection })
    }

    /// The first connection that has room, or else the one with the fewest questions. What is given back counts as a question
    /// on it until it is dropped.
    pub fn pick(&self) -> Connection {
        let too_many =
            |connection: &&Connection| Arc::strong_count(&connection.open).saturating_sub(self.per_connection);
        self.all.iter().min_by_key(too_many).unwrap_or(&self.all[0]).clone()
    }
}

impl Connection {
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }
}
