//! Carries out a batch of write commands:
//! take → lock → plan → write (read current values → apply policies → write) → act → record → unlock.
//!
//! Each step is a function below, in this order. An update may be sent twice, and the ledger decides whose
//! values count. An action may not be carried out twice, which [`crate::actions`] ensures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{Disposition, Tries};
use crashpoint::crash_point;
use domain::{CommandState, Reason, RecordRef, WriteCommand, WriteCommandId, write_command::PropertyChange};
use hubspot::HubSpotClient;
use ledger::{CommandClaim, CommandResult, LEDGER_RETRY, LatestWrites, Ledger, LedgerError, Worker, WrittenProperty};
use tokio::time::Instant;

use crate::{
    actions::{ActionExecutor, ActionScope},
    apply::{self, CommandResults},
    corrections::corrections_by_people,
    current_values::{CurrentValues, NullValues, OurApp, OwnEntries},
    missing::Unwritten,
    outcome::{CommandOutcome, FailurePolicy},
    plan::{self, CommandPart, RecordUpdate, TakenCommand},
    policy::{self, WriteRules},
    recovered::{Forgotten, forgotten_since},
    refused::RefusedProperties,
    undo,
    value_reader::ValueReader,
};

/// How often and at what interval a record is locked that another writer holds. As a rule it holds it for a fraction of a
/// second.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The share of a lease that remains, after the last call to HubSpot, for recording what was written.
const SHARE_FOR_RECORDING: f64 = 0.15;

/// How many leases a call may be late.
const LATE_LEASES: u32 = 20;

/// How often the commands of a batch go on at once with the records that theirs were merged into. Those of a record that was merged
/// again meanwhile come back later.
const MAX_MOVES: usize = 2;

/// What a message from the queue says: which write command is to be carried out. What it does is in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct QueuedCommand {
    /// The write command.
    pub id: WriteCommandId,
    /// What its message has behind it.
    pub tries: Tries,
}

/// Names batches: each batch is a worker of its own to the ledger, so that one batch cannot return the leases of another.
pub struct BatchNames {
    worker: Worker,
    next: AtomicU64,
}

impl BatchNames {
    /// Names of the batches of `worker`.
    pub fn of(worker: Worker) -> Self {
        Self { worker, next: AtomicU64::new(0) }
    }

