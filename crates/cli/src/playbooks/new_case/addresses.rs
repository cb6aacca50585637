//! Mail addresses, web addresses and phone numbers in texts.

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

/// Digits that may be a phone number; [`is_phone`] says whether they are.
pub static PHONE: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:\+|\(|\b)\d[\d ()/.\u{a0}-]{5,}\d"));

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

/// Whether digits are a phone number and no date, amount or other number.
pub fn is_phone(text: &str) -> bool {
    static DATE: LazyLock<Regex> =
        LazyLock::new(|| regex(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}\.\d{1,2}\.|^\d{1,2}[/-]\d{1,2}[/-]\d{2,4}"));
    static AMERICAN: LazyLock<Regex> = LazyLock::new(|| regex(r"^\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4}$"));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_dialled = text.starts_with('+') || text.trim_start_matches('(').starts_with('0');
    (7..=15).contains(&digits) && !DATE.is_match(text) && (is_dialled || AMERICAN.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::{company_of, domain_of, is_phone};

    #[test]
    fn phone_numbers_are_told_from_dates_and_amounts() {
        for phone in ["+49 (30) 123-4567", "0049 30 1234567", "0171/1234567", "(555) 123-4567", "555-123-4567"] {
            assert!(is_phone(phone), "{phone}");
        }
        for other in [
            "2026-02-01 10",
            "01.02.2026",
            "01.02. - 03.02.2026",
            "80.000 - 120.000",
            "12345678901",
            "1 000 000",
            "03/04/2026",
        ] {
            assert!(!is_phone(other), "{other}");
        }
    }

    #[test]
    fn a_host_belongs_to_who_registered_its_domain() {
        for (host, domain) in [("www.Bell.co.uk", "bell.co.uk"), ("eu.mail.bell.com", "bell.com"), ("bell", "bell")] {
            assert_eq!(domain_of(host), domain);
        }
        assert_eq!(company_of("mail.bell.com").as_deref(), Some("bell"));
        assert_eq!(company_of("gmail.com"), None);
    }
}
