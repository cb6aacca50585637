//! Search: which records changed. Its index lags by seconds, it gives at most 10,000 results to one question, and takes
//! about five questions a second from the whole account.

use std::time::Duration;

use domain::{ObjectId, ObjectType};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{error::HubSpotError, objects::CrmObject, transport::HubSpotClient};

/// Results of one question, on one page and on all of them.
const PAGE: usize = 200;
const MAX_RESULTS: usize = 10_000;

/// Between two questions; HubSpot allows about five a second, and others search too.
const PACE: Duration = Duration::from_millis(250);

/// By what time records are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchTime {
    /// When they were created.
    Created,
    /// When they were last changed.
    Modified,
}

impl SearchTime {
    /// HubSpot's property: contacts, companies, deals and tickets have older names than everything else.
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
    filters: Vec<Filter<'a>>,
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

impl HubSpotClient {
    /// Every record of a type that was created or changed from `since` until `until`, each once, however many there are:
    /// the time is walked through in windows of at most 10,000 results. Gives ids with the time asked for.
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
            let found =
                self.window(object_type, property, &[("GTE", start), ("LTE", end)], (property, MAX_RESULTS)).await?;
            let is_all = found.len() < MAX_RESULTS;
            let last = found.last().map_or(end, |(_, at)| milliseconds(*at));
            all.extend(found);
            if is_all {
                break;
            }
            // The next window begins where this one ends: at the same moment, some of whose records it has already.
            if last > start {
                start = last;
                continue;
            }
            // More than 10,000 records of the same moment (an import): on by their ids.
            let mut after = 0;
            loop {
                let filters = [("EQ", start), ("id", after)];
                let found = self.window(object_type, property, &filters, (ID, MAX_RESULTS)).await?;
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

    /// One question, page by page, up to HubSpot's limit. The pseudo-operator `id` asks for ids above a number.
    async fn window(
        &self,
        object_type: &ObjectType,
        property: &str,
        filters: &[(&'static str, i64)],
        (sort, most): (&str, usize),
    ) -> Result<Vec<(ObjectId, OffsetDateTime)>, HubSpotError> {
        let path = self.version().objects(object_type, "/search");
        let mut found = Vec::new();
        while found.len() < most {
            let filter = |(operator, value): &(&'static str, i64)| match *operator {
                "id" => Filter { property_name: ID, operator: "GT", value: value.to_string() },
                operator => Filter { property_name: property, operator, value: value.to_string() },
            };
            let body = Body {
                filter_groups: [Group { filters: filters.iter().map(filter).collect() }],
                sorts: [Sort { property_name: sort, direction: "ASCENDING" }],
                properties: [property],
                limit: PAGE,
                after: if found.is_empty() { String::new() } else { found.len().to_string() },
            };
            let answer: Answer = self.call("object.search", Method::POST, &path, &[], Some(&body)).await?;
            let count = answer.results.len();
            for object in answer.results {
                let at = object.properties.get(property).and_then(Option::as_deref).and_then(parse_time);
                let at = at.or(object.created_at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                found.push((object.id, at));
            }
            if count < PAGE {
                break;
            }
            tokio::time::sleep(PACE).await;
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
