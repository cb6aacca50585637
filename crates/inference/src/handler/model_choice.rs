//! Which of a playbook's models is asked, and what their refusals mean for its other events.

use std::sync::Arc;

use domain::{EventId, RecordRef};
use ledger::Claimed;
use maintenance::{ModelPause, Permission, Refused, Turns};
use openai::ModelRefusal;
use playbook::{Context, LocalTime};
use retry::Reason;

use super::{EventHandler, playbook_run::PlaybookRun};
use crate::{ModelAnswer, QuestionLog, StepError, answer, gate::GatedPlaybook};

impl EventHandler {
    /// Whether the run may go on to ask one of its models.
    ///
    /// # Errors
    /// All of them are away, or the gate lets no version run.
    pub(super) fn admit(&self, run: &PlaybookRun<'_>) -> Result<Turns, StepError> {
        check_gate(run)?;
        let circuits: Vec<_> = run.configured.models().map(|model| run.configured.circuit(model)).collect();
        self.model_circuits.admit(&circuits).map_err(StepError::ModelPaused)
    }

    /// Asks the playbook's model, or while it is away the next one, about `record`, which the run's own may have been merged into.
    pub(super) async fn ask(
        &self,
        claimed: &Claimed,
        (run, record): (&PlaybookRun<'_>, &RecordRef),
        context: (&Arc<Context>, &LocalTime),
        turns: &Turns,
        log: &QuestionLog<'_>,
    ) -> ModelAnswer {
        // A stored answer that does not fit the playbook any more has led here without a look at the gate.
        if let Err(error) = check_gate(run) {
            return ModelAnswer { inferences: Vec::new(), result: Err(error) };
        }
        let mut inferences = Vec::new();
        let mut pauses = Vec::new();
        // What stands if no other model answers or is only away.
        let mut refused = None;
        for model in run.configured.models() {
            let permission = match self.model_circuits.permission(&run.configured.circuit(model), turns).await {
                Ok(Ok(permission)) => permission,
                Ok(Err(pause)) => {
                    pauses.push(pause);
                    continue;
                }
                Err(error) => return ModelAnswer { inferences, result: Err(error.into()) },
            };
            let answered = answer(&self.model_client, run.playbook(), model, record, context, log).await;
            inferences.extend(answered.inferences);
            match self.judge(permission, claimed.event_id, &answered.result).await {
                // What the models before it are, decides about the event.
                Ok(Verdict::Stands)
                    if matches!(answered.result, Err(StepError::SpendLimitTooLow { .. }))
                        && (refused.is_some() || !pauses.is_empty()) => {}
                Ok(Verdict::Stands) => return ModelAnswer { inferences, result: answered.result },
                Ok(Verdict::NotTaken) => refused = refused.or(Some(answered.result)),
                Ok(Verdict::Away(pause)) => pauses.push(pause),
                Err(error) => return ModelAnswer { inferences, result: Err(error) },
            }
        }
        let result = refused
            .filter(|_| pauses.is_empty())
            .unwrap_or_else(|| Err(StepError::ModelPaused(ModelPause::of_all(pauses))));
        ModelAnswer { inferences, result }
    }

    /// What an answer, or its absence, says about the model.
    async fn judge<T>(
        &self,
        permission: Permission,
        event: EventId,
        result: &Result<T, StepError>,
    ) -> Result<Verdict, StepError> {
        match result {
            Ok(_) | Err(StepError::Answer { .. }) => self.model_circuits.answered(permission).await,
            Err(error) => match refusal(error) {
                Some(refused) => {
                    let pause = self.model_circuits.refused(permission, event, &refused).await?;
                    return Ok(pause.map_or(Verdict::NotTaken, Verdict::Away));
                }
                None => self.model_circuits.give_back(permission).await,
            },
        }
        Ok(Verdict::Stands)
    }
}

fn check_gate(run: &PlaybookRun<'_>) -> Result<(), StepError> {
    let closed = run.configured.gate.as_ref().and_then(GatedPlaybook::closed);
    closed.map_or(Ok(()), |why| Err(StepError::GateClosed(why)))
}

/// What a model's answer, or its absence, means for the event.
enum Verdict {
    /// It is the event's result.
    Stands,
    /// This model does not take the question. Another one may.
    NotTaken,
    /// The model is away.
    Away(ModelPause),
}

/// What a model refused, if it would refuse it of any event.
fn refusal(error: &StepError) -> Option<Refused> {
    let StepError::OpenAi(openai) = error else { return None };
    let (reason, parameter) = match openai.model_refusal()? {
        ModelRefusal::Gone => (Reason::ModelNotFound, None),
        ModelRefusal::Forbidden => (Reason::OpenAiForbidden, None),
        ModelRefusal::Parameter(parameter) => (Reason::OpenAiInvalidRequest, Some(parameter)),
        ModelRefusal::Unexplained => (Reason::OpenAiForbidden, Some("403".to_owned())),
    };
    Some(Refused { reason, detail: error.to_string(), parameter })
}
