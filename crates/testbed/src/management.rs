//! RabbitMQ's management API.

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::Value;

use crate::http::client;

/// Calls RabbitMQ's management API; `path` begins after `/api/`. An empty answer is `null`.
pub(crate) async fn call(management_url: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
    let (scheme, rest) = management_url.split_once("://").context("the management URL has no scheme")?;
    let (credentials, host) = rest.rsplit_once('@').context("the management URL has no user")?;
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut request =
        client().request(method.clone(), format!("{scheme}://{host}/api/{path}")).basic_auth(user, Some(password));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.context("cannot reach RabbitMQ's management API")?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("RabbitMQ's management API answered {status} to {method} {path}: {text}");
    }
    if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
}
