//! In which mode a playbook's writes and actions are, and which values a reviewer may set.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeMap;

use domain::{
    ObjectId, ObjectType, PortalId, RecordRef,
    review::{ReviewTerms, WriteMode},
};
use playbook::{
    Context, LocalTime, PlannedWrite, Playbook, PortalZone, ProposedChange, RecordPath, approving_rule,
    context::ContextRecord, manual_event_variable,
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::datetime};

const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");
const CHURN: &str = include_str!("../../../deploy/playbooks/churn-risk.toml");

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

/// A playbook with these lines at its top.
fn parsed(text: &str, top: &str) -> Result<Playbook, String> {
    let text = text.replacen("records =", &format!("{top}\nrecords ="), 1);
    Playbook::parse("p.toml", &text, &[]).map_err(|findings| findings.to_string())
}

fn valid(text: &str, top: &str) -> Playbook {
    parsed(text, top).expect("a valid playbook")
}

/// What a playbook makes of an answer about a record and others along paths; the ids count from `first`.
fn planned(playbook: &Playbook, paths: &[&str], first: i64, answer: &Value) -> Vec<PlannedWrite> {
    planned_in(playbook, paths, first, answer, WriteMode::Live)
}

/// The same, with nothing in a less careful mode than this one.
fn planned_in(
    playbook: &Playbook,
    paths: &[&str],
    first: i64,
    answer: &Value,
    least_mode: WriteMode,
) -> Vec<PlannedWrite> {
    let record = |(path, id): (&&str, i64)| {
        let path = RecordPath::parse(path).expect("a path");
        let record = RecordRef { portal_id: PortalId(1), object_type: path.end().clone(), object_id: ObjectId(id) };
        let properties = BTreeMap::from([("hubspot_owner_id".to_owned(), Some("77".to_owned()))]);
        ContextRecord { record, path, properties, merged: false, archived: false, is_text: false }
    };
    let context = Context { records: paths.iter().zip(first..).map(record).collect(), entries: Vec::new() };
    let answer: Map<String, Value> = answer.as_object().cloned().expect("an object");
    let now = LocalTime::new(NOW, PortalZone::named("US/Eastern").expect("a time zone"));
    playbook.plan_writes(&manual_event_variable(NOW), &context, &answer, "gpt", &now, least_mode).expect("renders")
}

fn lead() -> Value {
    json!({"lead_score": 90, "summary": "A buyer.", "budget_estimate": 50_000, "budget_estimate_quote": "They have $50k",
        "qualification_summary": "Ready."})
}

#[test]
fn a_version_that_is_held_back_proposes_what_it_would_write_and_no_rule_approves_it() {
    let rule = "\n[[review.approve_if]]\nname = \"all\"\nwhen = \"true\"\n";
    let modes = |top: &str, first| {
        let playbook = valid(&format!("{LEADS}{rule}"), top);
        let of_mode = |write: PlannedWrite| (write.terms.mode, write.terms.review.approve_if.len());
        let planned = planned_in(&playbook, &["contact"], first, &lead(), WriteMode::Review);
        planned.into_iter().map(of_mode).collect::<Vec<_>>()
    };
    let reviewed = [(WriteMode::Review, 0)];
    assert_eq!(modes("", 1), reviewed);
    assert_eq!(modes("mode = \"review\"", 1), reviewed);
    assert_eq!(modes("mode = \"shadow\"", 1), [(WriteMode::Shadow, 0)], "it stays in shadow");
    let of_canary: Vec<_> = (1..=200).flat_map(|id| modes("canary = 50", id)).collect();
    assert!(of_canary.contains(&reviewed[0]) && of_canary.contains(&(WriteMode::Shadow, 0)));
    assert!(of_canary.iter().all(|(mode, _)| *mode != WriteMode::Live));
}

