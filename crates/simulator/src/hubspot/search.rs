//! The search endpoint: filters, sorting, paging, and an index that is not up to date.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    admission::{Shared, answer_search, scope},
    errors,
    portal::Record,
    wire::{parse, record_json},
};
use crate::lock::lock;

/// HubSpot returns at most this many results of one query, however many match.
const MAX_RESULTS: usize = 10_000;
const MAX_LIMIT: usize = 200;
const MAX_FILTERS: usize = 18;

/// A write is in the index only after this time, or when a test says that the index is complete.
const LAG: Duration = Duration::seconds(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    filter_groups: Vec<Group>,
    sorts: Vec<Sort>,
    properties: Vec<String>,
    limit: usize,
    after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    property_name: String,
    operator: Operator,
    value: Option<String>,
    high_value: Option<String>,
    values: Option<Vec<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    Between,
    In,
    NotIn,
    HasProperty,
    NotHasProperty,
    ContainsToken,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sort {
    Name(String),
    #[serde(rename_all = "camelCase")]
    Table {
        property_name: String,
        direction: Direction,
    },
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Direction {
    Ascending,
    Descending,
}

pub(super) async fn search(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer_search(&simulator, &headers, &scope(&object_type, "read"), || {
        let body = parse::<Body>(&body)?;
        if body.limit == 0 || body.limit > MAX_LIMIT {
            return Err(errors::validation(&format!("limit must be within 1–{MAX_LIMIT}")));
        }
        if body.filter_groups.len() > 5
            || body.filter_groups.iter().map(|g| g.filters.len()).sum::<usize>() > MAX_FILTERS
        {
            return Err(errors::validation("too many filters"));
        }
        let start: usize = if body.after.is_empty() { 0 } else { body.after.parse().unwrap_or(MAX_RESULTS) };
        if start + body.limit > MAX_RESULTS {
            return Err(errors::validation(&format!("Results beyond {MAX_RESULTS} cannot be reached")));
        }
        let portal = lock(&simulator.portal);
        let indexed = portal.indexed_until.max(Some(OffsetDateTime::now_utc() - LAG));
        let groups: Vec<Vec<_>> =
            body.filter_groups.iter().map(|group| group.filters.iter().map(Comparison::of).collect()).collect();
        let is_match = |id: i64, record: &Record| {
            groups.is_empty() || groups.iter().any(|group| group.iter().all(|filter| filter.matches(id, record)))
        };
        let mut found: Vec<_> = portal
            .all(&object_type)
            .filter(|(id, record)| Some(record.updated) <= indexed && is_match(*id, record))
            .collect();
        if let Some(sort) = body.sorts.first() {
            let (name, direction) = match sort {
                Sort::Name(name) => (name, Direction::Ascending),
                Sort::Table { property_name, direction } => (property_name, *direction),
            };
            // Each sort key is computed once: a portal has thousands of records.
            let mut keyed: Vec<_> = found
                .into_iter()
                .map(|(id, record)| {
                    (SortKey::of_property(id, record, name).unwrap_or_else(|| SortKey::of("")), id, record)
                })
                .collect();
            keyed.sort_by(|(a, a_id, _), (b, b_id, _)| {
                let order = a.compare(b).then(a_id.cmp(b_id));
                if direction == Direction::Descending { order.reverse() } else { order }
            });
            found = keyed.into_iter().map(|(_, id, record)| (id, record)).collect();
        }
        let total = found.len();
        let end = (start + body.limit).min(total);
        let page = found.get(start.min(end)..end).unwrap_or_default();
        let results: Vec<_> = page
            .iter()
            .map(|(id, record)| record_json(&portal, &object_type, *id, record, &body.properties, &[]))
            .collect();
        let mut listed = json!({"total": total, "results": results});
        if end < total {
            listed["paging"] = json!({"next": {"after": end.to_string()}});
        }
        Ok(Json(listed).into_response())
    })
}

fn value(id: i64, record: &Record, name: &str) -> Option<String> {
    let stored = || record.properties.get(name).filter(|value| !value.is_empty()).cloned();
    if name == "hs_object_id" { Some(id.to_string()) } else { record.derived(name).or_else(stored) }
}

/// What values are compared by: numbers and times by their size, everything else as text.
enum SortKey {
    Number(f64),
    Text(String),
}

impl SortKey {
    fn of(text: &str) -> Self {
        if let Ok(number) = text.parse::<f64>() {
            return Self::Number(number);
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map(Self::time);
        time.unwrap_or_else(|_| Self::Text(text.to_lowercase()))
    }

    fn of_property(id: i64, record: &Record, name: &str) -> Option<Self> {
        match record.derived_time(name) {
            Some(at) => Some(Self::time(at)),
            None => value(id, record, name).as_deref().map(Self::of),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century are below 2^53")]
    fn time(at: OffsetDateTime) -> Self {
        Self::Number((at.unix_timestamp_nanos() / 1_000_000) as f64)
    }

    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => std::cmp::Ordering::Less,
            (Self::Text(_), Self::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}

/// A filter whose bounds are read once: a portal has thousands of records.
struct Comparison<'a> {
    filter: &'a Filter,
    low: Option<SortKey>,
    high: Option<SortKey>,
}

impl<'a> Comparison<'a> {
    fn of(filter: &'a Filter) -> Self {
        let key = |text: &Option<String>| text.as_deref().map(SortKey::of);
        Self { filter, low: key(&filter.value), high: key(&filter.high_value) }
    }

    fn matches(&self, id: i64, record: &Record) -> bool {
        let name = &self.filter.property_name;
        let against = |bound: &Option<SortKey>, test: fn(std::cmp::Ordering) -> bool| {
            let stored = SortKey::of_property(id, record, name);
            stored.zip(bound.as_ref()).is_some_and(|(stored, bound)| test(stored.compare(bound)))
        };
        let with = |test| against(&self.low, test);
        let stored = || value(id, record, name);
        let listed =
            || stored().is_some_and(|stored| self.filter.values.iter().flatten().any(|value| *value == stored));
        match self.filter.operator {
            Operator::Eq => with(std::cmp::Ordering::is_eq),
            Operator::Neq => !with(std::cmp::Ordering::is_eq),
            Operator::Lt => with(std::cmp::Ordering::is_lt),
            Operator::Lte => with(std::cmp::Ordering::is_le),
            Operator::Gt => with(std::cmp::Ordering::is_gt),
            Operator::Gte => with(std::cmp::Ordering::is_ge),
            Operator::Between => with(std::cmp::Ordering::is_ge) && against(&self.high, std::cmp::Ordering::is_le),
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::HasProperty => stored().is_some(),
            Operator::NotHasProperty => stored().is_none(),
            Operator::ContainsToken => {
                let token = self.filter.value.as_deref().unwrap_or_default().trim_matches('*').to_lowercase();
                stored().is_some_and(|stored| stored.to_lowercase().contains(&token))
            }
        }
    }
}