    fn next(&self) -> Worker {
        Worker(format!("{}/{}", self.worker.0, self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Carries out batches of write commands.
pub struct BatchExecutor {
    /// Claims, leases, and what was written.
    pub ledger: Ledger,
    /// Reads and writes records.
    pub hubspot: HubSpotClient,
    /// Carries out actions.
    pub actions: ActionExecutor,
    /// Properties that HubSpot takes no value for.
    pub refused_properties: RefusedProperties,
    /// Whether HubSpot's `null` means that a property was never set.
    pub null_values: NullValues,
    /// Decides what a failure means.
    pub failures: FailurePolicy,
    /// What holds for every write.
    pub rules: WriteRules,
    /// How long a batch holds its commands and records.
    pub lease: Duration,
    /// The names of the batches.
    pub names: BatchNames,
}

impl BatchExecutor {
    /// Carries out a batch and decides what becomes of each message, in order.
    ///
    /// A command that a rule approves goes on at once, as one that a person approved does. One whose record was merged into another one waits in the ledger as a command about that one, and is then carried out
    /// as any other: under the lease of that record, in the order of its writes, and by the policies for its values.
    pub async fn execute(&self, batch: &[QueuedCommand]) -> Vec<Disposition> {
        metrics::histogram!("leadline_write_batch_size").record(u32::try_from(batch.len()).map_or(0.0, f64::from));
        // A command without a result comes back.
        let mut dispositions = vec![Disposition::defer(Reason::LedgerUnavailable); batch.len()];
        let mut moved = self.execute_once(batch, &mut dispositions).await;
        for _ in 0..MAX_MOVES {
            if moved.is_empty() {
                break;
            }
            let again: Vec<_> = moved.iter().map(|index| batch[*index]).collect();
            let mut of_moved: Vec<_> = moved.iter().map(|index| dispositions[*index].clone()).collect();
            let moved_again = self.execute_once(&again, &mut of_moved).await;
            for (index, disposition) in moved.iter().zip(of_moved) {
                dispositions[*index] = disposition;
            }
            moved = moved_again.into_iter().map(|place| moved[place]).collect();
        }
        dispositions
    }

    /// Carries out a batch for the records that its commands are about now. Returns the places of those whose record was merged.
    async fn execute_once(&self, batch: &[QueuedCommand], dispositions: &mut [Disposition]) -> Vec<usize> {
        let error = match self.run_steps(batch, &self.names.next(), dispositions).await {
            Ok(moved) => return moved,
            Err(error) => error,
        };
        tracing::warn!(%error, "the ledger does not answer; the write commands of the batch are retried later");
        if !error.is_away() {
            let without_result = Disposition::defer(Reason::LedgerUnavailable);
            let undecided =
                dispositions.iter_mut().zip(batch).filter(|(disposition, _)| **disposition == without_result);
            undecided.for_each(|(disposition, queued)| *disposition = self.failures.decide(&error, &queued.tries));
        }
        Vec::new()
    }

    async fn run_steps(
        &self,
        batch: &[QueuedCommand],
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<Vec<usize>, LedgerError> {
        // The leases start after this moment, so every call to HubSpot ends before they do.
        let deadline = Instant::now() + self.lease.mul_f64(1.0 - SHARE_FOR_RECORDING);
        let taken = self.take(batch, worker, dispositions).await?;
        crash_point!("writer.after_take");
        let (locked, busy) = self.lock(taken, worker).await?;
        let records: Vec<_> = locked.iter().map(|taken| taken.command.record.clone()).collect();
        let since = forgotten_since(&locked);
        let read = || self.ledger.latest_writes(&records, since);
        let latest = self.ledger.traced_until_answered("read latest writes", records.len(), read).await?;
        let (updates, superseded) = plan::plan(locked, &latest);
        let mut outcomes = self.write_until(deadline, updates, &records, &latest).await?;
        outcomes.extend(busy.iter().map(|taken| CommandOutcome::defer(taken, Reason::RecordBusy)));
        outcomes.extend(superseded.iter().map(superseded_outcome));
        self.act(&mut outcomes, &latest, deadline).await;
        let moved = self.record(outcomes, worker, dispositions).await?;
        crash_point!("writer.after_commit");
        self.unlock(&records, worker).await?;
        Ok(moved)
    }

    /// Take: leases the commands that are due to this batch and reads what they are to do, and decides about the messages
    /// of the others.
    async fn take(
        &self,
        batch: &[QueuedCommand],
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<Vec<TakenCommand>, LedgerError> {
        let ids: Vec<_> = batch.iter().map(|queued| queued.id).collect();
        let ours = self.rules.portal_id;
        let claim = |ids: Arc<Vec<WriteCommandId>>| async move {
            let take = || self.ledger.claim_commands(&ids, ours, worker, self.lease);
            self.ledger.traced_until_answered("take commands", ids.len(), take).await
        };
        let mut claims = Vec::new();
        batcher::bisect(ids, claim, |error| !error.is_away(), |_, claim| claims.push(claim)).await;
        let (mut commands, mut returned) = (Vec::new(), Vec::new());
        for (index, (QueuedCommand { id, tries }, claim)) in batch.iter().zip(claims).enumerate() {
            let claim = match claim {
                Ok(claim) => claim,
                // It comes back.
                Err(error) if error.is_away() => continue,
                Err(error) => {
                    tracing::warn!(command = %id, %error, "the ledger refuses to hand the write command out");
                    dispositions[index] = self.failures.decide(&error, tries);
                    continue;
                }
            };
            dispositions[index] = match claim {
                CommandClaim::Granted { command, attempt, written, age, recovery, is_undo } => {
                    let tries = Tries { age, ..*tries };
                    let command = *command;
                    commands.push(TakenCommand { index, command, attempt, written, tries, recovery, is_undo });
                    continue;
                }
                CommandClaim::Unreadable { attempt, detail } => {
                    tracing::error!(command = %id, detail, "the write command cannot be read and is parked");
                    let disposition = Disposition::Park { reason: Reason::CommandInvalid, detail };
                    returned.push(result_of(*id, attempt, &disposition));
                    disposition
                }
                CommandClaim::NewerFormat { attempt, format, age } => {
                    let known = WriteCommand::FORMAT;
                    // It comes back every few seconds.
                    if attempt == 1 {
                        tracing::warn!(command = %id, format, known, "the write command waits for a writer that knows its format");
                    }
                    let disposition = self.failures.leave_to_newer(&Tries { age, ..*tries });
                    returned.push(result_of(*id, attempt, &disposition));
                    disposition
                }
                CommandClaim::Finished => Disposition::Done,
                CommandClaim::LeasedElsewhere => Disposition::defer(Reason::LeasedElsewhere),
                CommandClaim::OtherPortal { attempt, portal } => {
                    let detail = format!("the write command is for portal {portal}, hubspot.portal_id is {ours}");
                    let disposition = Disposition::Park { reason: Reason::WrongPortal, detail };
                    returned.push(result_of(*id, attempt, &disposition));
                    disposition
                }
                CommandClaim::Unknown => {
                    let detail = format!("the ledger has no write command {id}");
                    Disposition::Park { reason: Reason::UnknownCommand, detail }
                }
            };
        }
        let end = |results: Arc<Vec<CommandResult>>| async move {
            retry::run(&LEDGER_RETRY, || self.ledger.finish_commands(&results, worker)).await
        };
        let refused = |_, ended: Result<bool, Arc<LedgerError>>| {
            if let Err(error) = ended {
                tracing::error!(%error, "the ledger does not take a write command back; its lease ends, and it is taken again");
            }
        };
        if !returned.is_empty() {
            batcher::bisect(returned, end, |error| !error.is_away(), refused).await;
        }
        Ok(commands)
    }

    /// Lock: leases the records, so that no two writers change one record at the same time. Returns the commands whose
    /// record is locked and those whose record stayed busy.
    async fn lock(
        &self,
        mut waiting: Vec<TakenCommand>,
        worker: &Worker,
    ) -> Result<(Vec<TakenCommand>, Vec<TakenCommand>), LedgerError> {
        let mut locked = Vec::new();
        for attempt in 0..LOCK_ATTEMPTS {
            if waiting.is_empty() {
                break;
            }
            if attempt > 0 {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            let records: Vec<_> = waiting.iter().map(|taken| taken.command.record.clone()).collect();
            let lock = || self.ledger.lock_records(&records, worker, self.lease);
            let got = self.ledger.traced_until_answered("lock records", records.len(), lock).await?;
            let (ours, busy): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|taken| got.contains(&taken.command.record));
            locked.extend(ours);
            waiting = busy;
        }
        Ok((locked, waiting))
    }

    /// Write, until the deadline. A call that is cancelled then may still take effect and replace a value that another
    /// writer has written meanwhile, so the records are marked for verification.
    async fn write_until(
        &self,
        deadline: Instant,
        mut updates: Vec<RecordUpdate>,
        records: &[RecordRef],
        latest: &LatestWrites,
    ) -> Result<Vec<CommandOutcome>, LedgerError> {
        if let Ok(outcomes) = tokio::time::timeout_at(deadline, self.write(&mut updates, latest)).await {
            return Ok(outcomes);
        }
        retry::run(&LEDGER_RETRY, || self.ledger.mark_for_verification(records)).await?;
        let commands = updates.iter().flat_map(RecordUpdate::commands);
        Ok(commands.map(|taken| CommandOutcome::defer(taken, Reason::DeadlineExceeded)).collect())
    }

    /// Write: reads the current values, removes what the policies leave as it is, proposes what is held, and writes the rest.
    async fn write(&self, updates: &mut Vec<RecordUpdate>, latest: &LatestWrites) -> Vec<CommandOutcome> {
        let reader = ValueReader { hubspot: &self.hubspot, latest, null_values: &self.null_values };
        let (current, unread) = reader.read(updates).await;
        let mut unplanned = self.compare_stages(updates, latest).await;
        policy::apply_policies(updates, &current, latest, (&self.rules, self.app()));
        plan::hold_back(updates);
        let first_held = updates.partition_point(|update| !update.is_held());
        let (updates, held) = updates.split_at_mut(first_held);
        let mut outcomes = Vec::new();
        // Before anything is written: a proposal reads HubSpot, and when the deadline ends a slow read, HubSpot has no value that is
        // not recorded.
        for update in held.iter() {
            outcomes.push(match (unread.get(&update.record), &update.parts[..]) {
                (Some(why), [part, ..]) => self.failures.unwritten(&part.taken, why),
                (None, [part, ..]) => self.propose(part, &current, latest).await,
                (_, []) => continue,
            });
        }
        let results = apply::apply(&self.hubspot, updates, &self.refused_properties).await;
        crash_point!("writer.after_write");
        let parts = updates.iter().flat_map(|update| update.parts.iter().map(move |part| (update, part)));
        let outcome = |(update, part): (&RecordUpdate, &CommandPart)| {
            if let Some(error) = unplanned.remove(&part.taken.command.id) {
                return self.failures.failed(&part.taken, &error);
            }
            if let Some(why) = unread.get(&update.record) {
                return self.failures.unwritten(&part.taken, why);
            }
            match results.get(&part.taken.command.id) {
                Some(Ok(())) => CommandOutcome {
                    wrote_before: self.wrote_before(part, &current, latest),
                    ..written_outcome(update, part, (&current, latest), self.app())
                },
                Some(Err(why)) => self.failures.unwritten(&part.taken, why),
                None => CommandOutcome::defer(&part.taken, Reason::NotApplied),
            }
        };
        outcomes.extend(parts.map(outcome));
        outcomes.extend(updates.iter().flat_map(|update| self.overtaken(update, &results)));
        outcomes
    }

    /// The outcomes of the commands whose values newer ones of the batch set. When HubSpot has not taken those, nothing has replaced
    /// the older ones, and they come back.
    fn overtaken(&self, update: &RecordUpdate, results: &CommandResults) -> Vec<CommandOutcome> {
        let mut unwritten = update.parts.iter().filter_map(|part| results.get(&part.taken.command.id)?.as_ref().err());
        let why = unwritten.next();
        let outcome = |taken| match why {
            None => superseded_outcome(taken),
            Some(merged @ Unwritten::Merged(_)) => self.failures.unwritten(taken, merged),
            Some(_) => CommandOutcome::defer(taken, Reason::NotApplied),
        };
        update.overtaken.iter().map(outcome).collect()
    }

    /// Whether HubSpot shows values of the command's properties that the fleet has written for its event or a newer one, and that
    /// the ledger has forgotten: then its actions may have been carried out, too.
    fn wrote_before(&self, part: &CommandPart, current: &CurrentValues, latest: &LatestWrites) -> bool {
        let command = &part.taken.command;
        let forgotten = Forgotten::of_ended_attempts(&part.taken, self.rules.app_id, self.lease);
        let Some((forgotten, current)) = forgotten.zip(current.get(&command.record)) else {
            return false;
        };
        command.properties.iter().filter_map(|change| Some((change, current.get(&change.property)?))).any(
            |(change, current)| {
                let property = (&command.record, change.property.as_str());
                current.entries().iter().any(|set| forgotten.includes(set, property, latest))
            },
        )
    }

    /// Act: carries out the actions of the commands whose properties are settled. What was written is recorded even when
    /// an action fails.
    async fn act(&self, outcomes: &mut [CommandOutcome], latest: &LatestWrites, deadline: Instant) {
        let settled = outcomes.iter_mut().filter(|outcome| outcome.row.state.settles_properties());
        let acting = settled.filter_map(|outcome| {
            let taken = outcome.with_actions.take()?;
            let superseded = outcome.row.state == CommandState::Superseded;
            let scope = ActionScope {
                latest,
                superseded,
                deadline,
                app: self.rules.app_id,
                forgotten: Forgotten::of(&taken, self.rules.app_id),
                wrote_before: outcome.wrote_before,
                ended_before: taken.ended_before(self.lease),
            };
            Some(async move {
                let actions = self.actions.execute(&taken, scope);
                if let Ok((stages, failure)) = tokio::time::timeout_at(deadline, actions).await {
                    outcome.row.written.extend(stages);
                    if let Some(error) = failure {
                        self.failures.fail(outcome, &taken, &error);
                    }
                } else {
                    outcome.row.state = CommandState::Waiting;
                    outcome.disposition = Disposition::defer(Reason::DeadlineExceeded);
                }
            })
        });
        futures_util::future::join_all(acting).await;
    }

    /// What this fleet writes as. A writer that was stopped beyond its lease gets on within a few leases, or its process is ended.
    pub(crate) fn app(&self) -> OurApp {
        OurApp { id: self.rules.app_id, late_within: self.lease * LATE_LEASES }
    }

    /// Unlock: ends the leases on the records.
    async fn unlock(&self, records: &[RecordRef], worker: &Worker) -> Result<(), LedgerError> {
        let unlock = || self.ledger.unlock_records(records, worker);
        self.ledger.traced_until_answered("unlock records", records.len(), unlock).await
    }
}

/// What the ledger records about a command that is not carried out: it waits for a newer writer, or for an operator.
fn result_of(id: WriteCommandId, attempt: i32, disposition: &Disposition) -> CommandResult {
    let (state, detail) = match disposition {
        Disposition::Park { detail, .. } => (CommandState::Parked, Some(detail.clone())),
        _ => (CommandState::Waiting, None),
    };
    let (reason, wait) = (disposition.reason(), disposition.delay());
    CommandResult { reason, detail, wait, ..CommandResult::new(id, attempt, state) }
}

/// The outcome of a command that a newer event has replaced.
fn superseded_outcome(taken: &TakenCommand) -> CommandOutcome {
    CommandOutcome::new(taken, CommandState::Superseded, Disposition::Done)
}

/// The outcome of a command whose part of an update was written. It is `skipped` when the policies left every property as
/// it was, now and in earlier attempts.
fn written_outcome(
    update: &RecordUpdate,
    part: &CommandPart,
    (current, latest): (&CurrentValues, &LatestWrites),
    app: OurApp,
) -> CommandOutcome {
    let is_written = !part.changes.is_empty() || !part.unrecorded.is_empty() || !part.taken.written.is_empty();
    let all_skipped = !is_written && !part.skipped_writes.is_empty();
    let state = if all_skipped { CommandState::Skipped } else { CommandState::Written };
    let mut outcome = CommandOutcome::new(&part.taken, state, Disposition::Done);
    outcome.row.reason = part.skipped_writes.first().filter(|_| all_skipped).map(|skipped| skipped.reason);
    outcome.row.written = written_properties(update, part, (current, latest), app);
    if part.taken.is_undo {
        undo::count_properties(&outcome.row.written, &part.skipped_writes);
    }
    outcome.row.skipped_writes.clone_from(&part.skipped_writes);
    outcome.row.corrections = corrections_by_people(part, current, latest, app);
    outcome
}

fn written_properties(
    update: &RecordUpdate,
    part: &CommandPart,
    (current, latest): (&CurrentValues, &LatestWrites),
    app: OurApp,
) -> Vec<WrittenProperty> {
    let current = current.get(&update.record);
    let before = |change: &PropertyChange| {
        let own = OwnEntries::of(&part.taken, &change.property, latest, app);
        current?.get(&change.property)?.before(&own, &change.value)
    };
    let written = |change: &PropertyChange| WrittenProperty {
        property: change.property.clone(),
        before: before(change),
        after: change.value.clone(),
    };
    part.changes.iter().map(written).chain(part.unrecorded.iter().cloned()).collect()
}
