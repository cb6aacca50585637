//! `leadline explain`: why a property of a record has its value.

use std::{path::Path, process::ExitCode};

use domain::{AppId, RecordRef, review::ReviewDecision};
use hubspot::client::PastValue;
use ledger::{ExplainedAnswer, ExplainedDecision, ExplainedOverride, ExplainedWrite, Explanation, KeptValue, Ledger};
use serde_json::{Value, json};
use settings::{ConfigScope, Settings};

use crate::{
    event, operator,
    print::{self, Cell, Format, Page, Table, column, say},
    record,
    times::utc,
};

#[derive(clap::Args)]
pub struct ExplainOptions {
    /// The record, like contact/123.
    record: String,
    /// The property's internal name, like `lead_score`.
    property: String,
    /// Also show the prompt and the answer. They contain what people wrote.
    #[arg(long)]
    prompt: bool,
    /// Do not ask HubSpot for the value that the property has now.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    format: Format,
}

/// What HubSpot says of a property.
#[derive(Debug, Default)]
struct Current {
    /// Whether it was asked.
    is_known: bool,
    value: Option<String>,
    last_set: Option<PastValue>,
}

pub async fn run(file: Option<&Path>, options: &ExplainOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(file, ConfigScope::LedgerOnly)?;
    let ledger = operator::ledger(&settings)?;
    let of = record::parse(&options.record, &settings)?;
    let (explanation, current) =
        tokio::try_join!(explanation(&ledger, &of, &options.property), current(file, &ledger, &of, options))?;
    if explanation.writes.is_empty() && explanation.kept.is_empty() && explanation.decisions.is_empty() {
        print::error(format_args!("no playbook has written `{}` of {}", options.property, options.record));
        return Ok(ExitCode::FAILURE);
    }
    let texts = match &explanation.answer {
        Some(answer) if options.prompt => ledger.answer_texts(answer).await?,
        _ => None,
    };
    let page = page(options, &explanation, &current, settings.hubspot.app_id.map(AppId));
    if options.format.json {
        let mut json = page.json();
        if options.prompt {
            json["prompt"] = texts.as_ref().map_or(Value::Null, |(prompt, _)| prompt.clone());
            json["answer"] = texts.map_or(Value::Null, |(_, answer)| json!(answer));
        }
        print::json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    page.print(options.format)?;
    if options.prompt {
        print_texts(texts.as_ref());
    }
    Ok(ExitCode::SUCCESS)
}

async fn explanation(ledger: &Ledger, of: &RecordRef, property: &str) -> anyhow::Result<Explanation> {
    let known_as = ledger.known_as(of).await?;
    Ok(ledger.explain(&known_as, property).await?)
}

async fn current(
    file: Option<&Path>,
    ledger: &Ledger,
    of: &RecordRef,
    options: &ExplainOptions,
) -> anyhow::Result<Current> {
    if options.offline {
        return Ok(Current::default());
    }
    let settings = Settings::load(file, ConfigScope::LedgerAndBroker)?;
    let hubspot = operator::patient_hubspot(&settings, ledger)?;
    let names = [options.property.clone()];
    let mut object = match hubspot.read_with_history(&of.object_type, of.object_id, &names, &names).await {
        Ok(object) => object,
        // What the ledger knows is worth telling without it.
        Err(error) => {
            print::error(format_args!("the value that it has now is not known: {error}"));
            return Ok(Current::default());
        }
    };
    let history = object.history.remove(&options.property).unwrap_or_default();
    Ok(Current {
        is_known: true,
        value: object.properties.remove(&options.property).flatten().filter(|value| !value.is_empty()),
        last_set: history.into_iter().next(),
    })
}

fn page(options: &ExplainOptions, explanation: &Explanation, current: &Current, app: Option<AppId>) -> Page {
    let ExplainOptions { record, property, .. } = options;
    let mut page = Page::default().fact("record", record.clone(), "").fact("property", property.clone(), "");
    page = with_current(page, current, app);
    let counting = explanation.counting();
    if let Some(write) = counting {
        page = with_write(page, write);
        page = with_decision(page, explanation.decision_about(write));
        page = with_override(page, explanation.override_of(write));
    }
    if let Some((answer, write)) = explanation.answer.as_ref().zip(counting) {
        page = with_answer(page, answer, property, write);
    }
    if let Some(write) = counting.filter(|write| write.undone.is_none()) {
        let line = format!("leadline undo --event {} --record {record}", write.event_key);
        page = page.fact("undo", line.clone(), format!("undo      {line}"));
    }
    page.optional_section("kept", "not written", kept_table(&explanation.kept))
        .optional_section("decisions", "decisions about proposals of it", decisions_table(&explanation.decisions))
        .optional_section("overrides", "what people set in its place", overrides_table(&explanation.overrides))
        .optional_section("writes", "every write of it", writes_table(&explanation.writes))
}

fn with_current(page: Page, current: &Current, app: Option<AppId>) -> Page {
    if !current.is_known {
        return page;
    }
    let author = current.last_set.as_ref().map(|set| author(set, app));
    let at = current.last_set.as_ref().map(|set| set.timestamp);
    let set = author.as_ref().zip(at).map(|(author, at)| format!(", set by {author} at {} UTC", utc(at)));
    let shown = current.value.as_deref().unwrap_or("(empty)");
    page.fact("value", current.value.clone(), format!("value     {shown}{}", set.unwrap_or_default()))
        .fact("set_by", author, "")
        .fact("set_at", at, "")
}

fn author(set: &PastValue, app: Option<AppId>) -> String {
    if app.is_some_and(|app| set.is_by_app(app)) {
        return "Leadline".to_owned();
    }
    let kind = if set.author().may_be_person() { "a person" } else { "a program" };
    let id = set.source_id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
    format!("{kind} ({}{id})", set.source_type)
}

fn with_write(page: Page, write: &ExplainedWrite) -> Page {
    let before = write.before.as_deref().unwrap_or("(empty)");
    let undone = write.undone.as_ref().map(|undone| {
        let why = undone.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("undone    by {} at {} UTC{why}", undone.asked_by, utc(undone.at))
    });
    page.fact("written", write.after.clone(), format!("written   {} at {} UTC", write.after, utc(write.written_at)))
        .fact("written_at", write.written_at, "")
        .fact("before", write.before.clone(), format!("before    {before}"))
        .fact("event_key", write.event_key.clone(), format!("event     {}", write.event_key))
        .fact("event_id", write.event_id.to_string(), "")
        .fact("undone_by", write.undone.as_ref().map(|undone| undone.asked_by.clone()), undone.unwrap_or_default())
        .fact("undone_why", write.undone.as_ref().and_then(|undone| undone.why.clone()), "")
        .fact("undone_at", write.undone.as_ref().map(|undone| undone.at), "")
}

/// Who let the value be written, of one that was proposed first.
fn with_decision(page: Page, decided: Option<&ExplainedDecision>) -> Page {
    let Some(decided) = decided else { return page };
    let ExplainedDecision { at, decision, by, proposed, edited, .. } = decided;
    let shown =
        |value: &Option<String>| value.as_deref().filter(|value| !value.is_empty()).unwrap_or("(empty)").to_owned();
    let instead = match edited {
        Some(_) => format!("; {} was proposed, and {} set instead", shown(proposed), shown(edited)),
        None => String::new(),
    };
    let how = if *decision == ReviewDecision::ByRule { "approved" } else { decision.as_str() };
    page.fact("decision", decision.as_str(), format!("decided   {how} by {by} at {} UTC{instead}", utc(*at)))
        .fact("decided_by", by.clone(), "")
        .fact("decided_at", *at, "")
        .fact("proposed", proposed.clone(), "")
        .fact("edited", edited.clone(), "")
}

/// What a person has made of the value.
fn with_override(page: Page, over: Option<&ExplainedOverride>) -> Page {
    let Some(ExplainedOverride { at, value, .. }) = over else { return page };
    let shown = value.as_deref().unwrap_or("(empty)");
    page.fact("override", value.clone(), format!("override  {shown}, set by a person at {} UTC", utc(*at))).fact(
        "override_at",
        *at,
        "",
    )
}

fn with_answer(page: Page, answer: &ExplainedAnswer, property: &str, write: &ExplainedWrite) -> Page {
    let cost = match answer.cost_micro_dollars {
        Some(micro_dollars) => format!("{micro_dollars} µ$"),
        None => "an unknown amount".to_owned(),
    };
    let quotations = quotations(answer.fields.as_ref(), property, &write.after);
    let quoted: Vec<_> = quotations.iter().map(|(field, quote)| format!("\"{quote}\" (for {field})")).collect();
    let because = if quoted.is_empty() { String::new() } else { format!("because   {}", quoted.join(", ")) };
    page.fact(
        "playbook",
        answer.playbook.clone(),
        format!("playbook  {}, version {}", answer.playbook, answer.playbook_version),
    )
    .fact("playbook_version", answer.playbook_version.clone(), "")
    .fact("model", answer.model.clone(), format!("model     {}, for {cost}", answer.model))
    .fact("cost_micro_dollars", answer.cost_micro_dollars.map(Cell::MicroDollars), "")
    .fact("inference_id", answer.id.to_string(), "")
    .fact("quotation", (!quotations.is_empty()).then(|| quotations[0].1.clone()), because)
    .fact(
        "unverified",
        (!answer.unverified.is_empty()).then(|| answer.unverified.join(", ")),
        if answer.unverified.is_empty() {
            String::new()
        } else {
            format!("not found {}", answer.unverified.join(", "))
        },
    )
}

/// The quotations on which a value rests, with the fields to which they belong: that of the field whose value was written, or else
/// all of the answer.
fn quotations(fields: Option<&Value>, property: &str, written: &str) -> Vec<(String, String)> {
    let Some(Value::Object(fields)) = fields else { return Vec::new() };
    let quotes: Vec<_> = fields
        .iter()
        .filter_map(|(name, value)| {
            let quote = fields.get(&playbook::quote_name(name))?.as_str().filter(|quote| !quote.is_empty())?;
            Some((name, value, quote))
        })
        .collect();
    let is_of = |name: &str, value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        name == property || text == written
    };
    let of_value: Vec<_> = quotes.iter().filter(|(name, value, _)| is_of(name, value)).collect();
    let shown = if of_value.is_empty() { quotes.iter().collect() } else { of_value };
    shown.into_iter().map(|(name, _, quote)| ((*name).clone(), (*quote).to_owned())).collect()
}

