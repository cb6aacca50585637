//! Corrections: what people have set the properties to that the fleet had written, as a writer sees it before it writes again.

use domain::{Correction, write_command::PropertyChange};
use ledger::LatestWrites;

use crate::{
    current_values::{CurrentValues, OurApp, OwnEntries},
    plan::CommandPart,
};

/// What people have set a command's properties to, where the fleet wrote another value last. Of earlier attempts of the command,
/// which may have written over it, nothing is seen.
pub fn corrections_by_people(
    part: &CommandPart,
    current: &CurrentValues,
    latest: &LatestWrites,
    app: OurApp,
) -> Vec<Correction> {
    let command = &part.taken.command;
    let Some(current) = current.get(&command.record) else { return Vec::new() };
    let correction = |change: &PropertyChange| {
        let own = OwnEntries::of(&part.taken, &change.property, latest, app);
        let written = own.recorded?;
        let set = current.get(&change.property)?.set_by_person(&own, &change.value)?;
        (set.value != written.value).then(|| Correction {
            record: command.record.clone(),
            property: change.property.clone(),
            value: Some(set.value.clone()).filter(|value| !value.is_empty()),
            changed_at: set.timestamp,
        })
    };
    // What an earlier attempt wrote and a person has changed since was not the value that the ledger knows.
    let is_known = |change: &&PropertyChange| part.unrecorded.iter().all(|write| write.property != change.property);
    command.properties.iter().filter(is_known).filter_map(correction).collect()
}
