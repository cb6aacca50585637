//! Where a URL leads, and whether what is sent there can be read or changed on the way.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::sections::LedgerSection;

/// Whether the URL's scheme is `plain`, which is without TLS, and leads to another machine. What is no URL is not judged: a
/// check of its own says so.
pub(crate) fn is_plain_text_elsewhere(url: &str, plain: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == plain && !url.host_str().is_some_and(is_loopback))
}

/// Whether only this machine answers under this host. `0.0.0.0` is no such host: it stands for all.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How the ledger's URL says that Postgres is to be reached.
pub(crate) struct PostgresTransport {
    /// Over loopback or a Unix socket.
    pub(crate) stays_here: bool,
    /// The parameter `sslmode`, in lower case; `None` when the URL has none.
    pub(crate) ssl_mode: Option<String>,
}

impl PostgresTransport {
    /// Reads it as sqlx does, where the parameters `host` and `hostaddr` outweigh the host before the path. `None` when it is
    /// no URL.
    pub(crate) fn of(url: &SecretString) -> Option<Self> {
        let url = Url::parse(url.expose_secret()).ok()?;
        // A host that begins with a slash is the folder of a socket, percent-encoded before the path.
        let is_socket = |host: &str| host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
        let hosts: Vec<_> = url.query_pairs().filter(|(name, _)| name == "host" || name == "hostaddr").collect();
        let mut named = hosts.iter().map(|(_, host)| &**host);
        // Without any, libpq's variables and defaults would decide.
        let mut all = url.host_str().into_iter().chain(named.clone());
        let last = named.next_back().or(url.host_str());
        let stays_here = all.any(is_socket) || last.is_some_and(is_loopback);
        let modes = url.query_pairs().filter(|(name, _)| name == "sslmode" || name == "ssl-mode");
        Some(Self { stays_here, ssl_mode: modes.last().map(|(_, mode)| mode.to_ascii_lowercase()) })
    }

    /// Whether the server's certificate is verified, or nobody is on the way.
    pub(crate) fn is_safe(&self) -> bool {
        // Without a mode, `LedgerSection::url` adds the strictest.
        let is_verified = self.ssl_mode.as_deref().is_none_or(|mode| ["verify-ca", "verify-full"].contains(&mode));
        self.stays_here || is_verified
    }
}

impl LedgerSection {
    /// The URL to connect to: `url`, with `sslmode=verify-full` when it leads to another machine and has no `sslmode`. By
    /// itself the client would take what the server offers, down to plain text.
    pub fn url(&self) -> SecretString {
        with_tls(&self.url)
    }

    /// The URL for migrations, in the same way: `migrate_url`, else `url`.
    pub fn migrate_url(&self) -> SecretString {
        with_tls(self.migrate_url.as_ref().unwrap_or(&self.url))
    }
}

fn with_tls(url: &SecretString) -> SecretString {
    match PostgresTransport::of(url) {
        Some(PostgresTransport { stays_here: false, ssl_mode: None }) => {
            let url = url.expose_secret();
            let separator = if url.contains('?') { '&' } else { '?' };
            format!("{url}{separator}sslmode=verify-full").into()
        }
        _ => url.clone(),
    }
}
