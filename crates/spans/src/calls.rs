//! Calls to the outside: HTTP, the database. Each is a span of the trace that is current; what belongs to no trace (maintenance, probes,
//! rate limits) has none.

use opentelemetry::KeyValue;
use tracing::{Span, field::Empty};

use crate::{Server, add};

/// A call of the kind `client` with these attributes, within the trace that is current.
pub fn client<const N: usize>(
    name: impl FnOnce() -> String,
    attributes: impl FnOnce() -> [Option<KeyValue>; N],
    server: Option<&Server>,
) -> Span {
    let span = begin("client", name);
    add(&span, attributes);
    add(&span, || Server::attributes(server));
    span
}

/// An HTTP request, as the conventions for HTTP clients describe it.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The URL before the path.
    pub base_url: &'a str,
    /// The path with placeholders for ids, without the query: what names a person is in neither.
    pub template: &'a str,
    /// Whom it goes to.
    pub server: Option<&'a Server>,
}

/// An HTTP request. [`http_answered`] says what was answered.
pub fn http(request: &HttpRequest<'_>) -> Span {
    let HttpRequest { method, base_url, template, server } = *request;
    let attributes = || {
        [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("url.template", template.to_owned()),
            KeyValue::new("url.full", format!("{base_url}{template}")),
        ]
        .map(Some)
    };
    client(|| format!("{method} {template}"), attributes, server)
}

/// The status of an answer.
pub fn http_answered(span: &Span, status: u16) {
    add(span, || [Some(KeyValue::new("http.response.status_code", i64::from(status)))]);
}

/// Statements of the database, as the conventions for PostgreSQL describe them.
#[derive(Debug, Clone, Copy)]
pub struct Statements<'a> {
    /// What they are for, in words of a closed list.
    pub summary: &'static str,
    /// For how many events, commands or records they are.
    pub batch: usize,
    /// The name of the database.
    pub database: Option<&'a str>,
    /// Whom they go to.
    pub server: Option<&'a Server>,
}

/// Statements of the database.
pub fn statements(statements: &Statements<'_>) -> Span {
    let Statements { summary, batch, database, server } = *statements;
    let batch_size = || i64::try_from(batch).ok().filter(|batch| *batch > 1);
    let attributes = || {
        [
            Some(KeyValue::new("db.system.name", "postgresql")),
            Some(KeyValue::new("db.query.summary", summary)),
            database.map(|database| KeyValue::new("db.namespace", database.to_owned())),
            // One statement for all of them; by the conventions a batch has two or more.
            batch_size().map(|size| KeyValue::new("db.operation.batch.size", size)),
        ]
    };
    client(|| summary.to_owned(), attributes, server)
}

/// The error code of Postgres.
pub fn refused(span: &Span, code: &str) {
    add(span, || [Some(KeyValue::new("db.response.status_code", code.to_owned()))]);
}

pub(crate) fn begin(kind: &'static str, name: impl FnOnce() -> String) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let span = tracing::info_span!("call", otel.kind = kind, otel.name = Empty);
    if !span.is_disabled() {
        span.record("otel.name", name());
    }
    span
}
