//! Why something failed, waits, was skipped or was parked: one closed list, because operators filter, alert and replay by it.

use crate::{Dependency, names::closed_set};

closed_set! {
    /// Why an event, a write command, a property or an action failed, waits, was skipped or was parked. The name in
    /// `snake_case` is a metric label, a message header and a ledger column, and stable across releases.
    pub enum Reason {
        // HubSpot
        HubSpotTimeout = "hubspot_timeout", "HubSpot did not answer in time.";
        HubSpotUnreachable = "hubspot_unreachable", "No connection to HubSpot.";
        HubSpotUnreadable = "hubspot_unreadable", "HubSpot's answer does not have the documented form.";
        HubSpotUnavailable = "hubspot_unavailable", "HubSpot answered 5xx.";
        HubSpotRefused = "hubspot_refused", "HubSpot rejected the call with another 4xx status.";
        HubSpotCircuitOpen = "hubspot_circuit_open", "The circuit breaker for HubSpot is open; the fleet waits.";
        InDoubt = "in_doubt", "HubSpot may have carried the call out; the fleet looks before it sends again.";
        ValidationError = "validation_error", "HubSpot rejected a value.";
        Unauthorized = "unauthorized", "HubSpot rejected the access token.";
        MissingScope = "missing_scope", "The access token lacks a scope.";
        RecordGone = "record_gone", "HubSpot has no such record (any more).";
        Conflict = "conflict", "Another client changed the record at the same time.";
        TooLarge = "too_large", "The call is larger than HubSpot accepts.";
        RecordLocked = "record_locked", "HubSpot has locked the record because of too many changes at once.";
        RateLimited = "rate_limited", "HubSpot's rate limit is reached.";
        PortalMigrating = "portal_migrating", "HubSpot is migrating the portal to another data centre.";
        WrongDataCentre = "wrong_data_centre", "The portal is in another data centre than the one that was called.";
        NoSuchStage = "no_such_stage", "The deal's pipeline has no such stage.";
        // OpenAI
        OpenAiTimeout = "openai_timeout", "OpenAI did not answer in time.";
        OpenAiUnreachable = "openai_unreachable", "No connection to OpenAI.";
        OpenAiUnreadable = "openai_unreadable", "OpenAI's answer does not have the documented form.";
        OpenAiUnavailable = "openai_unavailable", "OpenAI answered 5xx.";
        OpenAiRefused = "openai_refused", "OpenAI rejected the call with another 4xx status.";
        OpenAiCircuitOpen = "openai_circuit_open", "The circuit breaker for OpenAI is open; the fleet waits.";
        OpenAiInvalidRequest = "openai_invalid_request", "OpenAI rejected the request as invalid.";
        OpenAiUnauthorized = "openai_unauthorized", "OpenAI rejected the API key.";
        OpenAiForbidden = "openai_forbidden", "The API key lacks a permission.";
        OpenAiRegion = "openai_region", "OpenAI does not answer from this country.";
        OpenAiRateLimited = "openai_rate_limited", "OpenAI's rate limit is reached.";
        InsufficientQuota = "insufficient_quota", "The OpenAI account has no credit left.";
        ModelNotFound = "model_not_found", "OpenAI has no such model for this API key.";
        ContextTooLong = "context_too_long", "The prompt does not fit the model's context window, or the account's limit on tokens.";
        // Rate limits and spend limits
        RateLimitShareExhausted = "rate_limit_share_exhausted", "The fleet has used its share of a rate limit.";
        PlaybookPaused = "playbook_paused", "The playbook has reached its spend limit for the day.";
        ModelPaused = "model_paused", "The playbook's model is gone, forbidden or refuses a parameter; its events wait.";
        RecordPaused = "record_paused", "The questions about the record have cost what a record may cost in a day.";
        GateClosed = "gate_closed", "No version of the playbook has passed its gate; its events wait.";
        SpendLimitTooLow = "spend_limit_too_low", "A single question may cost more than a spend limit allows.";
        // The answer
        SchemaInvalid = "schema_invalid", "The answer does not match the playbook's schema, even after one repair.";
        Refused = "refused", "The model declined to answer.";
        AnswerTruncated = "answer_truncated", "The answer was truncated, even with more output tokens.";
        AnswerEmpty = "answer_empty", "The model answered nothing, even with more output tokens.";
        ContentFiltered = "content_filtered", "OpenAI's content filter withheld the answer.";
        Unverified = "unverified", "A quotation of the answer was not found in what the model had read.";
        // The playbook
        PromptFailed = "prompt_failed", "The playbook's prompt cannot be rendered for this record.";
        TemplateFailed = "template_failed", "A condition or a text of the playbook cannot be evaluated.";
        // Messages and events
        EventInvalid = "event_invalid", "The payload is not a valid event.";
        UnknownEventType = "unknown_event_type", "The event has a type that Leadline does not know.";
        WrongPortal = "wrong_portal", "The event is of another portal than `hubspot.portal_id`.";
        NewerVersion = "newer_version", "The message, or its write command, has a form that this version of Leadline does not know; it waits for a newer worker, and is parked when none comes.";
        CommandInvalid = "command_invalid", "The message names no write command, or the ledger's row of it cannot be read.";
        UnknownCommand = "unknown_command", "The ledger has no such write command.";
        // Notification channels
        ChannelUnreachable = "channel_unreachable", "The notification channel does not answer.";
        ChannelUnavailable = "channel_unavailable", "The notification channel answered 5xx.";
        ChannelRateLimited = "channel_rate_limited", "The notification channel's rate limit is reached.";
        ChannelRefused = "channel_refused", "The notification channel rejected the message with another 4xx status.";
        // RabbitMQ and Postgres
        BrokerUnavailable = "broker_unavailable", "RabbitMQ is away or blocks publishers.";
        BrokerConnectionBroken = "broker_connection_broken", "The connection to RabbitMQ broke.";
        BrokerUnconfirmed = "broker_unconfirmed", "RabbitMQ did not confirm the message in time.";
        QueueRefused = "queue_refused", "RabbitMQ rejected the message: the queue is full or has no quorum.";
        Unroutable = "unroutable", "RabbitMQ has no queue for the message.";
        LedgerUnavailable = "ledger_unavailable", "Postgres does not answer.";
        LedgerRefused = "ledger_refused", "Postgres rejected a statement.";
        // The fleet
        LeasedElsewhere = "leased_elsewhere", "Another worker holds the lease.";
        LeaseLost = "lease_lost", "The lease expired and another worker took over.";
        DeadlineExceeded = "deadline_exceeded", "The work was not finished within the lease.";
        RecordBusy = "record_busy", "Another writer holds the record's lease.";
        RecordMerged = "record_merged", "The record was merged into another one; the write command goes on with that one.";
        BatchLost = "batch_lost", "The batch that held this item ended without a result.";
        NotApplied = "not_applied", "HubSpot's answer does not say what became of this item.";
        Panicked = "panicked", "The handler panicked.";
        DeliveryLimit = "delivery_limit", "The message was redelivered as often as RabbitMQ's delivery limit allows.";
        AttemptsExhausted = "attempts_exhausted", "The message was requeued as often as allowed and no worker finished it.";
        Parked = "parked", "The event was parked before; the ledger has the reason.";
        NotWritable = "not_writable", "HubSpot takes no value for any property that the playbook writes, so nothing is asked.";
        NotAssociatedYet = "not_associated_yet", "The record is young and may still get the associations that it lacks; the event waits.";
        // Nothing to do
        NoPlaybook = "no_playbook", "No playbook has a trigger for the event.";
        NoRecord = "no_record", "The event leads to no record of a kind that the playbook is about.";
        ConditionNotMet = "condition_not_met", "The trigger's condition does not hold.";
        Guard = "guard", "A guard of the playbook holds; `detail` has its name.";
        EmptyContext = "empty_context", "The records hold no text to read.";
        UnchangedContext = "unchanged_context", "The context is the same as at the last answer, or as at one that was undone.";
        NothingIntended = "nothing_intended", "The answer asks for no change.";
        PlaybookProperty = "playbook_property", "The changed property is one that a playbook writes.";
        Echo = "echo", "The fleet's own write caused the event.";
        NewerEventAnswered = "newer_event_answered", "A newer event of the same record was answered.";
        NewerEventWaits = "newer_event_waits", "A newer event of the same record is in progress.";
        NewerEventWritten = "newer_event_written", "A newer event has written the same properties.";
        // Values that a write policy or the settings left as they are
        KeptHumanValue = "kept_human_value", "A person set or cleared the property, or may have (`unless_human`).";
        ValueRefused = "value_refused", "HubSpot does not take this value; the other values of the record are written.";
        KeptFilled = "kept_filled", "The property has a value (`if_empty`).";
        KeptHigher = "kept_higher", "The current value is not lower (`if_higher`).";
        KeptNewer = "kept_newer", "The property was set after the event happened (`if_newer`).";
        ValueChanged = "value_changed", "The property no longer has the value that a reviewer saw or that is to be undone.";
        ProtectedProperty = "protected_property", "The settings protect the property; no playbook may write it.";
        // Actions that were not carried out
        DoneRecently = "done_recently", "The same action was done for the record within its cooldown.";
        MaybeDone = "maybe_done", "The notification may have been delivered: a newer event supersedes it, its proposal asks again, or a recovered ledger has forgotten it.";
        ChannelNotConfigured = "channel_not_configured", "The settings have no URL for the notification channel.";
        AlreadyThere = "already_there", "The deal is in the stage already.";
        ChangedByPerson = "changed_by_person", "A person has changed the task or note, or may have; it is not deleted.";
        DealClosed = "deal_closed", "The deal is won or lost.";
        // Review and shadow
        Shadow = "shadow", "The playbook is in shadow for the record: the ledger has what would have been written.";
        UnchangedValue = "unchanged_value", "The record has every proposed value already; there is nothing to approve.";
        Approved = "approved", "A rule approved the proposal; it is carried out next.";
        Rejected = "rejected", "A reviewer rejected the proposal.";
        ReviewExpired = "review_expired", "Nobody approved the proposal in time.";
        NewerProposal = "newer_proposal", "A newer proposal of the same playbook for the record has replaced it.";
        // The operator
        Replayed = "replayed", "An operator replayed it from the parking lot.";
        Discarded = "discarded", "An operator discarded it.";
        // The record has gone
        RecordDeleted = "record_deleted", "The record was deleted in HubSpot while this waited.";
        RecordErased = "record_erased", "What the ledger knew about the record was erased.";
    }
}

impl Reason {
    /// The dependency that a failure with this reason may be an outage of. A call was made, and it failed in a way in which
    /// others may fail, too.
    pub const fn may_be_outage_of(self) -> Option<Dependency> {
        match self {
            Self::HubSpotTimeout
            | Self::HubSpotUnreachable
            | Self::HubSpotUnreadable
            | Self::HubSpotUnavailable
            | Self::HubSpotRefused
            | Self::Unauthorized => Some(Dependency::HubSpot),
            Self::OpenAiTimeout
            | Self::OpenAiUnreachable
            | Self::OpenAiUnreadable
            | Self::OpenAiUnavailable
            | Self::OpenAiUnauthorized
            | Self::OpenAiRegion
            | Self::InsufficientQuota => Some(Dependency::OpenAi),
            _ => None,
        }
    }
}
