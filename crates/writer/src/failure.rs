//! Why an action was not carried out, and whether its command is tried again.

use std::{sync::Arc, time::Duration};

use batcher::BatcherError;
use ledger::LedgerError;
use retry::{Failure, Outage, Reason, RetryAction};

use crate::notify::NotifyError;

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// HubSpot rejected the call or did not answer.
    #[error(transparent)]
    HubSpot(Arc<hubspot::HubSpotError>),
    /// The call was sent, or the action begun or ended, in a batch that does not say what became of it.
    #[error("it is not known whether the action was carried out")]
    ResultUnknown,
    /// A read of many records did not find the action's record, and a read of this one alone did.
    #[error("HubSpot's answer leaves the record out")]
    RecordMissed,
    /// A notification channel did not accept the message.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(Arc<LedgerError>),
    /// An earlier call may still be under way. Its effect can be looked for after this time.
    #[error("an earlier call for this action may still be under way; looking for its effect in {0:?}")]
    CallUnderWay(Duration),
    /// The call could outlast the lease.
    #[error("the remaining lease is shorter than the timeout of a call")]
    DeadlineExceeded,
    /// Another writer has taken the command.
    #[error("the lease on the write command expired and another writer took it over")]
    LeaseLost,
}

/// The batch that held a command ended without a result: its task panicked.
#[derive(Debug, thiserror::Error)]
#[error("the batch that held the write command ended without a result")]
pub struct BatchLost;

impl Failure for BatchLost {
    fn retry_action(&self) -> RetryAction {
        RetryAction::RetryLater { after: None }
    }

    fn reason(&self) -> Reason {
        Reason::BatchLost
    }
}

/// A record is there, and HubSpot's answer to an update of it leaves it out.
#[derive(Debug, thiserror::Error)]
#[error("HubSpot's answer leaves the record out, although it is there")]
pub struct RecordLeftOut;

impl Failure for RecordLeftOut {
    fn retry_action(&self) -> RetryAction {
        RetryAction::RetryLater { after: None }
    }

    fn reason(&self) -> Reason {
        Reason::NotApplied
    }
}

impl From<hubspot::HubSpotError> for ActionError {
    fn from(error: hubspot::HubSpotError) -> Self {
        Self::HubSpot(Arc::new(error))
    }
}

impl From<LedgerError> for ActionError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Arc::new(error))
    }
}

impl From<BatcherError<LedgerError>> for ActionError {
    fn from(error: BatcherError<LedgerError>) -> Self {
        match error {
            BatcherError::Failed(error) => Self::Ledger(error),
            BatcherError::Closed => Self::ResultUnknown,
        }
    }
}

impl From<BatcherError<hubspot::HubSpotError>> for ActionError {
    fn from(error: BatcherError<hubspot::HubSpotError>) -> Self {
        match error {
            BatcherError::Failed(error) => Self::HubSpot(error),
            BatcherError::Closed => Self::ResultUnknown,
        }
    }
}

impl ActionError {
    /// Whether the action may have been carried out despite the error.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::HubSpot(error) => error.leaves_doubt(),
            Self::Notify(error) => !matches!(error, NotifyError::Refused { status: 429, .. }),
            Self::Ledger(_) | Self::CallUnderWay(_) | Self::LeaseLost | Self::ResultUnknown => true,
            Self::DeadlineExceeded | Self::RecordMissed => false,
        }
    }
}

impl Failure for ActionError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::HubSpot(error) => error.retry_action(),
            Self::Notify(error) => error.retry_action(),
            Self::Ledger(error) => error.retry_action(),
            Self::ResultUnknown | Self::RecordMissed => RetryAction::RetryLater { after: None },
            Self::CallUnderWay(after) => RetryAction::RateLimited { after: Some(*after) },
            Self::LeaseLost | Self::DeadlineExceeded => RetryAction::RateLimited { after: None },
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::HubSpot(error) => error.reason(),
            Self::Notify(error) => error.reason(),
            Self::Ledger(error) => error.reason(),
            Self::CallUnderWay(_) | Self::ResultUnknown => Reason::InDoubt,
            Self::RecordMissed => Reason::NotApplied,
            Self::LeaseLost => Reason::LeaseLost,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
        }
    }

    fn outage(&self) -> Option<Outage> {
        match self {
            Self::HubSpot(error) => error.outage(),
            _ => None,
        }
    }
}
