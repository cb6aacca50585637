//! Which values a property takes.

use std::collections::BTreeMap;

use domain::ObjectType;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{portal::Portal, properties};

/// HubSpot's longest text value, in characters.
const MAX_TEXT: usize = 65_536;

/// What is wrong with `values`: property, HubSpot's code, what is wrong.
pub(super) fn problems(
    portal: &Portal,
    object_type: &ObjectType,
    values: &BTreeMap<String, String>,
) -> Vec<(String, &'static str, String)> {
    let problem = |(name, value): (&String, &String)| {
        let definition = properties::of(object_type)
            .iter()
            .find(|definition| definition.name == name && !portal.missing_properties.contains(name));
        let Some(definition) = definition else {
            return Some((name.clone(), "PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist")));
        };
        if value.is_empty() {
            return None;
        }
        let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
        let wrong = match definition.kind {
            "number" if !is_number => Some(("INVALID_INTEGER", format!("{value} was not a valid number."))),
            "number" => {
                let above = |rule: &super::portal::PropertyRule| value.parse::<i64>().is_ok_and(|n| n > rule.maximum);
                let too_large = portal.rules.get(name).is_some_and(above);
                too_large.then(|| ("INVALID_LONG", format!("{value} is above the maximum set for this property.")))
            }
            "datetime" if OffsetDateTime::parse(value, &Rfc3339).is_err() && value.parse::<i64>().is_err() => {
                Some(("INVALID_DATE", format!("{value} was not a valid date.")))
            }
            "enumeration" if !definition.options.contains(&value.as_str()) => {
                Some(("INVALID_OPTION", format!("{value} was not one of the allowed options.")))
            }
            "string" if value.chars().count() > MAX_TEXT => {
                Some(("VALUE_TOO_LONG", format!("the value has more than {MAX_TEXT} characters.")))
            }
            _ => None,
        };
        wrong.map(|(code, message)| (name.clone(), code, message))
    };
    values.iter().filter_map(problem).collect()
}
