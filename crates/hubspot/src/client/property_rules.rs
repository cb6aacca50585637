//! The rules that a portal's admin sets on values, which bind writes through the API, too.

use domain::ObjectType;
use serde::Deserialize;

use super::{
    error::HubSpotError,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// A rule on the values of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyRule {
    /// The property's internal name.
    pub property: String,
    /// `MAX_NUMBER`, `MAX_LENGTH`, `REGEX`, …
    pub rule: String,
    /// The rule's bounds or patterns, as HubSpot writes them.
    pub arguments: Vec<String>,
}

impl PropertyRule {
    /// The bound of a rule that has one number.
    pub fn number(&self) -> Option<f64> {
        self.arguments.first()?.trim().parse().ok()
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<PropertyRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PropertyRules {
    property_name: String,
    #[serde(default, alias = "rules")]
    property_validation_rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    rule_type: String,
    #[serde(default)]
    rule_arguments: Vec<String>,
}

impl HubSpotClient {
    /// The rules on the values of an object type's properties.
    ///
    /// # Errors
    /// The call fails.
    pub async fn property_rules(&self, object_type: &ObjectType) -> Result<Vec<PropertyRule>, HubSpotError> {
        let path = self.version().property_rules(object_type);
        let answer: Answer = self.call(&Call::get(Operation::ListPropertyRules, &path, &[])).await?;
        let rules =
            answer.results.into_iter().flat_map(|PropertyRules { property_name, property_validation_rules }| {
                property_validation_rules.into_iter().map(move |rule| PropertyRule {
                    property: property_name.clone(),
                    rule: rule.rule_type,
                    arguments: rule.rule_arguments,
                })
            });
        Ok(rules.collect())
    }
}
