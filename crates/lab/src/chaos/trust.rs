//! What people can rely on when they look at what the fleet wrote: every value is explained, and all of it can be taken back.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use lab::Fleet;
use serde_json::Value;
use simulator::admin::Edit;
use sqlx::PgPool;

/// The property for whose values the playbook asks for a quotation, and the quotation's name in the answer.
const QUOTED: (&str, &str) = ("ai_budget_estimate", "budget_estimate_quote");

/// What people change, and in how many contacts.
const CHANGED: (&str, &str, usize) = ("ai_lead_summary", "Met her at the fair.", 10);

/// What HubSpot sets by itself when notes come.
const COUNTED: &str = "notes_last_updated";

/// The values of records, by id and property, without empty ones: HubSpot makes no difference between those and missing ones.
pub type Values = BTreeMap<i64, BTreeMap<String, String>>;

/// What was explained and undone.
#[derive(Debug, Default)]
pub struct Trust {
    /// Properties whose value was explained.
    pub explained: usize,
    /// Properties that an undo put back.
    pub restored: i64,
    /// Values of people that it left.
    pub left: usize,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { explained, restored, left } = self;
        write!(f, "{explained} written properties explained, {restored} put back, {left} that people had changed left")
    }
}

/// The contacts as they are now.
pub async fn contacts(fleet: &Fleet) -> Result<Values> {
    let contacts = fleet.simulator.objects("contact").await?;
    let is_own = |(name, value): &(String, String)| !value.is_empty() && name != COUNTED;
    let filled = |properties: BTreeMap<String, String>| properties.into_iter().filter(is_own);
    Ok(contacts.into_iter().map(|contact| (contact.id, filled(contact.properties).collect())).collect())
}

/// Explains every property that was written, lets people change some, and has everything undone: then every contact is as it was at the
/// `start`, except for what people changed. Adds what does not hold to `wrong`. Call it when nothing is in flight.
pub async fn check(fleet: &Fleet, ledger: &PgPool, start: Values, wrong: &mut Vec<String>) -> Result<Trust> {
    let mut trust = Trust { explained: explain(fleet, ledger, wrong).await?, ..Trust::default() };
    wrong.extend(broken_chains(fleet, ledger).await?);
    let mut expected = start;
    let changed = change_some(fleet, ledger).await?;
    for id in &changed {
        expected.entry(*id).or_default().insert(CHANGED.0.to_owned(), CHANGED.1.to_owned());
    }
    trust.left = changed.len();
    let output = fleet.leadline(&["undo", "--since", "2d", "--yes", "--why", "chaos", "--json"]).await?;
    if !output.status.success() {
        wrong.push(format!("undo: {}", String::from_utf8_lossy(&output.stderr)));
        return Ok(trust);
    }
    let told: Value = serde_json::from_slice(&output.stdout).context("what undo printed")?;
    trust.restored = told["properties_restored"].as_i64().unwrap_or(0);
    let now = contacts(fleet).await?;
    for (id, expected) in &expected {
        let held = now.get(id);
        if held != Some(expected) {
            wrong.push(format!("contact {id} is {held:?} after everything was undone, and was {expected:?}"));
        }
    }
    let tasks = fleet.simulator.objects("task").await?.len();
    if tasks > 0 {
        wrong.push(format!("{tasks} tasks are still there after everything was undone"));
    }
    Ok(trust)
}

/// The writes that name another value before them than the one that the write before them set. During the load only the fleet sets
/// these properties, so that each of its writes begins where the one before it ended.
async fn broken_chains(fleet: &Fleet, ledger: &PgPool) -> Result<Vec<String>> {
    let broken: Vec<(i64, String, String, [String; 2])> = sqlx::query_as(
        r#"with chain as (
               select object_id, property, event_key, before,
                      lag(after) over (partition by portal_id, object_type, object_id, property
                                       order by occurred_at, event_key collate "C", write_command_id) as earlier,
                      write_command_id, occurred_at
               from write
           )
           select object_id, property, event_key, array[coalesce(before, ''), earlier] from chain
           where earlier is not null and earlier is distinct from coalesce(before, '') order by object_id, property, occurred_at"#,
    )
    .fetch_all(ledger)
    .await?;
    let mut told = Vec::new();
    for (id, property, key, [before, earlier]) in broken {
        let changes = fleet.simulator.contact(id).await?.map(|contact| contact.changes).unwrap_or_default();
        let history: Vec<_> = changes.iter().filter(|change| change.property == property).collect();
        told.push(format!(
            "{property} of contact {id}: event {key} found {before:?} and the write before it had set {earlier:?}; its history in HubSpot: {history:?}"
        ));
    }
    Ok(told)
}

/// Explains each property of each record that was written. Returns how many there are.
async fn explain(fleet: &Fleet, ledger: &PgPool, wrong: &mut Vec<String>) -> Result<usize> {
    let written: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "select distinct portal_id, object_type, object_id, property from write order by object_id, property",
    )
    .fetch_all(ledger)
    .await?;
    for (portal, object_type, id, property) in &written {
        let (portal_id, object_type) = (PortalId(*portal), ObjectType::from(object_type.as_str()));
        let record = RecordRef { portal_id, object_type, object_id: ObjectId(*id) };
        if let Err(missing) = explain_one(fleet, record.clone(), property).await? {
            wrong.push(format!("{record}.{property} is not explained: {missing}"));
        }
    }
    Ok(written.len())
}

/// Explains one property; what is missing, if anything is.
async fn explain_one(fleet: &Fleet, record: RecordRef, property: &str) -> Result<Result<(), &'static str>> {
    let explanation = fleet.ledger.explain(&[record], property).await?;
    if explanation.counting().is_none_or(|write| write.event_key.is_empty()) {
        return Ok(Err("no event"));
    }
    let Some(answer) = explanation.answer else { return Ok(Err("no answer")) };
    if answer.model.is_empty() || answer.playbook_version.is_empty() {
        return Ok(Err("no model or playbook"));
    }
    let quote = answer.fields.as_ref().and_then(|fields| fields[QUOTED.1].as_str()).unwrap_or_default();
    if property == QUOTED.0 && quote.is_empty() {
        return Ok(Err("no quotation"));
    }
    let has_texts = fleet.ledger.answer_texts(&answer).await?.is_some_and(|(_, answer)| !answer.is_empty());
    Ok(if has_texts { Ok(()) } else { Err("no prompt and answer") })
}

/// Changes a value in some of the contacts in which it was written, as people do. Returns their ids.
async fn change_some(fleet: &Fleet, ledger: &PgPool) -> Result<Vec<i64>> {
    let (property, value, count) = CHANGED;
    let ids: Vec<i64> = sqlx::query_scalar(
        "select distinct object_id from write where object_type = '0-1' and property = $1 order by object_id limit $2",
    )
    .bind(property)
    .bind(i64::try_from(count)?)
    .fetch_all(ledger)
    .await?;
    let properties = BTreeMap::from([(property.to_owned(), value.to_owned())]);
    let edit = Edit { properties, source: "CRM_UI".to_owned(), source_id: "userId:42".to_owned(), announce: false };
    for id in &ids {
        fleet.simulator.edit("contact", *id, &edit).await?;
    }
    Ok(ids)
}
