//! The services of others that the fleet cannot work without.

use std::fmt;

use crate::names::closed_set;

closed_set! {
    /// A service of others whose outage pauses the fleet. Its name is a column of the ledger's circuit breakers, a metric label
    /// and a check of `/readyz`.
    pub enum Dependency {
        HubSpot = "hubspot", "HubSpot's API.";
        OpenAi = "openai", "OpenAI's API, or a gateway to it.";
    }
}

/// What a circuit breaker guards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Circuit {
    /// A dependency as a whole. While it is away, the whole fleet pauses.
    Dependency(Dependency),
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
            Self::Model(PlaybookModel { playbook, version, model }) => write!(f, "{playbook}@{version}: {model}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dependency;

    #[test]
    fn every_dependency_is_found_by_its_name() {
        for dependency in Dependency::ALL {
            assert_eq!(Dependency::parse(dependency.as_str()), Some(*dependency));
        }
        assert_eq!(Dependency::parse("postgres"), None);
    }
}
