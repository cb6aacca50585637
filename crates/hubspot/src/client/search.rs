//! Search for records that changed. HubSpot's documentation of search: the index lags behind writes by seconds, a query
//! returns at most 10,000 results, and the account may send about five queries per second.

use std::time::Duration;

use domain::{ObjectId, ObjectType};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    error::HubSpotError,
    objects::CrmObject,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// The results on one page.
const PAGE: usize = 200;

/// The results of one query on all its pages.
const MAX_RESULTS: usize = 10_000;

/// The pause between two queries. HubSpot allows about five per second, shared with the account's other apps.
const PAUSE: Duration = Duration::from_millis(250);

/// The time that a search compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchTime {
    /// When they were created.
    Created,
    /// When they were last changed.
    Modified,
}

impl SearchTime {
    /// HubSpot's property for it: contacts, companies, deals and tickets have other names than the newer object types.
    fn property(self, object_type: &ObjectType) -> &'static str {
        use ObjectType::{Company, Contact, Deal, Ticket};
        match (self, object_type) {
            (Self::Created, Contact | Company | Deal | Ticket) => "createdate",
            (Self::Created, _) => "hs_createdate",
            (Self::Modified, Contact) => "lastmodifieddate",
            (Self::Modified, _) => "hs_lastmodifieddate",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    filter_groups: [Group<'a>; 1],
    sorts: [Sort<'a>; 1],
    properties: [&'a str; 1],
    limit: usize,
    after: String,
}

#[derive(Serialize)]
struct Group<'a> {
    filters: [Filter<'a>; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter<'a> {
    property_name: &'a str,
    operator: &'static str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sort<'a> {
    property_name: &'a str,
    direction: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<CrmObject>,
}

const ID: &str = "hs_object_id";

/// A condition of a query: on the compared time in milliseconds, or on the id.
#[derive(Clone, Copy)]
enum Condition {
    TimeFrom(i64),
    TimeUntil(i64),
    TimeIs(i64),
    IdAbove(i64),
}

impl Condition {
    fn filter(self, time_property: &str) -> Filter<'_> {
        let (property_name, operator, value) = match self {
            Self::TimeFrom(at) => (time_property, "GTE", at),
            Self::TimeUntil(at) => (time_property, "LTE", at),
            Self::TimeIs(at) => (time_property, "EQ", at),
            Self::IdAbove(id) => (ID, "GT", id),
        };
        Filter { property_name, operator, value: value.to_string() }
    }
}

impl HubSpotClient {
    /// Every record of a type that was created or changed from `since` until `until`, each once, however many there
    /// are: one query after the other, each with the next 10,000 results. Returns ids with the time that was compared,
    /// oldest first.
    ///
    /// # Errors
    /// The first call that fails.
    pub async fn changed(
        &self,
        object_type: &ObjectType,
        time: SearchTime,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<(ObjectId, OffsetDateTime)>, HubSpotError> {
        let property = time.property(object_type);
        let end = milliseconds(until);
        let mut start = milliseconds(since);
        let mut all: Vec<(ObjectId, OffsetDateTime)> = Vec::new();
        while start <= end {
            let conditions = [Condition::TimeFrom(start), Condition::TimeUntil(end)];
            let found = self.query(object_type, property, conditions, property).await?;
            let is_all = found.len() < MAX_RESULTS;
            let last = found.last().map_or(end, |(_, at)| milliseconds(*at));
            all.extend(found);
            if is_all {
                break;
            }
            // The next query begins at the last time of this one, because more records may have the same time. Records
            // that are found twice are removed at the end.
            if last > start {
                start = last;
                continue;
            }
            // More than 10,000 records have the same time (an import): continue by their ids.
            let mut after = 0;
            loop {
                let conditions = [Condition::TimeIs(start), Condition::IdAbove(after)];
                let found = self.query(object_type, property, conditions, ID).await?;
                after = found.last().map_or(after, |(id, _)| id.0);
                let is_all = found.len() < MAX_RESULTS;
                all.extend(found);
                if is_all {
                    break;
                }
            }
            start += 1;
        }
        all.sort_unstable_by_key(|(id, at)| (*id, *at));
        all.dedup_by_key(|(id, _)| *id);
        all.sort_by_key(|(id, at)| (*at, *id));
        Ok(all)
    }

    /// One query, page by page, up to HubSpot's limit.
    async fn query(
        &self,
        object_type: &ObjectType,
        property: &str,
        conditions: [Condition; 2],
        sort: &str,
    ) -> Result<Vec<(ObjectId, OffsetDateTime)>, HubSpotError> {
        let path = self.version().objects(object_type, "/search");
        let mut found = Vec::new();
        while found.len() < MAX_RESULTS {
            let body = Body {
                filter_groups: [Group { filters: conditions.map(|condition| condition.filter(property)) }],
                sorts: [Sort { property_name: sort, direction: "ASCENDING" }],
                properties: [property],
                limit: PAGE,
                after: if found.is_empty() { String::new() } else { found.len().to_string() },
            };
            let answer: Answer = self.call(&Call::post(Operation::SearchObjects, &path, &body)).await?;
            let count = answer.results.len();
            for object in answer.results {
                let at = object.properties.get(property).and_then(Option::as_deref).and_then(parse_time);
                let at = at.or(object.created_at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                found.push((object.id, at));
            }
            if count < PAGE {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(found)
    }
}

/// HubSpot filters times by milliseconds.
fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let by_text = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok();
    by_text.or_else(|| OffsetDateTime::from_unix_timestamp_nanos(text.parse::<i128>().ok()? * 1_000_000).ok())
}
