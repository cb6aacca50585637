//! Proposals: in which mode a playbook's writes are for a record, and whether a rule approves what is proposed.

use domain::{
    RecordRef,
    hash::sha256_hex_of_list,
    review::{ApprovalRule, ReviewTerms, WriteMode},
};
use serde_json::{Map, Value, json};

use crate::{
    Playbook,
    effects::{ReviewPlan, WriteValue},
    fields::{AnswerField, AnswerFields, FieldKind, property_value},
    templates::{TemplateError, Templates, Variables},
    text::MAX_HUBSPOT_TEXT,
};

/// The property that an action changes which moves a deal.
pub(crate) const STAGE: &str = "dealstage";

/// The size of a change that no number expresses: larger than any bound.
const NO_NUMBER: f64 = 1e300;

/// A property that a proposal would set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedChange<'a> {
    /// Its internal name.
    pub property: &'a str,
    /// The value now; `None` when it is empty.
    pub before: Option<&'a str>,
    /// The proposed value.
    pub after: &'a str,
}

impl ReviewPlan {
    /// The mode of what the playbook named `playbook` writes and does about `record`, as far as nothing has a more careful one of
    /// its own. The same record is always on the same side of the canary.
    pub(crate) fn mode_for(&self, playbook: &str, record: &RecordRef) -> WriteMode {
        let Some(canary) = self.canary else { return self.mode };
        let hash = sha256_hex_of_list([playbook, &record.to_string()]);
        // The first 32 of 256 bits: their remainder is even enough.
        let percent = usize::from_str_radix(&hash[..8], 16).unwrap_or(0) % 100;
        if percent < canary { self.mode } else { WriteMode::Shadow }
    }
}

