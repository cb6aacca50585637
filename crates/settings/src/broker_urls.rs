//! `broker.url`: one URL, or those of the nodes of a cluster.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::sections::BrokerSection;

/// What a URL of RabbitMQ begins with.
const BEGINNINGS: [&str; 2] = ["amqp://", "amqps://"];

impl BrokerSection {
    /// The URLs, at least one. A comma ends a URL only where the next one begins, because a password may hold one.
    pub fn urls(&self) -> Vec<SecretString> {
        split(self.url.expose_secret()).into_iter().map(Into::into).collect()
    }
}

fn split(text: &str) -> Vec<&str> {
    let (mut urls, mut start) = (Vec::new(), 0);
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].trim_start();
        if BEGINNINGS.iter().any(|beginning| next.starts_with(beginning)) {
            urls.push(text[start..comma].trim());
            start = comma + 1;
        }
    }
    urls.push(text[start..].trim());
    urls
}

/// Whether all URLs lead to the same virtual host: the nodes of a cluster share them. What is no URL is not judged: a check of its
/// own says so.
pub(crate) fn share_a_virtual_host(urls: &[SecretString]) -> bool {
    let parsed = urls.iter().filter_map(|url| Url::parse(url.expose_secret()).ok());
    let mut hosts: Vec<_> = parsed.map(|url| url.path().to_ascii_lowercase()).collect();
    hosts.dedup();
    hosts.len() <= 1
}

/// Whether a virtual host has a comma, after which no URL begins: most likely the next node was named without its scheme.
pub(crate) fn has_comma_in_virtual_host(url: &SecretString) -> bool {
    Url::parse(url.expose_secret()).is_ok_and(|url| url.path().contains(','))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::{has_comma_in_virtual_host, share_a_virtual_host, split};

    #[test]
    fn a_comma_ends_a_url_only_where_another_one_begins() {
        assert_eq!(split("amqp://u:p@a/%2f"), ["amqp://u:p@a/%2f"]);
        assert_eq!(split("amqp://u:p,q@a/x, amqps://u:p,q@b/x,"), ["amqp://u:p,q@a/x", "amqps://u:p,q@b/x,"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn urls_with_different_virtual_hosts_are_told_apart() {
        let urls = |all: &[&str]| all.iter().map(|url| SecretString::from(*url)).collect::<Vec<_>>();
        assert!(share_a_virtual_host(&urls(&["amqp://a/%2f", "amqps://b:5671/%2F", "no URL"])));
        assert!(!share_a_virtual_host(&urls(&["amqp://a/one", "amqp://a/two"])));
        assert!(has_comma_in_virtual_host(&"amqp://a:5672/one,b:5672/one".into()));
        assert!(!has_comma_in_virtual_host(&"amqp://u:p,q@a:5672/one%2c".into()));
    }
}
