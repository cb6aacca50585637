//! Writes updates to HubSpot, in batches. A bad value never keeps the other values of its record, or the other records of its
//! batch, from being written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use batcher::bisect;
use domain::{ObjectId, ObjectType, Reason, RecordRef, WriteCommandId, write_command::PropertyChange};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{HubSpotApiError, MAX_BATCH, ObjectUpdate},
};
use ledger::SkippedWrite;

use crate::{
    missing::{Found, MAX_READ_ALONE, Unwritten, look_up},
    plan::{self, CommandPart, RecordUpdate},
    refused::RefusedProperties,
};

/// The result of each command's part of the updates.
pub type CommandResults = HashMap<WriteCommandId, Result<(), Unwritten>>;

/// The properties of a record that HubSpot did not take, each with HubSpot's answer.
type Refused = HashMap<String, Arc<HubSpotError>>;

/// The result of one record's update: what HubSpot did not take of it.
type Written = Result<Refused, Unwritten>;

/// What a call says of one record: `None` when it is not among the results.
type CallResult = Option<Refused>;

/// The result of each record's update.
type RecordResults = HashMap<RecordRef, Written>;

/// Writes the updates and returns the result for each command. Values that HubSpot does not take become skipped writes of
/// their command; a command of which nothing else is left fails.
///
/// When several commands make one record's update and HubSpot rejects it without saying which value is wrong, each command is
/// written on its own: the bad value of one playbook keeps no other from being written.
pub async fn apply(
    hubspot: &HubSpotClient,
    updates: &mut [RecordUpdate],
    refused_properties: &RefusedProperties,
) -> CommandResults {
    let caller = Caller { hubspot, refused_properties };
    let mut written = caller.write_records(updates).await;
    let mut results = CommandResults::new();
    for update in updates {
        let Some(result) = written.remove(&update.record) else { continue };
        let is_rejected = matches!(&result, Err(Unwritten::Failed(error)) if error.may_be_one_item());
        let write_apart = is_rejected && update.parts.len() > 1;
        for part in &mut update.parts {
            let result = if write_apart { caller.write_part(&update.record, part).await } else { result.clone() };
            let result = result.and_then(|refused| skip_refused(part, &refused).map_err(Unwritten::Failed));
            results.insert(part.taken.command.id, result);
        }
    }
    results
}

/// Moves the refused values of a part to its skipped writes. It fails when nothing else is left of its command: no value that was
/// written or kept, and no action, which a person would miss.
fn skip_refused(part: &mut CommandPart, refused: &Refused) -> Result<(), Arc<HubSpotError>> {
    let error_of = |change: &PropertyChange| refused.get(&change.property);
    let errors: Vec<_> = part.changes.iter().filter_map(error_of).cloned().collect();
    let command = &part.taken;
    let is_all = part.skipped_writes.is_empty() && command.written.is_empty() && command.command.actions.is_empty();
    if let Some(error) = errors.first()
        && errors.len() == part.changes.len()
        && is_all
    {
        return Err(error.clone());
    }
    part.changes.retain(|change| {
        let is_refused = refused.contains_key(&change.property);
        if is_refused {
            let reason = Reason::ValueRefused;
            metrics::counter!("leadline_skipped_writes_total", "reason" => reason.as_str()).increment(1);
            part.skipped_writes.push(SkippedWrite {
                property: change.property.clone(),
                reason,
                current_value: None,
                proposed_value: change.value.clone(),
            });
        }
        !is_refused
    });
    Ok(())
}

struct Caller<'a> {
    hubspot: &'a HubSpotClient,
    refused_properties: &'a RefusedProperties,
}