#[test]
fn the_shipped_churn_risk_writes_its_values_and_proposes_its_deal_move() {
    let paths = ["ticket", "ticket > contact", "ticket > contact > deal"];
    let angry = json!({"sentiment": -0.8, "urgency": "high", "reasons": null, "reasons_quote": null});
    let planned = planned(&valid(CHURN, ""), &paths, 1, &angry);
    for write in &planned {
        let expected = if write.record.object_type == ObjectType::Deal { WriteMode::Review } else { WriteMode::Live };
        assert_eq!(write.terms.mode, expected, "{write:?}");
    }
    assert!(
        planned.iter().any(|write| write.terms.mode == WriteMode::Review && write.actions[0].name == "deal-at-risk")
    );
}

#[test]
fn one_record_gets_a_command_for_each_mode_and_the_more_careful_mode_holds() {
    let text = LEADS.replacen("property = \"lead_score\"", "property = \"lead_score\"\nmode = \"review\"", 1);
    let modes = |top: &str| {
        let planned = planned(&valid(&text, top), &["contact"], 1, &lead());
        planned.iter().map(|write| (write.terms.mode, write.properties.len(), write.actions.len())).collect::<Vec<_>>()
    };
    assert_eq!(modes(""), [(WriteMode::Review, 1, 0), (WriteMode::Live, 4, 2)]);
    assert_eq!(modes("mode = \"review\""), [(WriteMode::Review, 5, 2)]);
    assert_eq!(modes("mode = \"shadow\""), [(WriteMode::Shadow, 5, 2)]);
}

#[test]
fn the_records_outside_of_a_canary_are_in_shadow() {
    let playbook = valid(LEADS, "canary = 30");
    let live = (1..=200).filter(|id| {
        let planned = planned(&playbook, &["contact"], *id, &lead());
        assert!(planned[0].terms.mode != WriteMode::Review && planned.len() == 1);
        planned[0].terms.mode == WriteMode::Live
    });
    let live = live.count();
    assert!((35..85).contains(&live), "{live} of 200");
}

#[test]
fn a_review_gets_the_fields_behind_the_values_and_what_its_rules_see() {
    let rule = "[[review.approve_if]]\nname = \"known_owner\"\nwhen = \"record.hubspot_owner_id == '77'\"";
    let playbook = valid(&format!("{LEADS}\n{rule}"), "mode = \"review\"");
    let terms: ReviewTerms = planned(&playbook, &["contact"], 1, &lead()).remove(0).terms.review;
    assert_eq!(terms.fields["ai_budget_estimate"], "budget_estimate");
    assert!(terms.unverified.contains(&"lead_score".to_owned()), "it asks for no quotation");
    assert!(!terms.unverified.contains(&"budget_estimate".to_owned()));
    assert_eq!(terms.variables.keys().collect::<Vec<_>>(), ["record"], "nothing that no rule uses");
    let change = ProposedChange { property: "lead_score", before: None, after: "90" };
    assert!(approving_rule(&terms, &[change], &[]).expect("evaluated").is_some());
    let live = planned_terms(&valid(LEADS, ""));
    assert_eq!(live, ReviewTerms::default(), "what is live needs nothing for a review");
}

