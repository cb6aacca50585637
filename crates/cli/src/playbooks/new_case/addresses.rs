//! Mail addresses and web addresses in texts.

use std::sync::LazyLock;

use regex::Regex;

use super::names::regex;

/// A mail address: the mailbox and its host.
pub static MAIL: LazyLock<Regex> =
    LazyLock::new(|| regex(r"([\p{L}\p{N}._%+'-]+)@([\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+)"));

/// An address of the web: with a scheme, with `www`, or with an end that hardly any other text has.
pub static WEB: LazyLock<Regex> = LazyLock::new(|| {
    let rest = r#"[^\s<>"'()\[\]]"#;
    let ends = "com|org|net|info|biz|io|ai|app|dev|cloud|shop|online|tech|eu|de|at|ch|uk|ie|fr|es|it|nl|be|lu|pl|cz|dk|se|no|fi|pt|us|ca|au|nz|in|jp|cn|br|mx|za";
    regex(&format!(r"(?i:https?://|\bwww\.){rest}+|\b(?:[\p{{L}}\p{{N}}-]+\.)+(?:{ends})\b(?:/{rest}*)?"))
});

/// Providers of mailboxes are no companies that a text is about.
const MAIL_PROVIDERS: [&str; 14] = [
    "aol",
    "freenet",
    "gmail",
    "gmx",
    "googlemail",
    "hotmail",
    "icloud",
    "live",
    "mail",
    "outlook",
    "posteo",
    "proton",
    "web",
    "yahoo",
];

/// What a company with this host is called; `None` for a host where anybody has a mailbox.
pub fn company_of(host: &str) -> Option<String> {
    let domain = domain_of(host);
    let label = domain.split('.').next().unwrap_or_default();
    (label.chars().count() >= 4 && !MAIL_PROVIDERS.contains(&label)).then(|| label.to_owned())
}

/// The registered domain.
pub fn domain_of(host: &str) -> String {
    let host = host.to_lowercase();
    let labels: Vec<_> = host.trim_matches('.').split('.').collect();
    let is_shared = |label: &str| ["ac", "co", "com", "gov", "net", "org"].contains(&label);
    let own = match labels[..] {
        [.., second, last] if last.len() == 2 && is_shared(second) => 3,
        _ => 2,
    };
    labels[labels.len().saturating_sub(own)..].join(".")
}

#[cfg(test)]
mod tests {
    use super::{company_of, domain_of};

    #[test]
    fn a_host_belongs_to_who_registered_its_domain() {
        for (host, domain) in [("www.Bell.co.uk", "bell.co.uk"), ("eu.mail.bell.com", "bell.com"), ("bell", "bell")] {
            assert_eq!(domain_of(host), domain);
        }
        assert_eq!(company_of("mail.bell.com").as_deref(), Some("bell"));
        assert_eq!(company_of("gmail.com"), None);
    }
}
