//! A page on which a person decides about one proposal: what would be written, and two buttons. A GET changes nothing, so that who
//! only looks at a link, as chat programs do, decides nothing. A POST needs the signature of the link, which no other site knows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderName, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use domain::WriteCommandId;
use futures_util::future::BoxFuture;
use ledger::{Ledger, LedgerError, ProposalEntry, ProposalFilter, Verdict};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    html::{self, MAX_NAME, MAX_WHY},
    links::{ReviewLinks, Ticket, WrongTicket},
};

/// Publishes the message of an approved command. What it does not publish the reconciler finds.
pub type PublishCommand = Arc<dyn Fn(WriteCommandId) -> BoxFuture<'static, ()> + Send + Sync>;

/// The longest body of a request, in bytes, and how long it may take.
const MAX_BODY: usize = 16 * 1_024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Nobody keeps the page or learns its address; it runs nothing, and no other site shows it in a frame.
const HEADERS: [(HeaderName, &str); 4] = [
    (axum::http::header::CACHE_CONTROL, "no-store"),
    (axum::http::header::REFERRER_POLICY, "no-referrer"),
    (axum::http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        axum::http::header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
];

#[derive(Clone)]
struct Page {
    ledger: Ledger,
    links: ReviewLinks,
    publish: PublishCommand,
}

/// The page, at `/review/{id}`.
pub fn router(ledger: Ledger, links: ReviewLinks, publish: PublishCommand) -> Router {
    Router::new().route("/review/{id}", get(show).post(decide)).with_state(Page { ledger, links, publish })
}

async fn show(State(page): State<Page>, Path(id): Path<Uuid>, Query(ticket): Query<Ticket>) -> Response {
    let proposal = match page.proposal(WriteCommandId(id), &ticket).await {
        Ok(proposal) => proposal,
        Err(response) => return *response,
    };
    match page.ledger.reviews(proposal.id).await {
        Ok(reviews) => answer(StatusCode::OK, &html::form(&proposal, &proposal.changed_values(&reviews))),
        Err(error) => unavailable(&error),
    }
}

async fn decide(State(page): State<Page>, Path(id): Path<Uuid>, Query(ticket): Query<Ticket>, body: Body) -> Response {
    let proposal = match page.proposal(WriteCommandId(id), &ticket).await {
        Ok(proposal) => proposal,
        Err(response) => return *response,
    };
    // Only who has a link may send more than a head.
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY)).await else {
        return answer(StatusCode::BAD_REQUEST, "<p>The form is too long, or too slow.</p>");
    };
    let fields: BTreeMap<_, _> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str, most: usize| -> String {
        fields.get(name).map(|text| text.trim().chars().take(most).collect()).unwrap_or_default()
    };
    let verdict = match fields.get("decision").map(String::as_str) {
        Some("approve") => Verdict::Approve(BTreeMap::new()),
        Some("reject") if field("why", MAX_WHY).is_empty() => {
            return answer(StatusCode::BAD_REQUEST, "<p>Say why not.</p>");
        }
        Some("reject") => Verdict::Reject(field("why", MAX_WHY)),
        _ => return answer(StatusCode::BAD_REQUEST, "<p>Choose one of the two buttons.</p>"),
    };
    let by = match field("by", MAX_NAME) {
        name if name.is_empty() => "by link".to_owned(),
        name => format!("{name} (by link)"),
    };
    match page.ledger.decide_proposal(proposal.id, ticket.attempt, &verdict, &by).await {
        Ok(true) if matches!(verdict, Verdict::Approve(_)) => {
            (page.publish)(proposal.id).await;
            answer(StatusCode::OK, "<p>Approved. It is written in a moment.</p>")
        }
        Ok(true) => answer(StatusCode::OK, "<p>Rejected. Nothing is written.</p>"),
        Ok(false) => decided(),
        Err(error) => unavailable(&error),
    }
}

impl Page {
    /// The proposal that a link is about, or what is answered instead.
    async fn proposal(&self, id: WriteCommandId, ticket: &Ticket) -> Result<ProposalEntry, Box<Response>> {
        match self.links.check(id, ticket, OffsetDateTime::now_utc()) {
            Ok(()) => {}
            Err(WrongTicket::Forged) => {
                return Err(Box::new(answer(StatusCode::NOT_FOUND, "<p>This link is not valid.</p>")));
            }
            Err(WrongTicket::Expired) => {
                return Err(Box::new(answer(StatusCode::GONE, "<p>This link has expired.</p>")));
            }
        }
        let filter = ProposalFilter { ids: vec![id], ..ProposalFilter::default() };
        let waiting = self.ledger.proposals(&filter).await.map_err(|error| Box::new(unavailable(&error)))?;
        let same = waiting.into_iter().find(|proposal| proposal.attempt == ticket.attempt);
        same.ok_or_else(|| Box::new(decided()))
    }
}

fn decided() -> Response {
    answer(
        StatusCode::GONE,
        "<p>This proposal does not wait any more: it was decided about, replaced or made anew.</p>",
    )
}

fn unavailable(error: &LedgerError) -> Response {
    tracing::warn!(%error, "the page of a proposal cannot be shown");
    answer(StatusCode::SERVICE_UNAVAILABLE, "<p>Please try again in a minute.</p>")
}

fn answer(status: StatusCode, content: &str) -> Response {
    (status, HEADERS, Html(html::page(content))).into_response()
}
