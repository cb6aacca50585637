//! Checks of single values, whose findings are collected.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::SettingsFinding,
    pem,
    transport::is_plain_text_elsewhere,
    urls::{self, HttpUrl},
};

/// Collects findings, so that all are reported together.
#[derive(Default)]
pub(crate) struct Check(Vec<SettingsFinding>);

impl Check {
    /// What was found.
    pub(crate) fn findings(self) -> Vec<SettingsFinding> {
        self.0
    }

    pub(crate) fn that(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.0.push(SettingsFinding { key: key.to_owned(), origin: None, message: message.into() });
        }
    }

    pub(crate) fn set<T>(&mut self, value: Option<&T>, key: &str) {
        let variable = format!("LEADLINE__{}", key.replace('.', "__").to_uppercase());
        self.that(value.is_some(), key, format!("is not set; give it here or as {variable}"));
    }

    pub(crate) fn secret(&mut self, value: Option<&SecretString>, key: &str) {
        self.set(value, key);
        self.that(value.is_none_or(|secret| !secret.expose_secret().is_empty()), key, "is empty");
        self.not_blank(value, key);
    }

    /// A secret that is more than white space, if it is anything.
    pub(crate) fn not_blank(&mut self, value: Option<&SecretString>, key: &str) {
        let is_blank = |secret: &str| !secret.is_empty() && secret.trim().is_empty();
        self.that(!value.is_some_and(|secret| is_blank(secret.expose_secret())), key, "is nothing but white space");
    }

    /// A secret that is sent in a header.
    pub(crate) fn header(&mut self, value: Option<&str>, key: &str) {
        let is_fine = value.is_none_or(|value| value.bytes().all(|byte| byte.is_ascii_graphic()));
        self.that(is_fine, key, "has a character in it that no key has: a space, a line break, or one beyond ASCII");
    }

    /// Certificates in PEM.
    pub(crate) fn certificates(&mut self, value: Option<&String>, key: &str) {
        let problem = value.and_then(|text| pem::certificates(text));
        self.that(problem.is_none(), key, problem.unwrap_or_default());
    }

    /// A certificate and its key, which are given together or not at all.
    pub(crate) fn pair(&mut self, certificate: Option<&String>, key: Option<&SecretString>, section: &str) {
        for (name, problem) in pem::pair(certificate.map(String::as_str), key) {
            self.that(false, &format!("{section}.{name}"), problem);
        }
    }

    pub(crate) fn all(&mut self, key: &str, problems: Vec<String>) {
        problems.into_iter().for_each(|problem| self.that(false, key, problem));
    }

    pub(crate) fn http(&mut self, value: &str, kind: HttpUrl, key: &str) {
        self.all(key, urls::http(value, kind));
    }

    /// A URL whose scheme `plain` is without TLS may lead to another machine only where `permission` says so.
    pub(crate) fn encrypted(&mut self, value: &str, plain: &str, key: &str, permission: (&str, bool)) {
        let is_fine = permission.1 || !is_plain_text_elsewhere(value, plain);
        self.that(
            is_fine,
            key,
            format!("{plain}:// to another machine can be read on the way; {}", allow(permission.0)),
        );
    }

    pub(crate) fn address(&mut self, value: &str, key: &str) {
        self.that(value.parse::<std::net::SocketAddr>().is_ok(), key, "must be ADDRESS:PORT, for example 0.0.0.0:8080");
    }

    pub(crate) fn within(&mut self, value: u64, range: std::ops::RangeInclusive<u64>, key: &str) {
        let message = format!("{value} is not within {}–{}", range.start(), range.end());
        self.that(range.contains(&value), key, message);
    }
}

/// How plain text is allowed all the same.
pub(crate) fn allow(key: &str) -> String {
    format!("where that is meant, say {key} = true")
}
