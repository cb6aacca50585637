//! The way of an event:
//! claim → loop guard → playbooks → context → prompt → model → validate → record → write command → ack.
//!
//! Every step is a function below, in this order. Each may run twice: the ledger knows what was done already.

use std::{sync::Arc, time::Duration};

use broker::{Delivered, Handler, Message, Next, Publisher, Route, Stage, topology::Decision};
use domain::{
    AppId, Context, Event, EventState, Inference, Playbook, PortalId, RecordRef, WriteCommand, WriteCommandId,
    event::EventKind, playbook::Rendered,
};
use ledger::{Claim, Claimed, Duplicate, Ledger, Settlement};
use openai::models::{self, Model};
use retry::Failure;
use runtime::config::Settings;
use time::OffsetDateTime;

use crate::{
    context,
    desk::Desk,
    failure::StepError,
    question::{self, Asked},
};

/// What is kept of a lease for committing the decision.
const SETTLE_MARGIN: f64 = 0.15;

/// Tokens that are kept free beside the data: instructions' overhead and the schema.
const PROMPT_SLACK: usize = 500;

/// What an event meets on its way.
pub struct Way {
    playbooks: Vec<Playbook>,
    models: Vec<Model>,
    app_id: AppId,
    portal_id: PortalId,
    desk: Desk,
    hubspot: hubspot::Client,
    openai: openai::Client,
    publisher: Publisher,
    ladder: broker::Ladder,
    time_per_event: Duration,
}

impl Way {
    pub fn new(
        settings: &Settings,
        playbooks: Vec<Playbook>,
        ledger: &Ledger,
        publisher: Publisher,
    ) -> Result<Self, String> {
        let models = playbooks.iter().map(|playbook| model_of(settings, playbook)).collect();
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        Ok(Self {
            playbooks,
            models,
            app_id: AppId(settings.hubspot.app_id.ok_or("hubspot.app_id is not set")?),
            portal_id: PortalId(settings.hubspot.portal_id.ok_or("hubspot.portal_id is not set")?),
            desk: Desk::open(settings, ledger),
            hubspot: connect::hubspot(settings)?,
            openai: connect::openai(settings)?,
            publisher,
            ladder: connect::broker(settings, "inference")?.topology.ladder,
            time_per_event: lease.mul_f64(1.0 - SETTLE_MARGIN),
        })
    }
}

/// The facts about a playbook's model; for an unknown one only what the playbook itself says.
fn model_of(settings: &Settings, playbook: &Playbook) -> Model {
    let name = playbook.model.name.as_ref().unwrap_or(&settings.openai.model);
    let facts = connect::model_facts(settings, name);
    let unknown = || {
        tracing::warn!(model = name, "no facts about this model; its cost stays unknown. See openai.models");
        Model { name: name.clone(), window: usize::MAX, max_output: u32::MAX, price: None }
    };
    Model { name: name.clone(), ..facts.unwrap_or_else(unknown) }
}