/// Why a value cannot be written to a property.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The playbook says nothing of it.
    #[error("the playbook `{playbook}` does not write `{property}`")]
    NotWritten {
        /// The playbook.
        playbook: String,
        /// The property.
        property: String,
    },
    /// It is longer than HubSpot accepts.
    #[error("{0} characters are more than the {MAX_HUBSPOT_TEXT} that HubSpot accepts")]
    TooLong(usize),
    /// It is not within the field's bounds, or of another type.
    #[error("`{field}`: {problem}")]
    Mismatch {
        /// The field of the answer.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

impl Playbook {
    /// The `text` in HubSpot's form, as a value of the property in place of the model's: the rules of its field hold for it.
    ///
    /// # Errors
    /// When the playbook would not accept it.
    pub fn checked_value(&self, property: &str, text: &str) -> Result<String, EditError> {
        let length = text.chars().count();
        if length > MAX_HUBSPOT_TEXT {
            return Err(EditError::TooLong(length));
        }
        let not_written = || EditError::NotWritten { playbook: self.name.clone(), property: property.to_owned() };
        let write = self.effects.writes.iter().find(|write| write.property == property).ok_or_else(not_written)?;
        let WriteValue::Field(name) = &write.value else { return Ok(text.to_owned()) };
        let field = self.answer.fields.get(name).ok_or_else(not_written)?;
        let mismatch = |problem: String| EditError::Mismatch { field: name.clone(), problem };
        let value = match &field.kind {
            FieldKind::Text { .. } | FieldKind::Choice { .. } | FieldKind::Date => json!(text),
            _ => serde_json::from_str(text.trim())
                .map_err(|_| mismatch(format!("`{text}` is no {}", field.kind.json_type())))?,
        };
        let alone = AnswerField { optional: false, evidence: false, ..field.clone() };
        let rules = AnswerFields::new(vec![alone]).map_err(|error| mismatch(error.to_string()))?;
        let checked =
            rules.check(&json!({name.as_str(): value}).to_string()).map_err(|error| mismatch(error.to_string()))?;
        let value = checked.get(name).and_then(property_value).unwrap_or_default();
        Ok(if matches!(field.kind, FieldKind::Text { .. }) { self.shown_text(value) } else { value })
    }
}

/// The first rule that approves a proposal of these changes and actions.
///
/// # Errors
/// When a rule cannot be evaluated, and none before it approves: then a person decides.
pub fn approving_rule<'r>(
    terms: &'r ReviewTerms,
    changes: &[ProposedChange<'_>],
    actions: &[&str],
) -> Result<Option<&'r ApprovalRule>, TemplateError> {
    if terms.approve_if.is_empty() {
        return Ok(None);
    }
    let mut variables = Variables::default();
    for (name, value) in &terms.variables {
        variables = variables.with(name, value);
    }
    let written = terms.fields.keys().chain(terms.texts.keys()).chain(&terms.others);
    let properties = written.map(String::as_str).chain([STAGE]);
    let unchanged = properties.map(|name| (name.to_owned(), no_change()));
    let mut by_property: Map<String, Value> = unchanged.collect();
    for change in changes {
        by_property.insert(change.property.to_owned(), change_variable(terms, change));
    }
    // Nothing can be said of the values of a proposal that has actions alone.
    let of_all = |holds: fn(&ReviewTerms, &ProposedChange<'_>) -> bool| {
        !changes.is_empty() && changes.iter().all(|change| holds(terms, change))
    };
    let variables = variables
        .with("changes", &Value::Object(by_property))
        .with("verified", &json!(of_all(|terms, change| is_verified(terms, change.property).unwrap_or(true))))
        .with("empty", &json!(of_all(|_, change| change.before.is_none())))
        .with("actions", &json!(actions));
    for rule in &terms.approve_if {
        if Templates::source_holds(&rule.when, &variables)? {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

/// Whether the value of a property rests on quotations that were found, of each field that goes into it; `None` when nothing of the
/// answer does.
fn is_verified(terms: &ReviewTerms, property: &str) -> Option<bool> {
    let of_text = || terms.texts.get(property).map(Vec::as_slice);
    let fields = terms.fields.get(property).map(std::slice::from_ref).or_else(of_text)?;
    Some(fields.iter().all(|field| !terms.unverified.contains(field)))
}

fn change_variable(terms: &ReviewTerms, change: &ProposedChange<'_>) -> Value {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let by = match (change.before.and_then(number), number(change.after)) {
        _ if change.before == Some(change.after) => 0.0,
        (Some(before), Some(after)) => (after - before).abs(),
        _ => NO_NUMBER,
    };
    json!({
        "before": change.before, "after": change.after, "by": by, "empty": change.before.is_none(), "changed": true,
        "verified": is_verified(terms, change.property).unwrap_or(false),
    })
}

/// A property that a proposal leaves as it is.
fn no_change() -> Value {
    json!({"before": null, "after": null, "by": 0.0, "empty": false, "changed": false, "verified": false})
}

/// Sample values for the variables of a proposal.
pub(crate) fn sample_variables(variables: Variables, properties: &[String], filled: bool) -> Variables {
    let sample = |name: &String| {
        let change = ProposedChange { property: name, before: Some("1"), after: "2" };
        (name.clone(), if filled { change_variable(&ReviewTerms::default(), &change) } else { no_change() })
    };
    let actions = if filled { json!(["action"]) } else { json!([]) };
    variables
        .with("changes", &Value::Object(properties.iter().map(sample).collect()))
        .with("verified", &json!(filled))
        .with("empty", &json!(!filled))
        .with("actions", &actions)
}

#[cfg(test)]
mod tests {
    use domain::{ObjectId, ObjectType, PortalId};

    use super::*;

    fn terms(rules: &[(&str, &str)]) -> ReviewTerms {
        let rule = |(name, when): &(&str, &str)| ApprovalRule { name: (*name).to_owned(), when: (*when).to_owned() };
        let fields = [("score", "lead_score"), ("budget", "budget_estimate"), ("summary", "summary")];
        ReviewTerms {
            fields: fields.map(|(property, field)| (property.to_owned(), field.to_owned())).into_iter().collect(),
            texts: [("headline", vec!["budget_estimate"]), ("teaser", vec!["budget_estimate", "summary"])]
                .map(|(property, fields)| (property.to_owned(), fields.into_iter().map(ToOwned::to_owned).collect()))
                .into(),
            others: ["processed_at".to_owned()].into(),
            unverified: vec!["summary".to_owned(), "lead_score".to_owned()],
            approve_if: rules.iter().map(rule).collect(),
            variables: json!({"answer": {"lead_score": 40}, "record": {"hubspot_owner_id": "77"}})
                .as_object()
                .cloned()
                .unwrap_or_default(),
        }
    }

    fn approved(rule: &str, changes: &[(&str, Option<&str>, &str)], actions: &[&str]) -> bool {
        let changes: Vec<_> = changes
            .iter()
            .map(|(property, before, after)| ProposedChange { property, before: *before, after })
            .collect();
        approving_rule(&terms(&[("never", "false"), ("rule", rule)]), &changes, actions)
            .is_ok_and(|rule| rule.is_some())
    }

    #[test]
    fn rules_see_evidence_the_values_before_the_size_of_the_change_and_the_record() {
        let budget = [("budget", None, "50000")];
        assert!(approved("verified and empty", &budget, &[]));
        assert!(!approved("verified and empty", &[("budget", Some("1"), "50000")], &[]), "there is a value");
        assert!(!approved("verified", &[("budget", None, "5"), ("summary", None, "A buyer")], &[]), "without evidence");
        assert!(
            approved("verified", &[("budget", None, "5"), ("processed_at", None, "now")], &[]),
            "not of the answer"
        );
        assert!(approved("verified", &[("headline", None, "$5")], &[]), "a text of verified fields");
        assert!(!approved("verified", &[("teaser", None, "A buyer, $5")], &[]), "a text with a field without evidence");
        assert!(!approved("changes.teaser.verified", &[("teaser", None, "A buyer, $5")], &[]));
        let score = |before| [("score", before, "42")];
        assert!(approved("changes.score.by <= 5", &score(Some("40")), &[]));
        assert!(!approved("changes.score.by <= 5", &score(Some("30")), &[]));
        assert!(!approved("changes.score.by <= 5", &score(None), &[]), "no number before is no small change");
        assert!(approved("not changes.processed_at.changed", &score(None), &[]), "written, not of the answer");
        assert!(approved("answer.lead_score < 50 and not actions", &score(None), &[]));
        assert!(!approved("answer.lead_score < 50 and not actions", &score(None), &["call"]));
        assert!(approved("record.hubspot_owner_id in ['77', '78']", &score(None), &[]));
        assert!(!approved("record.hubspot_owner_id == '78'", &score(None), &[]));
        assert!(!approved("nonsense.x > 1", &score(None), &[]), "what cannot be evaluated approves nothing");
    }

    #[test]
    fn a_record_stays_on_its_side_of_the_canary_and_the_sides_have_about_their_share() {
        let plan = ReviewPlan { canary: Some(10), ..ReviewPlan::default() };
        let record =
            |id| RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(id) };
        let live = |plan: &ReviewPlan, playbook: &str| -> Vec<i64> {
            (0..2_000).filter(|id| plan.mode_for(playbook, &record(*id)) == WriteMode::Live).collect()
        };
        let ten = live(&plan, "leads");
        assert!((150..250).contains(&ten.len()), "{}", ten.len());
        let wider = live(&ReviewPlan { canary: Some(50), ..ReviewPlan::default() }, "leads");
        assert!(ten.iter().all(|id| wider.contains(id)), "a wider canary keeps who is live");
        assert_ne!(live(&plan, "churn"), ten, "not the same records for every playbook");
    }
}
