//! Why something failed, waits, or is parked: one closed list, because operators filter, alert and replay by it.

use std::fmt;

macro_rules! reasons {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// Why something failed, waits, or is parked. Its name in `snake_case` is a metric label, a message header and a
        /// ledger column, and stable across releases.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $doc] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, in `snake_case`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it means, in words.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$name => $doc,)*
                }
            }
        }
    };
}

reasons! {
    // HubSpot
    HubSpotTimeout = "hubspot_timeout", "HubSpot did not answer in time.";
    HubSpotUnreachable = "hubspot_unreachable", "No connection to HubSpot.";
    HubSpotUnreadable = "hubspot_unreadable", "HubSpot's answer has not the documented form.";
    HubSpotUnavailable = "hubspot_unavailable", "HubSpot answered 5xx.";
    HubSpotRefused = "hubspot_refused", "HubSpot answered another 4xx.";
    HubSpotCircuitOpen = "hubspot_circuit_open", "The fleet waits until HubSpot is there again.";
    InDoubt = "in_doubt", "Whether HubSpot did it is unknown; it is looked for first.";
    ValidationError = "validation_error", "HubSpot does not take a value.";
    Unauthorized = "unauthorized", "HubSpot does not take the token.";
    MissingScope = "missing_scope", "The token may not do this.";
    RecordGone = "record_gone", "The record is not there any more.";
    Conflict = "conflict", "Somebody else changed it at the same time.";
    TooLarge = "too_large", "The call is too large for HubSpot.";
    RecordLocked = "record_locked", "Too much happens to the record at once.";
    RateLimited = "rate_limited", "HubSpot's limit is reached.";
    PortalMigrating = "portal_migrating", "HubSpot moves the portal.";
    NoSuchStage = "no_such_stage", "The deal's pipeline has no such stage.";
    // OpenAI
    OpenAiTimeout = "openai_timeout", "OpenAI did not answer in time.";
    OpenAiUnreachable = "openai_unreachable", "No connection to OpenAI.";
    OpenAiUnreadable = "openai_unreadable", "OpenAI's answer has not the documented form.";
    OpenAiUnavailable = "openai_unavailable", "OpenAI answered 5xx.";
    OpenAiRefused = "openai_refused", "OpenAI answered another 4xx.";
    OpenAiCircuitOpen = "openai_circuit_open", "The fleet waits until OpenAI is there again.";
    OpenAiInvalidRequest = "openai_invalid_request", "OpenAI does not take the request.";
    OpenAiUnauthorized = "openai_unauthorized", "OpenAI does not take the key.";
    OpenAiForbidden = "openai_forbidden", "The key may not do this.";
    OpenAiRateLimited = "openai_rate_limited", "OpenAI's limit is reached.";
    InsufficientQuota = "insufficient_quota", "There is no money left at OpenAI.";
    ModelNotFound = "model_not_found", "There is no such model for this key.";
    ContextTooLong = "context_too_long", "The question does not fit the model's window.";
    // budgets
    RateLimitShareExhausted = "rate_limit_share_exhausted", "The fleet's share of a limit is used up.";
    PlaybookPaused = "playbook_paused", "The playbook has spent its money for the day.";
    // the answer
    SchemaInvalid = "schema_invalid", "The answer does not fit the playbook's schema, not even after one repair.";
    Refused = "refused", "The model declined to answer.";
    AnswerTruncated = "answer_truncated", "The answer was cut, even with more room.";
    ContentFiltered = "content_filtered", "OpenAI's content filter held the answer back.";
    Unverified = "unverified", "A quotation was not found in what the model had read.";
    // the playbook
    PromptFailed = "prompt_failed", "The playbook's prompt cannot be made for this record.";
    TemplateFailed = "template_failed", "A condition or a text of the playbook failed.";
    // what came
    EventInvalid = "event_invalid", "It makes no event.";
    UnknownEventType = "unknown_event_type", "It is of a type that nobody knows.";
    WrongPortal = "wrong_portal", "It is of a portal that the token does not open.";
    CommandInvalid = "command_invalid", "It makes no write command.";
    CommandUnwritable = "command_unwritable", "The write command cannot be put into a message.";
    UnknownCommand = "unknown_command", "The ledger has no such write command.";
    // channels
    ChannelUnreachable = "channel_unreachable", "The channel does not answer.";
    ChannelUnavailable = "channel_unavailable", "The channel answered 5xx.";
    ChannelRateLimited = "channel_rate_limited", "The channel's limit is reached.";
    ChannelRefused = "channel_refused", "The channel answered another 4xx.";
    // RabbitMQ and Postgres
    BrokerUnavailable = "broker_unavailable", "RabbitMQ is away, or blocks publishers.";
    BrokerConnectionBroken = "broker_connection_broken", "The connection to RabbitMQ broke.";
    BrokerUnconfirmed = "broker_unconfirmed", "RabbitMQ did not confirm in time.";
    QueueRefused = "queue_refused", "The queue is full, or has no quorum.";
    Unroutable = "unroutable", "No queue takes the message.";
    LedgerUnavailable = "ledger_unavailable", "Postgres is away.";
    LedgerRefused = "ledger_refused", "Postgres does not take a statement.";
    // the fleet itself
    LeasedElsewhere = "leased_elsewhere", "Another worker has it.";
    LeaseLost = "lease_lost", "The lease had expired, and somebody else has it now.";
    DeadlineExceeded = "deadline_exceeded", "It was not done within the lease.";
    RecordBusy = "record_busy", "Another writer has the record.";
    BatchLost = "batch_lost", "The batch that it was in is gone.";
    NotApplied = "not_applied", "Nothing is known of what came of it.";
    Panicked = "panicked", "The handler panicked.";
    DeliveryLimit = "delivery_limit", "Its consumers died as often as RabbitMQ allows.";
    AttemptsExhausted = "attempts_exhausted", "It was published again and again, and no worker survived it.";
    Parked = "parked", "It was parked before; the ledger says why.";
}

impl Reason {
    /// The reason with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::parse("bad_luck"), None);
    }
}
