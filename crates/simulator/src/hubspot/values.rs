//! Checks values against the definitions of their properties.

use std::collections::BTreeMap;

use domain::ObjectType;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{pipelines, portal::Portal};

/// The longest text that HubSpot stores, in characters.
const MAX_TEXT: usize = 65_536;

/// What HubSpot rejects among `values`: the property, HubSpot's code and the message.
pub(super) fn problems(
    portal: &Portal,
    object_type: &ObjectType,
    values: &BTreeMap<String, String>,
) -> Vec<(String, &'static str, String)> {
    let problem = |(name, value): (&String, &String)| {
        let Some(definition) = portal.definition(object_type, name) else {
            return Some((name.clone(), "PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist")));
        };
        if portal.is_read_only(definition) {
            return Some((name.clone(), "READ_ONLY_VALUE", format!("{name} is a read only property")));
        }
        if value.is_empty() {
            return None;
        }
        if name == "hubspot_owner_id" && !pipelines::is_owner(value) {
            return Some((name.clone(), "INVALID_OWNER_ID", format!("Owner {value} does not exist")));
        }
        if let Some(options) = pipelines::options(object_type, name)
            && !options.contains(&value.as_str())
        {
            return Some((name.clone(), "INVALID_OPTION", format!("{value} was not one of the allowed options.")));
        }
        let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
        let flaw = match definition.kind.as_str() {
            "number" if !is_number => Some(("INVALID_INTEGER", format!("{value} was not a valid number."))),
            "number" => {
                let exceeds = |maximum: &i64| value.parse::<i64>().is_ok_and(|number| number > *maximum);
                let is_too_large = portal.quirks.maxima.get(name).is_some_and(exceeds);
                is_too_large.then(|| ("INVALID_LONG", format!("{value} is above the maximum set for this property.")))
            }
            "datetime" if OffsetDateTime::parse(value, &Rfc3339).is_err() && value.parse::<i64>().is_err() => {
                Some(("INVALID_DATE", format!("{value} was not a valid date.")))
            }
            "date" if time::Date::parse(value, &time::format_description::well_known::Iso8601::DATE).is_err() => {
                Some(("INVALID_DATE", format!("{value} was not a valid date.")))
            }
            "bool" if !["true", "false"].contains(&value.as_str()) => {
                Some(("INVALID_OPTION", format!("{value} was not one of the allowed options.")))
            }
            "enumeration" if !definition.options.is_empty() && !definition.options.contains(value) => {
                Some(("INVALID_OPTION", format!("{value} was not one of the allowed options.")))
            }
            "string" if value.chars().count() > MAX_TEXT => {
                Some(("VALUE_TOO_LONG", format!("the value has more than {MAX_TEXT} characters.")))
            }
            _ => None,
        };
        flaw.map(|(code, message)| (name.clone(), code, message))
    };
    values.iter().filter_map(problem).collect()
}

/// What an admin's rules require beside `values`, and the record does not have.
pub(super) fn missing(
    portal: &Portal,
    (object_type, id): (&ObjectType, i64),
    values: &BTreeMap<String, String>,
) -> Option<(String, &'static str, String)> {
    let name = portal.quirks.required_with_stage.get(values.get("dealstage")?)?;
    let current = portal.get(object_type, id).map(|record| &record.properties);
    let given = [Some(values), current].into_iter().flatten().filter_map(|all| all.get(name));
    let is_missing = given.filter(|value| !value.is_empty()).count() == 0;
    is_missing.then(|| (name.clone(), "REQUIRED_FIELD", format!("{name} is required in this stage")))
}
