//! The services of others that the fleet cannot work without.

use crate::names::closed_set;

closed_set! {
    /// A service of others whose outage pauses the fleet. Its name is a column of the ledger's circuit breakers, a metric label
    /// and a check of `/readyz`.
    pub enum Dependency {
        HubSpot = "hubspot", "HubSpot's API.";
        OpenAi = "openai", "OpenAI's API, or a gateway to it.";
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
