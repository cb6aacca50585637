//! The services of others that the fleet cannot work without.

use std::fmt;

/// A service whose outage pauses the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependency {
    /// HubSpot's API.
    HubSpot,
    /// OpenAI's API, or a gateway to it.
    OpenAi,
}

impl Dependency {
    /// Every dependency.
    pub const ALL: [Self; 2] = [Self::HubSpot, Self::OpenAi];

    /// The name in the ledger, in metrics and in `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HubSpot => "hubspot",
            Self::OpenAi => "openai",
        }
    }

    /// The dependency with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dependency| dependency.as_str() == name)
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Dependency;

    #[test]
    fn every_dependency_is_found_by_its_name() {
        for dependency in Dependency::ALL {
            assert_eq!(Dependency::parse(dependency.as_str()), Some(dependency));
        }
        assert_eq!(Dependency::parse("postgres"), None);
    }
}