/// How an event's way ended.
enum Outcome {
    /// Nothing is to be done, for this reason.
    Ended(EventState, &'static str),
    /// The commands are to be carried out.
    Decided,
}

/// What has been achieved under a claim. It is recorded even when a later step fails: it was paid for.
#[derive(Default)]
struct Progress {
    inferences: Vec<Inference>,
    commands: Vec<WriteCommand>,
}

impl Handler for Way {
    async fn handle(&self, delivered: Delivered) -> Next {
        let event: Arc<Event> = match serde_json::from_slice(&delivered.message.body) {
            Ok(event) => Arc::new(event),
            Err(error) => return Next::Park { reason: "event_invalid", detail: format!("not an event: {error}") },
        };
        let claimed = match self.claim(event.clone(), &delivered).await {
            Ok(claimed) => claimed,
            Err(next) => return next,
        };
        let mut progress = Progress { inferences: Vec::new(), commands: claimed.commands.clone() };
        let decided = tokio::time::timeout(self.time_per_event, self.decide(&event, &claimed, &mut progress)).await;
        let outcome = decided.unwrap_or(Err(StepError::OutOfTime));
        let (settlement, next) = self.conclude(&delivered, &claimed, progress, outcome);
        self.record(settlement, next).await
    }
}

impl Way {
    /// Claim: this is the idempotency check. `Err` says what becomes of a delivery that is not to be worked on.
    async fn claim(&self, event: Arc<Event>, delivered: &Delivered) -> Result<Claimed, Next> {
        match self.desk.claim(event).await {
            Ok(Claim::Mine(claimed)) => Ok(claimed),
            // Killed between the ledger and the parking lot: the message still has to get there.
            Ok(Claim::Not(Duplicate::Done(EventState::Parked))) if delivered.redelivered => {
                Err(Next::Park { reason: "parked", detail: "see the ledger for the reason".to_owned() })
            }
            Ok(Claim::Not(Duplicate::Done(_))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "done").increment(1);
                Err(Next::Done)
            }
            // Killed between the decision and its publication, or delivered twice: publishing again is harmless.
            Ok(Claim::Not(Duplicate::Decided(commands))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "decided").increment(1);
                Err(self.publish(&commands).await)
            }
            Ok(Claim::Not(Duplicate::Held)) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "held").increment(1);
                Err(Next::wait("held"))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                Err(Next::wait("ledger_unavailable"))
            }
        }
    }

    async fn decide(&self, event: &Event, claimed: &Claimed, progress: &mut Progress) -> Result<Outcome, StepError> {
        if let Some(ended) = self.loop_guard(event) {
            return Ok(ended);
        }
        let Some(record) = event.record() else {
            return Ok(Outcome::Ended(EventState::Skipped, "no_playbook"));
        };
        if event.portal_id != self.portal_id {
            return Err(StepError::WrongPortal { event: event.portal_id, ours: self.portal_id });
        }
        let triggered = self.playbooks(event);
        if triggered.is_empty() {
            return Ok(Outcome::Ended(EventState::Skipped, "no_playbook"));
        }
        let mut nothing_because = (EventState::Superseded, "newer_event_answered");
        for (playbook, model) in triggered {
            if claimed.answered.contains(&playbook.name) || claimed.answered_newer.contains(&playbook.name) {
                continue;
            }
            let context = self.context(&record, playbook).await?;
            if context.engagements.is_empty() {
                nothing_because = (EventState::Skipped, "empty_context");
                continue;
            }
            let answer = self.ask(playbook, model, &context).await?;
            let inference = &answer.inference;
            progress.inferences.push(inference.clone());
            let mut changes = playbook.fields.changes(&answer.result?);
            changes.extend(playbook.stamped(OffsetDateTime::now_utc(), &inference.model));
            tracing::debug!(playbook = playbook.name, tokens = inference.usage.prompt_tokens, "answered");
            progress.commands.push(WriteCommand {
                id: WriteCommandId::new(),
                event_id: claimed.event_id,
                event_key: event.key.clone(),
                inference_id: inference.id,
                occurred_at: event.occurred_at,
                record: context.record,
                properties: changes,
            });
        }
        if progress.commands.is_empty() {
            return Ok(Outcome::Ended(nothing_because.0, nothing_because.1));
        }
        Ok(Outcome::Decided)
    }

    /// Loop guard: what our own writes caused starts nothing. First by who made the change; second by what changed, in
    /// case another app of the portal copies our properties about.
    fn loop_guard(&self, event: &Event) -> Option<Outcome> {
        if event.is_echo_of(self.app_id) {
            return Some(Outcome::Ended(EventState::Dropped, "echo"));
        }
        let changed = event.property_name.as_deref().filter(|_| event.kind == EventKind::PropertyChange)?;
        let ours = self.playbooks.iter().flat_map(Playbook::written_properties).any(|property| property == changed);
        ours.then_some(Outcome::Ended(EventState::Skipped, "playbook_property"))
    }

    /// Playbooks: which ones this event starts.
    fn playbooks(&self, event: &Event) -> Vec<(&Playbook, &Model)> {
        self.playbooks.iter().zip(&self.models).filter(|(playbook, _)| playbook.is_triggered_by(event)).collect()
    }

    /// Context: what HubSpot knows about the record.
    async fn context(&self, record: &RecordRef, playbook: &Playbook) -> Result<Context, StepError> {
        Ok(context::read(&self.hubspot, record, &playbook.reads).await?)
    }

    /// Prompt: the context, cut to its share of the model's window, in the playbook's words.
    fn prompt(playbook: &Playbook, model: &Model, context: &Context, share: usize) -> Result<Rendered, StepError> {
        let today = OffsetDateTime::now_utc().date().to_string();
        let bare = playbook.prompt.render(&context.record, "", &today)?;
        let instructions = models::count_prompt(&model.name, [bare.system.as_str(), bare.user.as_str()]);
        let reserved = instructions + playbook.model.max_output_tokens as usize + PROMPT_SLACK;
        let max_tokens = playbook.reads.max_tokens.min(model.window.saturating_sub(reserved)) / share;
        let data = context.render(max_tokens, |text| models::count_tokens(&model.name, text));
        Ok(playbook.prompt.render(&context.record, &data, &today)?)
    }

    /// Model and validation: the question, its answer, and whether it may be written. A prompt that the model finds
    /// too long after all is halved, twice at most.
    async fn ask(&self, playbook: &Playbook, model: &Model, context: &Context) -> Result<Asked, StepError> {
        let mut share = 1;
        loop {
            let prompt = Self::prompt(playbook, model, context, share)?;
            match question::ask(&self.openai, playbook, model, &prompt).await {
                Err(error) if error.reason() == "context_too_long" && share < 4 => share *= 2,
                asked => return asked,
            }
        }
    }

    /// What an outcome or a failure means for the ledger and for the message.
    fn conclude(
        &self,
        delivered: &Delivered,
        claimed: &Claimed,
        progress: Progress,
        outcome: Result<Outcome, StepError>,
    ) -> (Settlement, Next) {
        let (state, reason, detail, next) = match outcome {
            Ok(Outcome::Ended(state, reason)) => (state, Some(reason), None, Next::Done),
            Ok(Outcome::Decided) => (EventState::Decided, None, None, Next::Done),
            Err(error) => {
                let (reason, detail) = (error.reason(), error.to_string());
                let (state, next) = match self.ladder.decide(error.remedy(), delivered.message.attempts) {
                    Decision::Retry(delay) => {
                        (EventState::Waiting, Next::Retry { delay, reason, detail: detail.clone() })
                    }
                    Decision::Wait(delay) => (EventState::Waiting, Next::Wait { delay: Some(delay), reason }),
                    Decision::Exhausted | Decision::Park => {
                        (EventState::Parked, Next::Park { reason, detail: detail.clone() })
                    }
                    Decision::Drop => (EventState::Dropped, Next::Done),
                };
                tracing::warn!(reason, %error, state = state.as_str(), "failed");
                (state, Some(reason), Some(detail), next)
            }
        };
        tracing::debug!(state = state.as_str(), reason, "decided");
        let settlement = Settlement {
            event_id: claimed.event_id,
            attempt: claimed.attempt,
            state,
            reason: reason.map(ToOwned::to_owned),
            detail,
            inferences: progress.inferences,
            commands: progress.commands,
        };
        (settlement, next)
    }

    /// Record, and only then publish the write commands: a decision that is not in the ledger has no effect.
    async fn record(&self, settlement: Settlement, next: Next) -> Next {
        let commands = if settlement.state == EventState::Decided { settlement.commands.clone() } else { Vec::new() };
        match self.desk.settle(settlement).await {
            Ok(true) if commands.is_empty() => next,
            Ok(true) => self.publish(&commands).await,
            Ok(false) => {
                tracing::warn!("the lease had expired; somebody else has taken the event over");
                Next::wait("lease_lost")
            }
            // The lease expires by itself, and the message comes back.
            Err(error) => {
                tracing::warn!(%error, "cannot record the decision");
                Next::wait("ledger_unavailable")
            }
        }
    }

    /// Write commands: confirmed in the next queue before the event's message is acknowledged.
    async fn publish(&self, commands: &[WriteCommand]) -> Next {
        for command in commands {
            let body = match serde_json::to_vec(command) {
                Ok(body) => body,
                Err(error) => return Next::Park { reason: "command_unwritable", detail: error.to_string() },
            };
            let message = Message::new(command.id.to_string(), body);
            if let Err(error) = self.publisher.publish(Route::Queue(Stage::Writes), &message).await {
                tracing::warn!(%error, "cannot publish a write command; the event's message comes back for it");
                return Next::wait(error.reason());
            }
        }
        Next::Done
    }
}
