//! Who stands behind a value: what the names of HubSpot's change sources mean.
//!
//! HubSpot publishes 119 names, as the enum `PropertyValue.source` of the imports and marketing-events APIs
//! (HubSpot-public-api-spec-collection, 2026-08-21), and explains few of them. Test deliveries say `CRM`, which is not in the
//! enum. What a name stands for follows from its knowledge base article where there is one, and from the name elsewhere.

use super::objects::PastValue;

/// Who stands behind a change, by its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeAuthor {
    /// A user of the portal, or a visitor who fills in a form.
    Person,
    /// HubSpot itself, a workflow, an integration or another AI.
    Machine,
    /// None: the value is the property's default.
    Default,
    /// The author of an earlier change: the value was there already, in another record, system or time (merge, restore, undo, sync, copy).
    CarriedOver,
    /// The name may mean a person or a machine.
    Unclear,
    /// The name is not on HubSpot's list.
    Unlisted,
}

impl ChangeAuthor {
    /// The author of changes with this source.
    pub fn of(source: &str) -> Self {
        let is_in = |names: &[&str]| names.binary_search(&source).is_ok();
        if is_in(&MACHINES) {
            Self::Machine
        } else if is_in(&PEOPLE) {
            Self::Person
        } else if is_in(&CARRIERS) {
            Self::CarriedOver
        } else if is_in(&DEFAULTS) {
            Self::Default
        } else if is_in(&UNCLEAR) {
            Self::Unclear
        } else {
            Self::Unlisted
        }
    }

    /// Whether a value of this author may be one that a person wants to keep. When in doubt it is: to keep a machine's value
    /// does less harm than to overwrite a person's.
    pub fn may_be_person(self) -> bool {
        match self {
            Self::Person | Self::CarriedOver | Self::Unclear | Self::Unlisted => true,
            Self::Machine | Self::Default => false,
        }
    }
}

/// The entry of a property's history, newest first, whose author stands behind the current value; `None` without a history.
///
/// For a value that was carried over that is the newest older entry with the same value that was not carried over itself. When
/// the history has none, it is the entry that carried the value over: who stands behind it is not known.
pub fn origin(history: &[PastValue]) -> Option<&PastValue> {
    let newest = history.first()?;
    if newest.author() != ChangeAuthor::CarriedOver {
        return Some(newest);
    }
    let original = history.iter().find(|past| past.value == newest.value && past.author() != ChangeAuthor::CarriedOver);
    Some(original.unwrap_or(newest))
}

/// A person set the value.
const PEOPLE: [&str; 11] = [
    "CONTACTS",
    "CONTACTS_WEB",
    "CRM_UI",
    "CRM_UI_BULK_ACTION",
    "EXTENSION",
    "FORM",
    "IMPORT",
    "MOBILE_ANDROID",
    "MOBILE_IOS",
    "PLAYBOOKS",
    "WORK_UI",
];

/// A program set the value.
const MACHINES: [&str; 59] = [
    "ACADEMY",
    "ACCEPTANCE_TEST",
    "ACTIVITY_AUTO_ASSOCIATE",
    "AI_GROUP",
    "ANALYTICS",
    "API",
    "ASSOCIATIONS",
    "AUTOMATION_JOURNEY",
    "AUTOMATION_PLATFORM",
    "AUTO_ASSOCIATE_BY_DOMAIN",
    "AVATARS_SERVICE",
    "BCC_TO_CRM",
    "BEHAVIORAL_EVENTS",
    "BILLING",
    "BOT",
    "BREEZE_AGENT",
    "CALCULATED",
    "CENTRAL_EXCHANGE_RATES",
    "COMPANY_FAMILIES",
    "COMPANY_INSIGHTS",
    "CONVERSATIONAL_ENRICHMENT",
    "CRM_PROCESSES_PLATFORM",
    "CUSTOMER_AGENT",
    "DATASET",
    "DATA_ENRICHMENT",
    "DELETE_OBJECTS",
    "DI_WRITE_TO_CRM",
    "EMAIL",
    "EMAIL_INBOX_IMPORT",
    "EMAIL_INTEGRATION",
    "ENGAGEMENTS",
    "FORWARD_TO_CRM",
    "GMAIL_INTEGRATION",
    "GOALS",
    "HELP_DESK_AI",
    "INTEGRATION",
    "INTEGRATIONS_PLATFORM",
    "INTENT",
    "INTERNAL_PROCESSING",
    "LEGAL_BASIS_REMEDIATION",
    "MARKETPLACE",
    "MARKET_SOURCING",
    "PAYMENTS",
    "PIPELINE_SETTINGS",
    "PORTAL_USER_ASSOCIATOR",
    "PRIMARY_AUTOMATION",
    "PROPERTY_SETTINGS",
    "PROSPECTING_AGENT",
    "QUOTAS",
    "REVENUE_PLATFORM",
    "SEQUENCES",
    "SETTINGS",
    "SIGNALS",
    "SMART_DATA_CAPTURE",
    "SOCIAL",
    "TASK",
    "WAL_INCREMENTAL",
    "WORKFLOWS",
    "WORKFLOW_CONTACT_DELETE_ACTION",
];

