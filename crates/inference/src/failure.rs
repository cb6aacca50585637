//! Why a step of an event failed, and what each failure asks for.

use std::{sync::Arc, time::Duration};

use batcher::BatcherError;
use ledger::LedgerError;
use maintenance::ModelPause;
use playbook::{PromptError, TemplateError};
use retry::{Failure, Outage, RateLimited, Reason, RetryAction, Shortage};
use time::{OffsetDateTime, Time};

use crate::gate::GATE_POLL;

/// Why a step of an event failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A call to HubSpot failed. Shared, because one call reads for many events.
    #[error(transparent)]
    HubSpot(Arc<hubspot::HubSpotError>),
    /// The batch of HubSpot reads ended without a result: its task panicked, or the worker is stopping.
    #[error("the batch that contained this read ended without a result")]
    BatchLost,
    /// A call to OpenAI failed.
    #[error(transparent)]
    OpenAi(#[from] openai::OpenAiError),
    /// The models of the playbook are away.
    #[error("the playbook waits for its model: {}", .0.why)]
    ModelPaused(ModelPause),
    /// No version of the playbook may run.
    #[error("{0}")]
    GateClosed(String),
    /// The spend limit of the playbook or of the fleet is reached.
    #[error("the spend limit of the day is reached; the playbook continues in {:?} at the latest", .0.after)]
    SpendLimitReached(RateLimited),
    /// Whether the spend limits allow the question is not known: the ledger does not answer.
    #[error("the ledger does not say what is left of the day's money; trying again in {:?}", .0.after)]
    SpendUnknown(RateLimited),
    /// The spend limit of the record is reached.
    #[error("the questions about this record have cost what a record may cost in a day; it continues in {:?}", .0.after)]
    RecordLimitReached(RateLimited),
    /// The question can cost more than a spend limit allows in a whole day.
    #[error("the question may cost {most} µ$, and a spend limit allows {limit} µ$ a day")]
    SpendLimitTooLow {
        /// The most that it can cost, in micro-dollars.
        most: i64,
        /// The limit, in micro-dollars.
        limit: i64,
    },
    /// The playbook's prompt cannot be rendered.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A condition or a text of the playbook cannot be evaluated.
    #[error("the playbook: {0}")]
    Template(#[from] TemplateError),
    /// The summary of a part of the context could not be read or stored.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger refused a statement for this event, or does not answer.
    #[error(transparent)]
    LedgerBatch(#[from] BatcherError<LedgerError>),
    /// The model answered, but the answer cannot be used.
    #[error("{detail}")]
    Answer {
        /// `schema_invalid`, `refused`, `answer_truncated`, `answer_empty`, `content_filtered` or `unverified`.
        reason: Reason,
        /// An explanation that quotes nothing of the answer.
        detail: String,
    },
    /// The event is of a portal that our access token does not belong to.
    #[error("the event is of portal {event}, hubspot.portal_id is {ours}")]
    WrongPortal {
        /// The event's portal.
        event: domain::PortalId,
        /// The portal in the settings.
        ours: domain::PortalId,
    },
    /// HubSpot takes no value for any property that the playbook writes.
    #[error("the playbook would write nothing: {0}")]
    NotWritable(String),
    /// The record is so young that it may still get the associations that it lacks.
    #[error("the record has just been created and may still be associated with others")]
    NotAssociatedYet,
    /// The work was not finished before the lease's end came near, or another worker took the event over.
    #[error("not finished within the lease")]
    DeadlineExceeded,
}

impl StepError {
    /// The spend limit of the record is reached, until the next day (UTC).
    pub(crate) fn record_limit_reached() -> Self {
        let passed = OffsetDateTime::now_utc().time() - Time::MIDNIGHT;
        let after = Duration::from_secs(86_400).saturating_sub(passed.unsigned_abs());
        Self::RecordLimitReached(RateLimited { after, shortage: Shortage::UsedUp })
    }

    /// Whether a pause of a model seems to be the event's own doing: its question paused the model the last time, too, and the
    /// model has answered others in between. Then it counts as a failure, so that it does not go on for ever.
    pub(crate) fn is_its_own(&self, last_reason: Option<Reason>) -> bool {
        last_reason == Some(Reason::ModelPaused) && matches!(self, Self::ModelPaused(pause) if pause.opened_again)
    }

    /// Whether there was an answer that cannot be used and may be billed, and another one would be no better.
    pub(crate) fn is_unusable_answer(&self) -> bool {
        match self {
            Self::Answer { .. } => true,
            Self::OpenAi(error) => error.may_be_billed() && error.retry_action() == RetryAction::Park,
            _ => false,
        }
    }

    /// Why no money could be reserved of the day's limits of playbook and fleet.
    pub(crate) fn not_reserved(limited: RateLimited) -> Self {
        match limited.shortage {
            Shortage::UsedUp => Self::SpendLimitReached(limited),
            Shortage::Unknown => Self::SpendUnknown(limited),
        }
    }
}

impl From<hubspot::HubSpotError> for StepError {
    fn from(error: hubspot::HubSpotError) -> Self {
        Self::HubSpot(Arc::new(error))
    }
}

impl From<Arc<hubspot::HubSpotError>> for StepError {
    fn from(error: Arc<hubspot::HubSpotError>) -> Self {
        Self::HubSpot(error)
    }
}

impl From<BatcherError<hubspot::HubSpotError>> for StepError {
    fn from(error: BatcherError<hubspot::HubSpotError>) -> Self {
        match error {
            BatcherError::Failed(error) => Self::HubSpot(error),
            BatcherError::Closed => Self::BatchLost,
        }
    }
}

impl Failure for StepError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::HubSpot(error) => error.retry_action(),
            Self::OpenAi(error) => error.retry_action(),
            // A batch is lost when its task panicked: whether because of this event is not known, so it counts.
            Self::DeadlineExceeded | Self::LedgerBatch(BatcherError::Closed) | Self::BatchLost => {
                RetryAction::RetryLater { after: None }
            }
            Self::SpendLimitReached(RateLimited { after, .. })
            | Self::SpendUnknown(RateLimited { after, .. })
            | Self::RecordLimitReached(RateLimited { after, .. }) => RetryAction::RateLimited { after: Some(*after) },
            // A person has to create or change the property; nothing is paid for meanwhile.
            Self::NotWritable(_) => RetryAction::RetryLater { after: None },
            // It has not failed: it comes back until the record is no longer young.
            Self::NotAssociatedYet => RetryAction::RateLimited { after: None },
            // Others wait as well, and it says nothing about the event.
            Self::ModelPaused(pause) => RetryAction::RateLimited { after: Some(pause.after) },
            Self::GateClosed(_) => RetryAction::RateLimited { after: Some(GATE_POLL) },
            Self::Ledger(error) => error.retry_action(),
            Self::LedgerBatch(BatcherError::Failed(error)) => error.retry_action(),
            Self::Prompt(_)
            | Self::Template(_)
            | Self::Answer { .. }
            | Self::WrongPortal { .. }
            | Self::SpendLimitTooLow { .. } => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::HubSpot(error) => error.reason(),
            Self::OpenAi(error) => error.reason(),
            Self::Ledger(error) => error.reason(),
            Self::LedgerBatch(BatcherError::Failed(error)) => error.reason(),
            Self::SpendLimitReached(_) => Reason::PlaybookPaused,
            Self::SpendUnknown(_) => Reason::LedgerUnavailable,
            Self::RecordLimitReached(_) => Reason::RecordPaused,
            Self::ModelPaused(_) => Reason::ModelPaused,
            Self::GateClosed(_) => Reason::GateClosed,
            Self::SpendLimitTooLow { .. } => Reason::SpendLimitTooLow,
            Self::Prompt(_) => Reason::PromptFailed,
            Self::Template(_) => Reason::TemplateFailed,
            Self::Answer { reason, .. } => *reason,
            Self::WrongPortal { .. } => Reason::WrongPortal,
            Self::NotWritable(_) => Reason::NotWritable,
            Self::NotAssociatedYet => Reason::NotAssociatedYet,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::BatchLost | Self::LedgerBatch(BatcherError::Closed) => Reason::BatchLost,
        }
    }

    fn outage(&self) -> Option<Outage> {
        match self {
            Self::HubSpot(error) => error.outage(),
            Self::OpenAi(error) => error.outage(),
            _ => None,
        }
    }
}

