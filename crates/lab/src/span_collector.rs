//! A collector of traces that speaks OTLP over HTTP and keeps what it gets.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;

type Bodies = Arc<Mutex<Vec<Bytes>>>;

/// A collector, until the runtime ends.
#[derive(Debug)]
pub struct SpanCollector {
    endpoint: String,
    bodies: Bodies,
}

/// A span, and the service that sent it.
#[derive(Debug, Clone)]
pub struct CollectedSpan {
    /// The service's name.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl CollectedSpan {
    /// The id of its trace, as the ledger has it.
    pub fn trace_id(&self) -> String {
        self.span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl SpanCollector {
    /// Listens on a port of its own.
    pub async fn start() -> Result<Self> {
        let bodies = Bodies::default();
        let collect = async |State(bodies): State<Bodies>, body: Bytes| {
            bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        };
        let router = Router::new().route("/v1/traces", post(collect)).with_state(bodies.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { endpoint, bodies })
    }

    /// Its URL, for `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The spans that it has got. All of them have to name the version of the conventions.
    pub fn spans(&self) -> Result<Vec<CollectedSpan>> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut collected = Vec::new();
        for body in bodies {
            let request = ExportTraceServiceRequest::decode(body).context("a body is not OTLP")?;
            for of_service in request.resource_spans {
                ensure!(of_service.schema_url == spans::SCHEMA_URL, "a resource names `{}`", of_service.schema_url);
                let service =
                    of_service.resource.as_ref().and_then(service_name).context("a resource has no service")?;
                for of_scope in of_service.scope_spans {
                    ensure!(of_scope.schema_url == spans::SCHEMA_URL, "a scope names `{}`", of_scope.schema_url);
                    let spans = of_scope.spans.into_iter();
                    collected.extend(spans.map(|span| CollectedSpan { service: service.clone(), span }));
                }
            }
        }
        Ok(collected)
    }
}

fn service_name(resource: &Resource) -> Option<String> {
    let attribute = resource.attributes.iter().find(|attribute| attribute.key == "service.name")?;
    match attribute.value.as_ref()? {
        AnyValue { value: Some(Value::StringValue(name)) } => Some(name.clone()),
        AnyValue { .. } => None,
    }
}
