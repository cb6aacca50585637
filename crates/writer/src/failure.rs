//! Why an action is not done, and what its command does then.

use std::{sync::Arc, time::Duration};

use batcher::BatcherError;
use ledger::LedgerError;
use retry::{Failure, Outage, Reason, RetryAction};

use crate::notify::NotifyError;

/// Why an action is not done yet, or never.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// HubSpot.
    #[error(transparent)]
    HubSpot(Arc<hubspot::HubSpotError>),
    /// It was sent in a batch of which nobody knows what came.
    #[error("whether HubSpot did it is unknown")]
    Unknown,
    /// A channel.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It is in doubt, and a call that was sent may still have its effect.
    #[error("an earlier call may still have its effect; looking again after {0:?}")]
    TooEarly(Duration),
    /// The lease might end before the call does.
    #[error("not done within the lease")]
    DeadlineExceeded,
    /// Somebody else has the command.
    #[error("the claim of the command no longer holds")]
    Lost,
    /// A deal's pipeline has no such stage.
    #[error("the deal's pipeline `{pipeline}` has no stage `{stage}`")]
    NoSuchStage {
        /// The pipeline's label.
        pipeline: String,
        /// The stage in the playbook.
        stage: String,
    },
}

impl From<hubspot::HubSpotError> for ActionError {
    fn from(error: hubspot::HubSpotError) -> Self {
        Self::HubSpot(Arc::new(error))
    }
}

impl From<BatcherError<hubspot::HubSpotError>> for ActionError {
    fn from(error: BatcherError<hubspot::HubSpotError>) -> Self {
        match error {
            BatcherError::Failed(error) => Self::HubSpot(error),
            BatcherError::Closed => Self::Unknown,
        }
    }
}

impl ActionError {
    /// Whether the action may have happened all the same.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::HubSpot(error) => error.leaves_doubt(),
            Self::Notify(error) => !matches!(error, NotifyError::Refused { status: 429, .. }),
            Self::Ledger(_) | Self::TooEarly(_) | Self::Lost | Self::Unknown => true,
            Self::NoSuchStage { .. } | Self::DeadlineExceeded => false,
        }
    }
}

impl Failure for ActionError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::HubSpot(error) => error.retry_action(),
            Self::Notify(error) => error.retry_action(),
            Self::Ledger(error) => error.retry_action(),
            Self::Unknown => RetryAction::RetryLater { after: None },
            Self::TooEarly(after) => RetryAction::RateLimited { after: Some(*after) },
            Self::Lost | Self::DeadlineExceeded => RetryAction::RateLimited { after: None },
            Self::NoSuchStage { .. } => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::HubSpot(error) => error.reason(),
            Self::Notify(error) => error.reason(),
            Self::Ledger(error) => error.reason(),
            Self::TooEarly(_) | Self::Unknown => Reason::InDoubt,
            Self::Lost => Reason::LeaseLost,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::NoSuchStage { .. } => Reason::NoSuchStage,
        }
    }

    fn outage(&self) -> Option<Outage> {
        match self {
            Self::HubSpot(error) => error.outage(),
            _ => None,
        }
    }
}
