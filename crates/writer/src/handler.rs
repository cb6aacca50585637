//! The way of write commands, many at a time:
//! gather → take → lock → plan → read before → policies → write → actions → record → unlock → ack.
//!
//! Every step is a function below, in this order. PATCH and batch update may be sent twice, and the ledger decides whose
//! values count; actions may not, and [`crate::actions`] sees to that.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use batcher::{Batcher, BatcherSettings};
use broker::{Delivery, Disposition, Handler, topology::RetryDecision};
use crashpoint::crash_point;
use domain::{AppId, ObjectType, PortalId, RecordRef, WriteCommand};
use ledger::{CommandState, Finished, LatestWrites, Ledger, LedgerError, Taken, Worker, WrittenProperty};
use limits::{Lane, RateLimiters};
use maintenance::{CircuitBreakers, Probe, probe};
use retry::{CallHooks, Failure, Policy, Reason};
use settings::Settings;

use crate::{
    actions::{ActionExecutor, NOTE_BODY, TASK_BODY},
    apply::{self, CurrentValues},
    batch_creator::BatchCreator,
    deals::Pipelines,
    notify::Channels,
    plan::{self, CommandPart, Job, RecordUpdate},
    policy,
};

/// Whose outages pause this service.
pub const HUBSPOT: &str = "hubspot";

/// While Postgres restarts, a batch waits here rather than going round the retry queues.
const LEDGER_RETRY: Policy = Policy { attempts: 20, base: Duration::from_millis(50), cap: Duration::from_secs(2) };

/// A channel that does not answer at once is tried again in the process, then from the retry queues.
const CHANNEL_RETRY: Policy = Policy { attempts: 3, base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// Another writer is done with a record within moments, as a rule.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What is kept of a lease for recording what was written.
const RECORD_MARGIN: f64 = 0.15;

/// A command and how often its message failed before.
type Asked = (WriteCommand, u32);

/// What write commands meet on their handler.
pub struct WriteHandler {
    portal_id: PortalId,
    hubspot: hubspot::HubSpotClient,
    circuit_breakers: CircuitBreakers,
    gather: Batcher<Asked, Disposition, Infallible>,
}

impl WriteHandler {
    pub fn new(settings: &Settings, ledger: Ledger, circuit_breakers: CircuitBreakers) -> Result<Self, String> {
        let lease = Duration::from_secs(settings.writer.lease_seconds);
        let portal_id = PortalId(settings.hubspot.portal_id.ok_or("hubspot.portal_id is not set")?);
        // What was decided is paid for: a write goes before the reads of what was caught up with.
        let rate_limiter = RateLimiters::new(settings, &ledger)?.hubspot(Lane::Live);
        let hubspot =
            bootstrap::hubspot(settings, CallHooks { observer: circuit_breakers.observer(HUBSPOT), rate_limiter })?;
        let action_executor = ActionExecutor {
            tasks: BatchCreator::of(&hubspot, ObjectType::Task, TASK_BODY),
            notes: BatchCreator::of(&hubspot, ObjectType::Note, NOTE_BODY),
            hubspot: hubspot.clone(),
            ledger: ledger.clone(),
            pipelines: Pipelines::new(Duration::from_secs(settings.writer.pipeline_cache_ttl_seconds)),
            channels: Channels::new(
                settings.notify.clone(),
                Duration::from_secs(settings.writer.notify_timeout_seconds),
                CHANNEL_RETRY,
            )?,
            patience: LEDGER_RETRY,
        };
        let executor = Arc::new(BatchExecutor {
            ledger,
            hubspot: hubspot.clone(),
            action_executor,
            circuit_breakers: circuit_breakers.clone(),
            retry_schedule: bootstrap::broker(settings, "writer")?.topology.retry_schedule,
            lease,
            time_per_batch: lease.mul_f64(1.0 - RECORD_MARGIN),
            ours: AppId(settings.hubspot.app_id.ok_or("hubspot.app_id is not set")?),
            name: Worker::named("writer").0,
            batches: AtomicU64::new(0),
        });
        let limits = BatcherSettings {
            max: settings.writer.batch,
            window: Duration::from_millis(settings.writer.batch_linger_ms),
            extra_linger: Some(hubspot.extra_linger()),
            parallel: settings.writer.parallel_batches,
        };
        let carry_out = move |asked: Arc<Vec<Asked>>| {
            let executor = executor.clone();
            async move { Ok(executor.carry_out(&asked).await) }
        };
        Ok(Self { portal_id, hubspot, circuit_breakers, gather: Batcher::start(limits, carry_out, |_| false) })
    }
}

impl WriteHandler {
    /// The client whose calls are hooks.
    pub fn hubspot(&self) -> &hubspot::HubSpotClient {
        &self.hubspot
    }

    /// How an outage of HubSpot is probed.
    pub fn probes(&self) -> Vec<(&'static str, Probe)> {
        let hubspot = self.hubspot.clone();
        let ask = move || {
            let hubspot = hubspot.clone();
            async move { hubspot.token_info().await }
        };
        vec![(HUBSPOT, probe(ask))]
    }
}

impl Handler for WriteHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        // Delivery just before the circuit opened.
        if let Some(reason) = self.circuit_breakers.open() {
            return Disposition::wait(reason);
        }
        let command: WriteCommand = match serde_json::from_slice(&delivery.message.body) {
            Ok(command) => command,
            Err(error) => {
                tracing::warn!(id = delivery.message.id, %error, "no write command; parked");
                return Disposition::Park {
                    reason: Reason::CommandInvalid,
                    detail: format!("no write command: {error}"),
                };
            }
        };
        if command.record.portal_id != self.portal_id {
            let detail = format!(
                "the command is for portal {}, hubspot.portal_id is {}",
                command.record.portal_id, self.portal_id
            );
            return Disposition::Park { reason: Reason::WrongPortal, detail };
        }
        // Gone: the batch panicked. The leases end by themselves, and the message comes back.
        self.gather.ask((command, delivery.message.attempts)).await.unwrap_or(Disposition::wait(Reason::BatchLost))
    }
}