fn kept_table(kept: &[KeptValue]) -> Table {
    let mut table = Table::new([
        column("at", "at"),
        column("kept", "kept"),
        column("proposed", "proposed"),
        column("why", "reason"),
        column("event", "event_key"),
    ]);
    for value in kept {
        table.add([
            value.at.into(),
            value_cell(value.current_value.as_deref()),
            value.proposed_value.clone().into(),
            value.reason.into(),
            value.event_key.clone().into(),
        ]);
    }
    table
}

fn decisions_table(decisions: &[ExplainedDecision]) -> Table {
    let mut table = Table::new([
        column("at", "at"),
        column("decision", "decision"),
        column("by", "by"),
        column("proposed", "proposed"),
        column("edited", "edited"),
        column("why", "why"),
        column("write command", "write_command_id").whole(),
    ]);
    for decided in decisions {
        table.add([
            decided.at.into(),
            decided.decision.as_str().into(),
            decided.by.clone().into(),
            value_cell(decided.proposed.as_deref()),
            decided.edited.clone().into(),
            decided.why.clone().into(),
            decided.command.to_string().into(),
        ]);
    }
    table
}

fn overrides_table(overrides: &[ExplainedOverride]) -> Table {
    let mut table = Table::new([
        column("at", "at"),
        column("we wrote", "wrote"),
        column("a person set", "value"),
        column("seen by", "seen_by"),
        column("taken back", "taken_back_at"),
    ]);
    for over in overrides {
        table.add([
            over.at.into(),
            value_cell(Some(&over.written)),
            value_cell(over.value.as_deref()),
            over.seen_by.as_str().into(),
            over.taken_back_at.into(),
        ]);
    }
    table
}

