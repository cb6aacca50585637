//! Values that are read again while a service runs, because the file that holds them has changed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use crate::{
    error::{InvalidSettings, SettingsFinding},
    source::without_break,
    tables::{ConfigScope, Settings},
    urls::differ_in_user_only,
    validate,
};

/// The settings whose value may change while a service runs. A closed set, because each of them needs a taker of the new one.
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

/// The largest file that holds a value, in bytes. A chain of certificates has some ten thousand.
const MAX_FILE: u64 = 1_024 * 1_024;

/// The value that a file holds.
///
/// # Errors
/// It cannot be read, is too large, or is no text in UTF-8.
pub(crate) fn value_of(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(without_break(&text))
}

/// The value that a file holds now. A service may begin with a pipe, but nothing comes from one a second time.
///
/// # Errors
/// As [`value_of`], or it is no regular file.
pub fn value_again(file: &Path) -> io::Result<String> {
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    value_of(file)
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
        let mut findings = validate::findings(&settings, scope);
        if !differ_in_user_only(self.ledger.url.expose_secret(), settings.ledger.url.expose_secret()) {
            findings.push(SettingsFinding {
                key: Reloadable::LedgerUrl.key().to_owned(),
                origin: None,
                message: "leads elsewhere or has other parameters, which needs a restart: only user and password may change before"
                    .to_owned(),
            });
        }
        if findings.is_empty() { Ok(settings) } else { Err(InvalidSettings(findings)) }
    }
}