/// The value is there for want of another.
const DEFAULTS: [&str; 2] = ["DEFAULT", "PROPERTY_DEFAULT_VALUE"];

/// The value was there before. Syncs with other systems do not tell who wrote it there.
const CARRIERS: [&str; 14] = [
    "ACTIVITY_LOG_REVERT",
    "CLONE_OBJECTS",
    "FLYWHEEL_PRODUCT_DATA_SYNC",
    "INTEGRATIONS_SYNC",
    "MERGE_COMPANIES",
    "MERGE_CONTACTS",
    "MERGE_OBJECTS",
    "MERGE_REVERT_OBJECTS",
    "MIGRATION",
    "PORTAL_OBJECT_SYNC",
    "PROPERTY_RESTORE",
    "RECYCLING_BIN",
    "RESTORE_OBJECTS",
    "SALESFORCE",
];

/// A user of a tool, or the tool by itself; or a name that says nothing.
const UNCLEAR: [&str; 34] = [
    "ADS",
    "APPROVALS",
    "ASSISTS",
    "BATCH_UPDATE",
    "BET_ASSIGNMENT",
    "BET_CRM_CONNECTOR",
    "BIDEN",
    "CHATSPOT",
    "COMMUNICATOR",
    "COMPANIES",
    "CONNECTED_ACCOUNT",
    "CONTENT_MEMBERSHIP",
    "CONVERSATIONS",
    "CRM",
    "CUSTOMER_PORTAL",
    "DATA_QUALITY",
    "DEALS",
    "FILE_MANAGER",
    "FORECASTING",
    "HEISENBERG",
    "HELP_DESK",
    "LEADIN",
    "MARKETS",
    "MEETINGS",
    "MICROAPPS",
    "PRESENTATIONS",
    "QUOTES",
    "SALES",
    "SALES_MESSAGES",
    "SIDEKICK",
    "SLACK_INTEGRATION",
    "SUCCESS",
    "TALLY",
    "UNKNOWN",
];

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn history(entries: &[(&str, &str)]) -> Vec<PastValue> {
        let past = |(index, (value, source)): (usize, &(&str, &str))| PastValue {
            value: (*value).to_owned(),
            timestamp: OffsetDateTime::UNIX_EPOCH - Duration::days(i64::try_from(index).expect("small")),
            source_type: (*source).to_owned(),
            source_id: None,
        };
        entries.iter().enumerate().map(past).collect()
    }

    fn author(entries: &[(&str, &str)]) -> ChangeAuthor {
        origin(&history(entries)).map_or(ChangeAuthor::Unlisted, PastValue::author)
    }

    #[test]
    fn every_published_source_is_listed_once_and_found() {
        let lists: [&[&str]; 5] = [&PEOPLE, &MACHINES, &DEFAULTS, &CARRIERS, &UNCLEAR];
        let mut names: Vec<_> = lists.concat();
        assert!(names.iter().all(|name| ChangeAuthor::of(name) != ChangeAuthor::Unlisted));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 120, "119 published ones, and CRM of test deliveries");
    }

    #[test]
    fn a_value_that_was_carried_over_has_its_last_real_author() {
        use ChangeAuthor::{CarriedOver, Machine, Person};
        assert_eq!(author(&[("8", "MERGE_OBJECTS"), ("8", "INTEGRATION"), ("3", "CRM_UI")]), Machine);
        assert_eq!(author(&[("3", "MERGE_OBJECTS"), ("8", "INTEGRATION"), ("3", "CRM_UI")]), Person);
        assert_eq!(author(&[("8", "RESTORE_OBJECTS"), ("8", "MERGE_OBJECTS"), ("8", "INTEGRATION")]), Machine);
        assert_eq!(author(&[("8", "SALESFORCE"), ("3", "INTEGRATION")]), CarriedOver, "written in another system");
    }
}