fn writes_table(writes: &[ExplainedWrite]) -> Table {
    let mut table = Table::new([
        column("at", "at"),
        column("before", "before"),
        column("after", "after"),
        column("how", "how"),
        column("undone by", "undone_by"),
        column("event", "event_key"),
    ]);
    for write in writes {
        table.add([
            write.written_at.into(),
            value_cell(write.before.as_deref()),
            value_cell(Some(&write.after)),
            if write.is_undo { "undo" } else { "playbook" }.into(),
            write.undone.as_ref().map(|undone| undone.asked_by.clone()).into(),
            write.event_key.clone().into(),
        ]);
    }
    table
}

fn value_cell(value: Option<&str>) -> Cell {
    value.filter(|value| !value.is_empty()).map_or(Cell::EmptyValue, Cell::from)
}

fn print_texts(texts: Option<&(Value, String)>) {
    let Some((prompt, answer)) = texts else {
        say!("the prompt and the answer are deleted");
        return;
    };
    print::blank();
    print::text(&event::messages(prompt));
    say!("--- answer");
    print::text(&print::indented(answer));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::quotations;

    #[test]
    fn the_quotation_is_that_of_the_field_whose_value_was_written() {
        let fields =
            json!({"lead_score": 85, "budget": 20_000, "budget_quote": "20k", "role": "CFO", "role_quote": "the CFO"});
        let of = |property: &str, written: &str| quotations(Some(&fields), property, written);
        assert_eq!(of("ai_budget", "20000"), [("budget".to_owned(), "20k".to_owned())]);
        assert_eq!(of("role", "changed"), [("role".to_owned(), "the CFO".to_owned())]);
        assert_eq!(of("lead_score", "85").len(), 2, "the answer as a whole");
        assert!(quotations(None, "role", "CFO").is_empty());
    }
}
