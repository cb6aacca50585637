//! The users of Leadline's programs, the same in Postgres (`deploy/postgres`) and in RabbitMQ (`deploy/rabbitmq`).

use anyhow::{Context, Result};

use crate::urls;

/// A user with the rights of one program, and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `leadline migrate`.
    Owner,
    /// `leadline-receiver`, which does not use Postgres.
    Receiver,
    /// `leadline-inference`.
    Inference,
    /// `leadline-writer`.
    Writer,
    /// `leadline`.
    Operator,
    /// People who read the ledger, and do not use RabbitMQ.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Receiver, Self::Inference, Self::Writer, Self::Operator, Self::Auditor];

    /// The user's name. In tests it is the password as well.
    pub fn user(self) -> &'static str {
        match self {
            Self::Owner => "leadline_owner",
            Self::Receiver => "leadline_receiver",
            Self::Inference => "leadline_inference",
            Self::Writer => "leadline_writer",
            Self::Operator => "leadline_operator",
            Self::Auditor => "leadline_auditor",
        }
    }

    /// The same URL for this user, or the same URLs.
    ///
    /// # Errors
    ///
    /// When one has no scheme.
    pub fn url(self, url: &str) -> Result<String> {
        urls::each(url, |url| {
            let (scheme, rest) = url.split_once("://").with_context(|| format!("`{url}` has no scheme"))?;
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let user = self.user();
            Ok(format!("{scheme}://{user}:{user}@{host}"))
        })
    }
}
