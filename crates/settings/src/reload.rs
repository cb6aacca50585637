//! Values that are read again while a service runs, because the file that holds them has changed.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use crate::{
    error::InvalidSettings,
    source::without_break,
    tables::{ConfigScope, Settings},
    validate,
};

/// The settings whose value may change while a service runs. A closed set, because each of them needs somebody who takes the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reloadable {
    /// `ledger.url`
    LedgerUrl,
    /// `hubspot.token`
    HubSpotToken,
    /// `hubspot.client_secret`
    ClientSecret,
    /// `hubspot.client_secret_previous`
    PreviousClientSecret,
    /// `openai.api_key`
    OpenAiApiKey,
    /// `receiver.tls_certificate`
    ReceiverCertificate,
    /// `receiver.tls_key`
    ReceiverKey,
}

impl Reloadable {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LedgerUrl,
        Self::HubSpotToken,
        Self::ClientSecret,
        Self::PreviousClientSecret,
        Self::OpenAiApiKey,
        Self::ReceiverCertificate,
        Self::ReceiverKey,
    ];

    /// Whether it may be empty: there is no other secret but during a rotation.
    pub fn may_be_empty(self) -> bool {
        self == Self::PreviousClientSecret
    }

    /// The setting's name.
    pub fn key(self) -> &'static str {
        match self {
            Self::LedgerUrl => "ledger.url",
            Self::HubSpotToken => "hubspot.token",
            Self::ClientSecret => "hubspot.client_secret",
            Self::PreviousClientSecret => "hubspot.client_secret_previous",
            Self::OpenAiApiKey => "openai.api_key",
            Self::ReceiverCertificate => "receiver.tls_certificate",
            Self::ReceiverKey => "receiver.tls_key",
        }
    }
}

/// The files that hold values, by the setting's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueFiles(pub(crate) BTreeMap<String, PathBuf>);

impl ValueFiles {
    /// The file that holds a setting, if it is one that may change, and came from a file.
    pub fn of(&self, setting: Reloadable) -> Option<&Path> {
        self.0.get(setting.key()).map(PathBuf::as_path)
    }
}

/// The value that a file holds.
///
/// # Errors
/// It cannot be read, or is no text in UTF-8.
pub fn value_of(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file).map(|text| without_break(&text))
}

impl Settings {
    /// The value of a setting that may change.
    pub fn value(&self, setting: Reloadable) -> Option<&str> {
        let (hubspot, receiver) = (&self.hubspot, &self.receiver);
        let secret = match setting {
            Reloadable::LedgerUrl => Some(&self.ledger.url),
            Reloadable::HubSpotToken => hubspot.token.as_ref(),
            Reloadable::ClientSecret => hubspot.client_secret.as_ref(),
            Reloadable::PreviousClientSecret => hubspot.client_secret_previous.as_ref(),
            Reloadable::OpenAiApiKey => self.openai.api_key.as_ref(),
            Reloadable::ReceiverCertificate => return receiver.tls_certificate.as_deref(),
            Reloadable::ReceiverKey => receiver.tls_key.as_ref(),
        };
        secret.map(ExposeSecret::expose_secret)
    }

    /// The same settings with these values.
    ///
    /// # Errors
    /// They are not valid for `scope`. No value is told.
    pub fn with_values(
        &self,
        values: &BTreeMap<Reloadable, String>,
        scope: ConfigScope,
    ) -> Result<Self, InvalidSettings> {
        let mut settings = self.clone();
        for (setting, value) in values {
            let value = value.clone();
            match setting {
                Reloadable::LedgerUrl => settings.ledger.url = value.into(),
                Reloadable::HubSpotToken => settings.hubspot.token = Some(value.into()),
                Reloadable::ClientSecret => settings.hubspot.client_secret = Some(value.into()),
                Reloadable::PreviousClientSecret => settings.hubspot.client_secret_previous = Some(value.into()),
                Reloadable::OpenAiApiKey => settings.openai.api_key = Some(value.into()),
                Reloadable::ReceiverCertificate => settings.receiver.tls_certificate = Some(value),
                Reloadable::ReceiverKey => settings.receiver.tls_key = Some(value.into()),
            }
        }
        let findings = validate::findings(&settings, scope);
        if findings.is_empty() { Ok(settings) } else { Err(InvalidSettings(findings)) }
    }
}
