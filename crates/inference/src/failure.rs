//! What can go wrong with an event on its handler.

use std::sync::Arc;

use batcher::BatcherError;
use ledger::LedgerError;
use playbook::{PromptError, TemplateError};
use retry::{Failure, Outage, RateLimited, Reason, RetryAction};

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// HubSpot.
    #[error(transparent)]
    HubSpot(Arc<hubspot::HubSpotError>),
    /// What it was asked together with is gone: the worker stops.
    #[error("nobody is there to answer")]
    Gone,
    /// OpenAI.
    #[error(transparent)]
    OpenAi(#[from] openai::OpenAiError),
    /// The playbook has spent its money for the day.
    #[error("the playbook has spent its money for the day; it goes on in {:?} at the latest", .0.after)]
    Paused(RateLimited),
    /// The playbook's template.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A condition or a text of the playbook.
    #[error("the playbook: {0}")]
    Template(#[from] TemplateError),
    /// What was answered about a part of the context could not be stored or looked up.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger did not say what was answered already.
    #[error("the ledger does not answer: {0}")]
    LedgerAway(String),
    /// The model answered, but not what can be written.
    #[error("{detail}")]
    Answer {
        /// `schema_invalid`, `refused`, `answer_truncated`, `content_filtered`, `unverified`.
        reason: Reason,
        /// In words, without what the model said.
        detail: String,
    },
    /// An event of a portal that our token does not open.
    #[error("the event is of portal {event}, hubspot.portal_id is {ours}")]
    WrongPortal {
        /// The event's.
        event: domain::PortalId,
        /// The token's.
        ours: domain::PortalId,
    },
    /// The lease was about to end.
    #[error("not done within the lease")]
    DeadlineExceeded,
}

impl From<hubspot::HubSpotError> for StepError {
    fn from(error: hubspot::HubSpotError) -> Self {
        Self::HubSpot(Arc::new(error))
    }
}

impl From<BatcherError<hubspot::HubSpotError>> for StepError {
    fn from(error: BatcherError<hubspot::HubSpotError>) -> Self {
        match error {
            BatcherError::Failed(error) => Self::HubSpot(error),
            BatcherError::Closed => Self::Gone,
        }
    }
}

impl Failure for StepError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::HubSpot(error) => error.retry_action(),
            Self::OpenAi(error) => error.retry_action(),
            Self::DeadlineExceeded => RetryAction::RetryLater { after: None },
            // Nobody's fault but the ledger's: it uses up no attempts.
            Self::LedgerAway(_) | Self::Gone => RetryAction::RateLimited { after: None },
            Self::Paused(RateLimited { after }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Ledger(error) => error.retry_action(),
            Self::Prompt(_) | Self::Template(_) | Self::Answer { .. } | Self::WrongPortal { .. } => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::HubSpot(error) => error.reason(),
            Self::OpenAi(error) => error.reason(),
            Self::Ledger(error) => error.reason(),
            Self::Paused(_) => Reason::PlaybookPaused,
            Self::Prompt(_) => Reason::PromptFailed,
            Self::Template(_) => Reason::TemplateFailed,
            Self::Answer { reason, .. } => *reason,
            Self::WrongPortal { .. } => Reason::WrongPortal,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::Gone => Reason::BatchLost,
            Self::LedgerAway(_) => Reason::LedgerUnavailable,
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
