//! What can be wrong with the settings.

use std::fmt;

/// One invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFinding {
    /// The setting, as in the TOML file.
    pub key: String,
    /// The file or the environment variable that it came from, if it was given.
    pub origin: Option<String>,
    /// What is wrong. Never quotes a secret.
    pub message: String,
}

impl fmt::Display for SettingsFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("settings:\n{}", .0.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n"))]
pub struct InvalidSettings(pub Vec<SettingsFinding>);

/// A setting that has no default is not given. Holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not set")]
pub struct MissingSetting(pub &'static str);