/// A failure, and the playbook whose run failed.
pub(crate) struct RunFailure {
    pub(crate) error: StepError,
    /// `None` when the failure came before any playbook run.
    pub(crate) playbook: Option<String>,
}

impl<E: Into<StepError>> From<E> for RunFailure {
    fn from(error: E) -> Self {
        Self { error: error.into(), playbook: None }
    }
}

impl RunFailure {
    /// Of two failures of one event, the one whose retry action decides about the event; `self` if they are equal. A failure
    /// that asks for a retry comes first, because the retry repeats the other run, too. Then comes one that a person has to
    /// look at. A record that no longer exists comes last: it concerns its own run alone.
    pub(crate) fn more_severe(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    fn severity(&self) -> u8 {
        match self.error.retry_action() {
            RetryAction::RetryNow { .. } | RetryAction::RetryLater { .. } | RetryAction::RateLimited { .. } => 2,
            RetryAction::Park => 1,
            RetryAction::Discard => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::PortalId;

    use std::time::Duration;

    use retry::{Failure, RateLimited, Shortage};

    use super::{Reason, RunFailure, StepError};

    fn failure(error: StepError, playbook: &str) -> RunFailure {
        RunFailure { error, playbook: Some(playbook.to_owned()) }
    }

    fn parks(playbook: &str) -> RunFailure {
        failure(StepError::WrongPortal { event: PortalId(1), ours: PortalId(2) }, playbook)
    }

    #[test]
    fn a_failure_that_is_retried_decides_over_one_that_parks() {
        let retried = || failure(StepError::DeadlineExceeded, "retried");
        assert_eq!(parks("parked").more_severe(retried()).playbook.as_deref(), Some("retried"));
        assert_eq!(retried().more_severe(parks("parked")).playbook.as_deref(), Some("retried"));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_paid_for_and_one_that_did_not_come_may_be_asked_for_again() {
        use openai::OpenAiError;
        for error in [OpenAiError::Unreadable(String::new()), OpenAiError::EventStream] {
            assert!(StepError::OpenAi(error).is_unusable_answer());
        }
        for error in [OpenAiError::NotJson, OpenAiError::TimedOut(Duration::ZERO)] {
            assert!(!StepError::OpenAi(error).is_unusable_answer());
        }
    }

    #[test]
    fn a_ledger_that_is_away_is_no_spend_limit_that_is_reached() {
        let limited = |shortage| StepError::not_reserved(RateLimited { after: Duration::from_secs(1), shortage });
        assert_eq!(limited(Shortage::UsedUp).reason(), Reason::PlaybookPaused);
        assert_eq!(limited(Shortage::Unknown).reason(), Reason::LedgerUnavailable);
    }

    #[test]
    fn of_two_equal_failures_the_first_decides() {
        let refused = failure(StepError::Answer { reason: Reason::Refused, detail: String::new() }, "second");
        assert_eq!(parks("first").more_severe(refused).playbook.as_deref(), Some("first"));
    }
}
