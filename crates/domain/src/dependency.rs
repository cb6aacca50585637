//! The services of others that the fleet cannot work without.

use std::fmt;

use crate::{hash::sha256_hex_of_list, names::closed_set};

closed_set! {
    /// A service of others whose outage pauses the fleet. Its name is a column of the ledger's circuit breakers, a metric label
    /// and a check of `/readyz`.
    pub enum Dependency {
        HubSpot = "hubspot", "HubSpot's API.";
        OpenAi = "openai", "OpenAI's API, or a gateway to it.";
    }
}

/// Tells credentials apart without telling them: a short hash, the same for the same credential in every process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Eight hex digits: enough to tell the few credentials of a fleet apart, and too few to find one by.
    const LENGTH: usize = 8;

    /// The fingerprint of `secrets`, which together are one credential. The `salt` is that of the installation: tables that were made
    /// for others do not help.
    pub fn of<'a>(salt: &'a str, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut digest = sha256_hex_of_list(["leadline credential", salt].into_iter().chain(secrets));
        digest.truncate(Self::LENGTH);
        Self(digest)
    }

    /// A fingerprint that was stored.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a process calls a dependency with, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The dependency.
    pub dependency: Dependency,
    /// The setting that holds it.
    pub setting: &'static str,
    /// Tells it apart from others.
    pub fingerprint: Fingerprint,
}

impl Credential {
    /// Its circuit.
    pub fn circuit(&self) -> Circuit {
        Circuit::Credential(self.dependency, self.fingerprint.clone())
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with the fingerprint {}", self.setting, self.fingerprint)
    }
}

/// What a circuit breaker guards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Circuit {
    /// A dependency as a whole. While it is away, the whole fleet pauses.
    Dependency(Dependency),
    /// A credential of a dependency. While it is rejected, the workers that have it pause.
    Credential(Dependency, Fingerprint),
    /// A model as a playbook asks it. While it is away, the playbook pauses, or another model answers.
    Model(PlaybookModel),
}

/// A model as one version of a playbook asks it. A playbook that was edited, or asks another model, is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlaybookModel {
    /// The playbook's name.
    pub playbook: String,
    /// Its version.
    pub version: String,
    /// The model's name in the request.
    pub model: String,
}

impl From<Dependency> for Circuit {
    fn from(dependency: Dependency) -> Self {
        Self::Dependency(dependency)
    }
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dependency(dependency) => dependency.fmt(f),
            Self::Credential(dependency, fingerprint) => write!(f, "{dependency} (credential {fingerprint})"),
            Self::Model(PlaybookModel { playbook, version, model }) => write!(f, "{playbook}@{version}: {model}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dependency, Fingerprint};

    #[test]
    fn every_dependency_is_found_by_its_name() {
        for dependency in Dependency::ALL {
            assert_eq!(Dependency::parse(dependency.as_str()), Some(*dependency));
        }
        assert_eq!(Dependency::parse("postgres"), None);
    }

    #[test]
    fn a_fingerprint_is_the_same_everywhere_and_tells_neither_secret_nor_another_installation() {
        let of = |salt, secrets: &[&'static str]| Fingerprint::of(salt, secrets.iter().copied()).as_str().to_owned();
        let fingerprint = of("9876543", &["sk-geheim", "org"]);
        assert_eq!(fingerprint, of("9876543", &["sk-geheim", "org"]));
        assert!(fingerprint.len() == 8 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{fingerprint}");
        for other in [
            of("9876543", &["sk-geheim2", "org"]),
            of("9876543", &["sk-geheimorg", ""]),
            of("1", &["sk-geheim", "org"]),
        ] {
            assert_ne!(fingerprint, other);
        }
    }
}