impl Caller<'_> {
    /// Writes one command's part of a record's update.
    async fn write_part(&self, record: &RecordRef, part: &CommandPart) -> Written {
        match self.write_one(record, &part.changes).await {
            Ok(Some(refused)) => Ok(refused),
            Ok(None) => self.write_left_out(record, &part.changes).await,
            Err(error) => Err(Unwritten::Failed(error)),
        }
    }

    /// Writes a record again that an update left out, once it is known to be there. When it was merged since its values were read,
    /// no policy has decided over those of the record that survived.
    async fn write_left_out(&self, record: &RecordRef, changes: &[PropertyChange]) -> Written {
        match look_up(self.hubspot, record, &[]).await {
            Ok(Found::There(_)) => match self.write_one(record, changes).await {
                Ok(written) => written.ok_or(Unwritten::LeftOut),
                Err(error) => Err(Unwritten::Failed(error)),
            },
            Ok(Found::Merged(merged)) => Err(Unwritten::Merged(Arc::new(merged))),
            Err(error) => Err(Unwritten::Failed(Arc::new(error))),
        }
    }

    async fn write_records(&self, updates: &[RecordUpdate]) -> RecordResults {
        let mut results = RecordResults::new();
        // Nothing to set: the commands hold only actions, or every value is there already or is left by its policy.
        let (unchanged, changed): (Vec<_>, Vec<_>) = updates.iter().partition(|update| update.changes.is_empty());
        results.extend(unchanged.into_iter().map(|update| (update.record.clone(), Ok(Refused::new()))));
        for (object_type, updates) in plan::by_object_type(changed) {
            for batch in updates.chunks(MAX_BATCH) {
                self.write_batch(object_type, batch, &mut results).await;
            }
        }
        results
    }

    /// Writes up to [`MAX_BATCH`] records of one type. HubSpot rejects a whole batch because of one bad value, so a rejected
    /// batch is halved until the bad record is alone.
    async fn write_batch(&self, object_type: &ObjectType, updates: &[&RecordUpdate], results: &mut RecordResults) {
        let mut missing = Vec::new();
        let mut finish = |index: usize, result: Result<CallResult, _>| {
            let update: &RecordUpdate = updates[index];
            match result {
                Ok(Some(refused)) => drop(results.insert(update.record.clone(), Ok(refused))),
                Ok(None) => missing.push(update),
                Err(error) => drop(results.insert(update.record.clone(), Err(Unwritten::Failed(error)))),
            }
        };
        let write = |batch| self.write_once(object_type, batch);
        bisect(
            updates.to_vec(),
            write,
            |error: &Arc<HubSpotError>| error.may_be_one_item(),
            |index, result| {
                finish(index, result.map_err(|error| (*error).clone()));
            },
        )
        .await;
        // A record that is not among the results was not written, whatever the status code says.
        for (count, update) in missing.into_iter().enumerate() {
            metrics::counter!("leadline_batch_missing_results_total").increment(1);
            let result = if count < MAX_READ_ALONE {
                self.write_left_out(&update.record, &update.changes).await
            } else {
                Err(Unwritten::NotLookedUp)
            };
            results.insert(update.record.clone(), result);
        }
    }

    /// Makes one call, and another without the properties that HubSpot takes no value for. Returns the result of each record.
    async fn write_once(
        &self,
        object_type: &ObjectType,
        updates: Arc<Vec<&RecordUpdate>>,
    ) -> Result<Vec<CallResult>, Arc<HubSpotError>> {
        if let [single] = updates[..] {
            return Ok(vec![self.write_one(&single.record, &single.changes).await?]);
        }
        // Each round learns a property that no later one sends, so the rounds end.
        loop {
            let taken: Vec<_> = updates.iter().map(|update| self.split(object_type, &update.changes)).collect();
            let bodies = updates.iter().zip(&taken).filter(|(_, (changes, _))| !changes.is_empty());
            let bodies: Vec<_> =
                bodies.map(|(update, (changes, _))| ObjectUpdate { id: update.record.object_id, changes }).collect();
            let written: HashSet<_> = match self.update_many(object_type, &bodies).await {
                Ok(written) => written,
                Err(error) if self.refused_properties.learn(object_type, &error) => continue,
                Err(error) => {
                    if error.may_be_one_item() {
                        metrics::counter!("leadline_batch_bisected_total").increment(1);
                    }
                    return Err(error);
                }
            };
            let result = |(update, (changes, refused)): (&&RecordUpdate, (Vec<_>, Refused))| {
                (changes.is_empty() || written.contains(&update.record.object_id)).then_some(refused)
            };
            return Ok(updates.iter().zip(taken).map(result).collect());
        }
    }

    async fn update_many(
        &self,
        object_type: &ObjectType,
        bodies: &[ObjectUpdate<'_>],
    ) -> Result<HashSet<ObjectId>, Arc<HubSpotError>> {
        if bodies.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(self.hubspot.update_many(object_type, bodies).await.map_err(Arc::new)?.into_iter().collect())
    }

    /// Writes one record, and again without the values that HubSpot names as wrong.
    async fn write_one(&self, record: &RecordRef, changes: &[PropertyChange]) -> Result<CallResult, Arc<HubSpotError>> {
        let (mut changes, mut refused) = self.split(&record.object_type, changes);
        while !changes.is_empty() {
            let update = ObjectUpdate { id: record.object_id, changes: &changes };
            let error = match self.hubspot.update(&record.object_type, &update).await {
                Ok(true) => break,
                Ok(false) => return Ok(None),
                Err(error) => Arc::new(error),
            };
            self.refused_properties.learn(&record.object_type, &error);
            let names = error.api().map(HubSpotApiError::refused_properties).unwrap_or_default();
            let before = changes.len();
            changes.retain(|change| !names.iter().any(|name| name.name == change.property));
            if changes.len() == before {
                return Err(error);
            }
            refused.extend(names.into_iter().map(|name| (name.name, error.clone())));
        }
        Ok(Some(refused))
    }

    /// The changes that can be sent, and the properties among them that HubSpot takes no value for.
    fn split(&self, object_type: &ObjectType, changes: &[PropertyChange]) -> (Vec<PropertyChange>, Refused) {
        let mut refused = Refused::new();
        let is_sent = |change: &&PropertyChange| match self.refused_properties.why(object_type, &change.property) {
            None => true,
            Some(error) => {
                refused.insert(change.property.clone(), error);
                false
            }
        };
        let sent = changes.iter().filter(is_sent).cloned().collect();
        (sent, refused)
    }
}