struct BatchExecutor {
    circuit_breakers: CircuitBreakers,
    ledger: Ledger,
    hubspot: hubspot::HubSpotClient,
    action_executor: ActionExecutor,
    ours: AppId,
    retry_schedule: broker::RetrySchedule,
    lease: Duration,
    time_per_batch: Duration,
    name: String,
    batches: AtomicU64,
}

impl BatchExecutor {
    /// Carries out a batch and says what becomes of each message, in order.
    async fn carry_out(&self, asked: &[Asked]) -> Vec<Disposition> {
        metrics::histogram!("leadline_write_batch_size").record(u32::try_from(asked.len()).map_or(0.0, f64::from));
        // Each batch is a worker of its own: the leases of one must not be given back by another.
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        let worker = Worker(format!("{}/{batch}", self.name));
        // Whatever is not decided below comes back.
        let mut dispositions = vec![Disposition::wait(Reason::LedgerUnavailable); asked.len()];
        if let Err(error) = self.try_carry_out(asked, &worker, &mut dispositions).await {
            tracing::warn!(%error, "the ledger does not answer; write commands come back");
        }
        dispositions
    }

    async fn try_carry_out(
        &self,
        asked: &[Asked],
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<(), LedgerError> {
        // The leases begin now; every call to HubSpot has to be over before they are.
        let leased = Instant::now();
        let jobs = self.take(asked, worker, dispositions).await?;
        crash_point!("writer.after_take");
        let (jobs, busy) = self.lock(jobs, worker).await?;
        let records: Vec<_> = jobs.iter().map(|job| job.command.record.clone()).collect();
        let newest = retry::run(&LEDGER_RETRY, || self.ledger.latest_writes(&records)).await?;
        let (mut updates, superseded) = plan::plan(jobs, &newest);
        let mut ends: Vec<_> = busy
            .iter()
            .map(|job| End::new(job, CommandState::Waiting, Disposition::wait(Reason::RecordBusy)))
            .collect();
        let deadline = tokio::time::Instant::from_std(leased + self.time_per_batch);
        if let Ok(written) = tokio::time::timeout_at(deadline, self.write(&mut updates)).await {
            ends.extend(written);
        } else {
            // A call that we gave up may still land, on a value that somebody else wrote meanwhile.
            retry::run(&LEDGER_RETRY, || self.ledger.mark_for_verification(&records)).await?;
            let parts = updates.iter().flat_map(|update| &update.parts);
            ends.extend(
                parts.map(|part| {
                    End::new(&part.job, CommandState::Waiting, Disposition::wait(Reason::DeadlineExceeded))
                }),
            );
        }
        ends.extend(superseded.iter().map(|job| End::new(job, CommandState::Superseded, Disposition::Done)));
        self.act(&mut ends, &newest, deadline).await;
        self.record(ends, worker, dispositions).await?;
        crash_point!("writer.after_commit");
        retry::run(&LEDGER_RETRY, || self.ledger.unlock_records(&records, worker)).await
    }

    /// Take: which commands are this writer's to carry out.
    async fn take(
        &self,
        asked: &[Asked],
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<Vec<Job>, LedgerError> {
        let ids: Vec<_> = asked.iter().map(|(command, _)| command.id).collect();
        let taken = retry::run(&LEDGER_RETRY, || self.ledger.take_commands(&ids, worker, self.lease)).await?;
        let mut jobs = Vec::new();
        for (index, ((command, failures), taken)) in asked.iter().zip(taken).enumerate() {
            match taken {
                Taken::Mine { attempt, written } => {
                    jobs.push(Job { index, command: command.clone(), attempt, written, failures: *failures });
                }
                Taken::Done => dispositions[index] = Disposition::Done,
                Taken::LeasedElsewhere => dispositions[index] = Disposition::wait(Reason::LeasedElsewhere),
                Taken::Unknown => {
                    let detail = format!("the ledger has no write command {}", command.id);
                    dispositions[index] = Disposition::Park { reason: Reason::UnknownCommand, detail };
                }
            }
        }
        Ok(jobs)
    }

    /// Lock: no two writers change one record at the same time. Gives back the jobs whose record stayed busy.
    async fn lock(&self, mut jobs: Vec<Job>, worker: &Worker) -> Result<(Vec<Job>, Vec<Job>), LedgerError> {
        let mut locked = Vec::new();
        for attempt in 0..LOCK_ATTEMPTS {
            if jobs.is_empty() {
                break;
            }
            if attempt > 0 {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            let records: Vec<_> = jobs.iter().map(|job| job.command.record.clone()).collect();
            let got = retry::run(&LEDGER_RETRY, || self.ledger.lock_records(&records, worker, self.lease)).await?;
            let (mine, busy): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| got.contains(&job.command.record));
            locked.extend(mine);
            jobs = busy;
        }
        Ok((locked, jobs))
    }

    /// Read before, leave what the policies leave, and write.
    async fn write(&self, updates: &mut [RecordUpdate]) -> Vec<End> {
        let before = match apply::read_before(&self.hubspot, updates).await {
            Ok(before) => before,
            Err(error) => {
                let parts = updates.iter().flat_map(|update| &update.parts);
                return parts.map(|part| self.failed(&part.job, &error)).collect();
            }
        };
        policy::apply(updates, &before, self.ours);
        let applied = apply::apply(&self.hubspot, updates).await;
        crash_point!("writer.after_write");
        let mut ends = Vec::new();
        for (update, part) in updates.iter().flat_map(|update| update.parts.iter().map(move |part| (update, part))) {
            ends.push(match applied.get(&part.job.command.id) {
                Some(Ok(())) => {
                    let all_kept =
                        part.changes.is_empty() && !part.skipped_writes.is_empty() && part.job.written.is_empty();
                    let state = if all_kept { CommandState::Skipped } else { CommandState::Written };
                    let mut end = End::new(&part.job, state, Disposition::Done);
                    end.row.reason = part.skipped_writes.first().filter(|_| all_kept).map(|kept| kept.reason);
                    end.row.written = written(update, part, &before);
                    end.row.skipped_writes.clone_from(&part.skipped_writes);
                    end
                }
                Some(Err(error)) => self.failed(&part.job, &**error),
                None => End::new(&part.job, CommandState::Waiting, Disposition::wait(Reason::NotApplied)),
            });
        }
        ends
    }

    /// Actions of the commands whose properties are settled. What was written is recorded whatever becomes of them.
    async fn act(&self, ends: &mut [End], newest: &LatestWrites, deadline: tokio::time::Instant) {
        let acting = ends.iter_mut().filter(|end| end.row.state.settles_properties()).filter_map(|end| {
            let job = end.acting.take()?;
            let superseded = end.row.state == CommandState::Superseded;
            Some(async move {
                match tokio::time::timeout_at(deadline, self.action_executor.act(&job, newest, superseded, deadline))
                    .await
                {
                    Ok((stages, failure)) => {
                        end.row.written.extend(stages);
                        if let Some(error) = failure {
                            self.fail(end, &job, &error);
                        }
                    }
                    Err(_) => {
                        (end.row.state, end.disposition) =
                            (CommandState::Waiting, Disposition::wait(Reason::DeadlineExceeded));
                    }
                }
            })
        });
        futures_util::future::join_all(acting).await;
    }

    fn failed(&self, job: &Job, error: &impl Failure) -> End {
        let mut end = End::new(job, CommandState::Waiting, Disposition::Done);
        self.fail(&mut end, job, error);
        end
    }

    /// What a failure means for a command and its message.
    fn fail(&self, end: &mut End, job: &Job, error: &impl Failure) {
        let (reason, detail) = (error.reason(), error.to_string());
        tracing::warn!(command = %job.command.id, event = %job.command.event_key, %reason, %error, "not carried out");
        let decision = if self.circuit_breakers.is_outage(error) {
            RetryDecision::Wait(self.retry_schedule.shortest())
        } else {
            self.retry_schedule.decide(error.retry_action(), job.failures)
        };
        (end.row.state, end.disposition) = match decision {
            RetryDecision::Retry(delay) => {
                (CommandState::Waiting, Disposition::Retry { delay, reason, detail: detail.clone() })
            }
            RetryDecision::Wait(delay) => (CommandState::Waiting, Disposition::Wait { delay: Some(delay), reason }),
            RetryDecision::Exhausted | RetryDecision::Park => {
                (CommandState::Parked, Disposition::Park { reason, detail: detail.clone() })
            }
            RetryDecision::Discard => (CommandState::Dropped, Disposition::Done),
        };
        end.row.reason = Some(reason);
        end.row.detail = Some(detail);
    }

    /// Record: what was written and what was there before, then what becomes of the messages.
    async fn record(
        &self,
        ends: Vec<End>,
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<(), LedgerError> {
        if ends.is_empty() {
            return Ok(());
        }
        let wait = |end: &End| match end.row.state {
            CommandState::Waiting => end.disposition.delay().or(Some(self.retry_schedule.shortest())),
            _ => None,
        };
        let rows: Vec<_> = ends.iter().map(|end| Finished { wait: wait(end), ..end.row.clone() }).collect();
        let counted = retry::run(&LEDGER_RETRY, || self.ledger.finish_commands(&rows, worker)).await?;
        let lost: Vec<_> = ends
            .iter()
            .zip(&counted)
            .filter(|(end, counted)| !**counted && !end.row.written.is_empty())
            .map(|(end, _)| end.record.clone())
            .collect();
        if !lost.is_empty() {
            // Written without a right to it: an older value may lie on a newer one.
            retry::run(&LEDGER_RETRY, || self.ledger.mark_for_verification(&lost)).await?;
        }
        for (end, counted) in ends.into_iter().zip(counted) {
            dispositions[end.index] = if counted {
                metrics::counter!("leadline_write_commands_total", "state" => end.row.state.as_str()).increment(1);
                end.disposition
            } else {
                tracing::warn!(command = %end.row.id, "the lease had expired; another writer has the command or the record now");
                Disposition::wait(Reason::LeaseLost)
            };
        }
        Ok(())
    }
}

/// What became of one command of a batch.
struct End {
    /// Its place in the batch.
    index: usize,
    /// What its message does disposition.
    disposition: Disposition,
    /// The record.
    record: RecordRef,
    /// What the ledger is to know.
    row: Finished,
    /// The command, if it has actions.
    acting: Option<Job>,
}

impl End {
    fn new(job: &Job, state: CommandState, disposition: Disposition) -> Self {
        let reason = match (&disposition, state) {
            (Disposition::Wait { reason, .. }, _) => Some(*reason),
            (_, CommandState::Superseded) => Some(Reason::NewerEventWritten),
            _ => None,
        };
        let (id, attempt) = (job.command.id, job.attempt);
        let row = Finished {
            id,
            attempt,
            state,
            reason,
            detail: None,
            wait: None,
            written: Vec::new(),
            skipped_writes: Vec::new(),
        };
        let acting = (!job.command.actions.is_empty()).then(|| job.clone());
        Self { index: job.index, disposition, record: job.command.record.clone(), row, acting }
    }
}

fn written(update: &RecordUpdate, part: &CommandPart, before: &CurrentValues) -> Vec<WrittenProperty> {
    let held = before.get(&update.record);
    let property = |change: &domain::write_command::PropertyChange| WrittenProperty {
        property: change.property.clone(),
        before: held
            .and_then(|held| held.get(&change.property))
            .and_then(|held| held.before(&part.job.command, part.job.attempt, &change.value)),
        after: change.value.clone(),
    };
    part.changes.iter().map(property).collect()
}