#[test]
fn a_text_made_of_the_answer_is_verified_only_if_each_field_in_it_is() {
    let text = |property: &str, text: &str| format!("[[writes]]\nproperty = \"{property}\"\ntext = \"{text}\"\n\n");
    let texts = [
        text("ai_budget_text", "Budget {{ answer.budget_estimate or '?' }}"),
        text("ai_teaser", "{{ answer.summary }} {{ answer.budget_estimate or '?' }}"),
        text("ai_all", "{% for name in answer %}{{ name }} {% endfor %}"),
        text("ai_source", "Leadline"),
    ];
    let with_texts = LEADS.replacen("[[writes]]", &format!("{}[[writes]]", texts.concat()), 1);
    let terms = planned(&valid(&with_texts, "mode = \"review\""), &["contact"], 1, &lead()).remove(0).terms.review;
    assert_eq!(terms.texts["ai_budget_text"], ["budget_estimate"]);
    assert_eq!(terms.texts["ai_teaser"], ["summary", "budget_estimate"]);
    assert!(terms.texts["ai_all"].len() >= 4 && !terms.texts.contains_key("ai_source"));
    let approves = |property| {
        let rule = domain::review::ApprovalRule { name: "r".to_owned(), when: "verified".to_owned() };
        let terms = ReviewTerms { approve_if: vec![rule], ..terms.clone() };
        let change = ProposedChange { property, before: None, after: "a text" };
        approving_rule(&terms, &[change], &[]).expect("evaluated").is_some()
    };
    let approved = ["ai_budget_text", "ai_teaser", "ai_all", "ai_source"].map(approves);
    assert_eq!(approved, [true, false, false, true], "a summary asks for no quotation");
}

#[test]
fn a_rule_may_ask_about_each_property_that_the_playbook_writes_also_an_unchanged_one() {
    let written = "[[writes]]\nproperty = \"ai_source\"\ntext = \"Leadline\"\n\n[[writes]]";
    let playbook = valid(&LEADS.replacen("[[writes]]", written, 1), "mode = \"review\"");
    let terms = planned_terms(&playbook);
    for write in &playbook.effects.writes {
        let when = format!("not changes.{}.changed", write.property);
        let rule = domain::review::ApprovalRule { name: "r".to_owned(), when };
        let terms = ReviewTerms { approve_if: vec![rule], ..terms.clone() };
        let rule = approving_rule(&terms, &[], &["call"]);
        assert!(rule.is_ok_and(|rule| rule.is_some()), "{}", write.property);
    }
}

fn planned_terms(playbook: &Playbook) -> ReviewTerms {
    planned(playbook, &["contact"], 1, &lead()).remove(0).terms.review
}

#[test]
fn modes_canaries_and_rules_are_checked_when_the_file_is_loaded() {
    let rejected = |top: &str, end: &str| parsed(&format!("{LEADS}\n{end}"), top).expect_err("must be rejected");
    assert!(rejected("mode = \"later\"", "").contains("unknown variant"));
    assert!(rejected("canary = 0", "").contains("not within 1–99"));
    assert!(rejected("mode = \"review\"\ncanary = 10", "").contains("`canary` belongs to the mode `live`"));
    let rule = |when: &str| format!("[[review.approve_if]]\nname = \"r\"\nwhen = \"{when}\"");
    for good in ["verified and empty", "changes.lead_score.by <= 5", "answer.lead_score < 50 and not actions"] {
        parsed(&format!("{LEADS}\n{}", rule(good)), "mode = \"review\"").expect(good);
    }
    assert!(rejected("", &rule("verifed")).contains("undefined"));
    assert!(rejected("", &rule("changes.lead_scor.by < 1")).contains("undefined"));
    assert!(rejected("", &format!("{}\n{}", rule("empty"), rule("verified"))).contains("two rules `r`"));
}

#[test]
fn a_reviewers_value_keeps_the_rules_of_its_field() {
    let playbook = valid(LEADS, "");
    let set = |property: &str, value: &str| playbook.checked_value(property, value).map_err(|error| error.to_string());
    assert_eq!(set("lead_score", "70"), Ok("70".to_owned()));
    assert!(set("lead_score", "170").expect_err("too high").contains("lead_score"));
    assert!(set("lead_score", "many").expect_err("no number").contains("no integer"));
    assert!(set("ai_lead_summary", &"a".repeat(601)).is_err(), "longer than the field");
    assert!(set("ai_last_processed_timestamp", &"a".repeat(70_000)).expect_err("too long").contains("HubSpot"));
    assert!(set("email", "a@example.com").expect_err("not written").contains("does not write"));
    assert_eq!(set("ai_lead_summary", "=1+1"), Ok("'=1+1".to_owned()), "no spreadsheet runs it");
}
