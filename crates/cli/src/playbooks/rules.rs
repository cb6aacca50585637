//! Whether the rules that a portal's admin has set on values refuse what a playbook may write.

use hubspot::client::PropertyRule;
use playbook::FieldKind;

use crate::needs::NeededProperty;

/// The rules that what the playbook writes may break, in words.
pub fn broken_rules(property: &NeededProperty, rules: &[PropertyRule]) -> Vec<String> {
    let of_property = rules.iter().filter(|rule| rule.property == property.name);
    of_property.filter_map(|rule| broken_rule(property, rule)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "bounds of a playbook are far below 2^53")]
fn broken_rule(property: &NeededProperty, rule: &PropertyRule) -> Option<String> {
    let (smallest, largest) = match &property.field {
        Some(FieldKind::Integer { minimum, maximum }) => (Some(*minimum as f64), Some(*maximum as f64)),
        Some(FieldKind::Number { minimum, maximum }) => (Some(*minimum), Some(*maximum)),
        Some(FieldKind::Text { max_length }) => (None, Some(*max_length as f64)),
        _ => (None, None),
    };
    let bound = rule.number();
    let is_safe = match rule.rule.as_str() {
        "MAX_NUMBER" | "MAX_LENGTH" => largest.zip(bound).is_some_and(|(largest, bound)| largest <= bound),
        "MIN_NUMBER" => smallest.zip(bound).is_some_and(|(smallest, bound)| smallest >= bound),
        // HubSpot writes decimal numbers as they come.
        "DECIMAL" => matches!(property.field, Some(FieldKind::Integer { .. })),
        // Whether a text keeps such a rule is not known before it is written.
        _ => false,
    };
    (!is_safe).then(|| {
        let arguments = rule.arguments.join(", ");
        format!("the portal's rule {} ({arguments}) may refuse what `{}` writes", rule.rule, property.playbook)
    })
}

#[cfg(test)]
mod tests {
    use domain::ObjectType;
    use hubspot::client::PropertyRule;
    use playbook::FieldKind;

    use super::broken_rules;
    use crate::needs::NeededProperty;

    fn score(rule: &str, argument: &str) -> usize {
        let property = NeededProperty {
            object_type: ObjectType::Contact,
            name: "lead_score".to_owned(),
            kind: "number",
            field_type: "number",
            options: vec![],
            field: Some(FieldKind::Integer { minimum: 0, maximum: 100 }),
            description: String::new(),
            playbook: "leads".to_owned(),
        };
        let of = |property: &str| PropertyRule {
            property: property.to_owned(),
            rule: rule.to_owned(),
            arguments: vec![argument.to_owned()],
        };
        broken_rules(&property, &[of("lead_score"), of("another")]).len()
    }

    #[test]
    fn a_rule_that_the_playbooks_bounds_keep_is_no_problem() {
        for (rule, argument, broken) in [
            ("MAX_NUMBER", "100", 0),
            ("MAX_NUMBER", "50", 1),
            ("MIN_NUMBER", "0", 0),
            ("MIN_NUMBER", "1", 1),
            ("DECIMAL", "2", 0),
            ("REGEX", "^[0-9]$", 1),
        ] {
            assert_eq!(score(rule, argument), broken, "{rule} {argument}");
        }
    }
}
