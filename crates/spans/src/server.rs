//! The other side of a call.

use opentelemetry::KeyValue;
use url::Url;

/// Whose address is called: host and port, without path, user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The host's name or address.
    pub address: String,
    /// The port.
    pub port: u16,
}

impl Server {
    /// The server of a URL; `None` if it has no host or no known port.
    pub fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        Some(Self { address: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }

    pub(crate) fn attributes(server: Option<&Self>) -> [Option<KeyValue>; 2] {
        [
            server.map(|server| KeyValue::new("server.address", server.address.clone())),
            server.map(|server| KeyValue::new("server.port", i64::from(server.port))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn a_server_is_named_without_what_else_a_url_holds() {
        let server = |url| Server::of(url).map(|server| (server.address, server.port));
        assert_eq!(server("https://u:secret@api.hubapi.com/crm?x=1"), Some(("api.hubapi.com".to_owned(), 443)));
        assert_eq!(server("http://127.0.0.1:8090/v1"), Some(("127.0.0.1".to_owned(), 8_090)));
        assert_eq!((server("not a url"), server("unix:/tmp/socket")), (None, None));
    }
}
