//! Compares a plan with what HubSpot holds now, in batch calls within the backfill's share of the rate limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::{ObjectId, ObjectType, RecordRef};
use hubspot::{
    HubSpotClient,
    client::{CrmObject, MAX_BATCH},
};
use ledger::DoneAction;
use writer::{Removal, look_at_engagements};

use super::plan::{self, Plan};

/// Takes out of the plan what a person, or another program, has changed since.
///
/// # Errors
/// A call to HubSpot fails.
pub async fn survey(hubspot: &HubSpotClient, plan: &mut Plan) -> anyhow::Result<()> {
    let current = values(hubspot, plan).await?;
    plan.keep_if_current(|change| {
        let held = current.get(&change.record)?;
        Some(held.properties.get(&change.property).cloned().flatten().filter(|value| !value.is_empty()))
    });
    let removals = engagements(hubspot, &plan.removals).await?;
    plan.keep_if_untouched(|action| {
        plan::engagement(action).and_then(|made| removals.get(&made)) == Some(&Removal::ChangedByPerson)
    });
    Ok(())
}

async fn values(hubspot: &HubSpotClient, plan: &Plan) -> anyhow::Result<HashMap<RecordRef, CrmObject>> {
    let mut wanted: BTreeMap<&ObjectType, BTreeMap<&RecordRef, BTreeSet<&str>>> = BTreeMap::new();
    for change in &plan.changes {
        let records = wanted.entry(&change.record.object_type).or_default();
        records.entry(&change.record).or_default().insert(&change.property);
    }
    let mut held = HashMap::new();
    for (object_type, records) in wanted {
        let records: Vec<_> = records.into_iter().collect();
        for chunk in records.chunks(MAX_BATCH) {
            let names: BTreeSet<_> = chunk.iter().flat_map(|(_, names)| names).map(|name| (*name).to_owned()).collect();
            let ids: Vec<_> = chunk.iter().map(|(record, _)| record.object_id).collect();
            let names: Vec<_> = names.into_iter().collect();
            for object in hubspot.read_many(object_type, &ids, &names).await? {
                let of = chunk.iter().find(|(record, _)| record.object_id == object.id);
                held.extend(of.map(|(record, _)| ((*record).clone(), object)));
            }
        }
    }
    Ok(held)
}

async fn engagements(
    hubspot: &HubSpotClient,
    actions: &[DoneAction],
) -> anyhow::Result<HashMap<(ObjectType, ObjectId), Removal>> {
    let mut found = HashMap::new();
    for kind in [ObjectType::Task, ObjectType::Note] {
        let made = actions.iter().filter_map(plan::engagement).filter(|(made, _)| *made == kind);
        let ids: Vec<_> = made.map(|(_, id)| id).collect();
        if !ids.is_empty() {
            let looked = look_at_engagements(hubspot, &kind, &ids).await?;
            found.extend(looked.into_iter().map(|(id, removal)| ((kind.clone(), id), removal)));
        }
    }
    Ok(found)
}
