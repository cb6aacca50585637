//! How proposals are shown.

use domain::write_command::{ActionSpec, DealStage};
use ledger::{ChangedValue, ProposalEntry, ProposedAction, ReviewEntry};

use crate::{
    print::{Page, Table, column},
    times::{relative, utc},
};

/// A row for each proposal.
pub fn table(proposals: &[ProposalEntry]) -> Table {
    let mut rows = Table::new([
        column("proposed", "proposed_at"),
        column("expires", "expires_at"),
        column("playbook", "playbook"),
        column("record", "record"),
        column("id", "id").whole(),
        column("what", "what"),
        column("changed", "is_changed"),
    ]);
    for proposal in proposals {
        rows.add([
            proposal.proposed_at.into(),
            proposal.expires_at.into(),
            proposal.playbook.clone().into(),
            proposal.record.to_string().into(),
            proposal.id.to_string().into(),
            summary(proposal).into(),
            if proposal.is_changed { "changed since" } else { "" }.into(),
        ]);
    }
    rows
}

/// What a proposal would do, in one line.
pub fn summary(proposal: &ProposalEntry) -> String {
    let changes = proposal.properties.iter().map(|property| {
        format!("{}: {} → {}", property.property, property.before.as_deref().unwrap_or("–"), property.after())
    });
    // The move of a deal is among the values: its stage.
    let actions = proposal.actions.iter().filter(|action| !matches!(action.spec, ActionSpec::MoveDeal(_)));
    changes.chain(actions.map(|action| action.name.clone())).collect::<Vec<_>>().join("; ")
}

/// How values differ from those that a reviewer saw, in one line.
pub fn difference(changed: &[ChangedValue]) -> String {
    if changed.is_empty() {
        return "a value changed after it was approved".to_owned();
    }
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let line = |value: &ChangedValue| {
        format!("{} was {} when it was approved and is {} now", value.property, shown(&value.seen), shown(&value.now))
    };
    changed.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// All of a proposal.
pub fn page(proposal: &ProposalEntry, reviews: &[ReviewEntry]) -> Page {
    let cost = proposal.cost_micro_dollars;
    let cost_sentence = cost.map(|cost| format!("cost      {cost} micro-dollars")).unwrap_or_default();
    let changed = || format!("changed   {}", difference(&proposal.changed_values(reviews)));
    let changed = if proposal.is_changed { changed() } else { String::new() };
    let expires = proposal.expires_at.map(|at| format!("expires   {} UTC ({})", utc(at), relative(at)));
    let mut values = Table::new([
        column("property", "property"),
        column("before", "before"),
        column("after", "after"),
        column("proposed", "proposed"),
        column("quotation", "quotation"),
    ]);
    for property in &proposal.properties {
        values.add([
            property.property.clone().into(),
            property.before.clone().into(),
            property.after().to_owned().into(),
            property.edited.is_some().then(|| property.proposed.clone()).into(),
            property.quotation.clone().into(),
        ]);
    }
    let mut actions = Table::new([column("action", "name"), column("kind", "kind"), column("what", "what")]);
    for action in &proposal.actions {
        actions.add([action.name.clone().into(), action.spec.kind().as_str().into(), action_text(action).into()]);
    }
    let mut decided =
        Table::new([column("at", "at"), column("decision", "decision"), column("by", "by"), column("why", "why")]);
    for review in reviews {
        decided.add([
            review.at.into(),
            review.decision.as_str().into(),
            review.by.clone().into(),
            review.why.clone().into(),
        ]);
    }
    let (playbook, version) = (&proposal.playbook, &proposal.playbook_version);
    Page::default()
        .fact("id", proposal.id.to_string(), format!("id        {}", proposal.id))
        .fact("record", proposal.record.to_string(), format!("record    {}", proposal.record))
        .fact("playbook", playbook.clone(), format!("playbook  {playbook}@{version}"))
        .fact("playbook_version", version.clone(), "")
        .fact("model", proposal.model.clone(), format!("model     {}", proposal.model))
        .fact("cost_micro_dollars", cost, cost_sentence)
        .fact("event", proposal.event_key.clone(), format!("event     {}", proposal.event_key))
        .fact("proposed_at", proposal.proposed_at, format!("proposed  {} ago", relative(proposal.proposed_at)))
        .fact("expires_at", proposal.expires_at, expires.unwrap_or_default())
        .fact("is_changed", proposal.is_changed.to_string(), changed)
        .section("properties", "values", values)
        .optional_section("actions", "actions", actions)
        .optional_section("reviews", "decided before", decided)
}

fn action_text(action: &ProposedAction) -> String {
    match &action.spec {
        ActionSpec::CreateTask(task) => format!("{}: {}", task.subject, task.body),
        ActionSpec::CreateNote { body, .. } => body.clone(),
        ActionSpec::MoveDeal(DealStage { stage, .. }) => format!("to {stage}"),
        ActionSpec::Notify { channel, text } => format!("{channel}: {text}"),
        ActionSpec::DeleteEngagement { engagement } => engagement.to_string(),
        ActionSpec::MoveDealBack { to, .. } => format!("back to {to}"),
    }
}
