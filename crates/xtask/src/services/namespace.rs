//! A virtual host and a database of one's own, so that runs side by side do not disturb each other.

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::Services;

/// A fresh virtual host and a fresh database. Both go with the services, or by [`TestNamespace::remove`].
#[derive(Debug, Clone)]
pub struct TestNamespace {
    /// Its name, of both.
    pub name: String,
    /// The broker with the virtual host.
    pub amqp_url: String,
    /// The database.
    pub postgres_url: String,
    management_url: String,
    admin_url: String,
}

/// A queue and how many messages it holds.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueDepth {
    /// Its name.
    pub name: String,
    /// Ready and unacknowledged.
    #[serde(default)]
    pub messages: u64,
    /// Delivered and not yet acknowledged.
    #[serde(default)]
    pub messages_unacknowledged: u64,
}

impl TestNamespace {
    /// Makes both.
    pub async fn new(services: &Services) -> Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("leadline_{}", &id[20..]);
        let (server, _) = services.postgres_url.rsplit_once('/').context("the Postgres URL names no database")?;
        let namespace = Self {
            amqp_url: format!("{}/{name}", services.amqp_url.trim_end_matches('/')),
            postgres_url: format!("{server}/{name}"),
            management_url: services.management_url.trim_end_matches('/').to_owned(),
            admin_url: services.postgres_url.clone(),
            name,
        };
        namespace.sql(&format!("create database {}", namespace.name)).await?;
        namespace.management(Method::PUT, &format!("vhosts/{}", namespace.name), Some(json!({}))).await?;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let user = namespace.user().to_owned();
        namespace.management(Method::PUT, &format!("permissions/{}/{user}", namespace.name), Some(everything)).await?;
        Ok(namespace)
    }

    /// Removes both.
    pub async fn remove(&self) -> Result<()> {
        self.management(Method::DELETE, &format!("vhosts/{}", self.name), None).await?;
        self.sql(&format!("drop database {} with (force)", self.name)).await
    }

    /// Every queue with its depth, from the management API. Its numbers lag by about a second.
    pub async fn queues(&self) -> Result<Vec<QueueDepth>> {
        let answer = self.management(Method::GET, &format!("queues/{}", self.name), None).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Takes up to `count` messages out of a queue, to look at: body and headers.
    pub async fn take_messages(&self, queue: &str, count: u32) -> Result<Vec<Value>> {
        let body = json!({"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let answer = self.management(Method::POST, &format!("queues/{}/{queue}/get", self.name), Some(body)).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Calls the management API.
    pub async fn management(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let (scheme, rest) = self.management_url.split_once("://").context("the management URL has no scheme")?;
        let (credentials, host) = rest.rsplit_once('@').context("the management URL has no user")?;
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut request = reqwest::Client::new()
            .request(method.clone(), format!("{scheme}://{host}/api/{path}"))
            .basic_auth(user, Some(password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.context("RabbitMQ's management API")?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("RabbitMQ's management API answered {status} to {method} {path}: {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// The management UI's address, without credentials, and who may log in there.
    pub fn management_login(&self) -> (String, String) {
        let (scheme, rest) = self.management_url.split_once("://").unwrap_or(("http", &self.management_url));
        let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        (format!("{scheme}://{host}"), credentials.replace(':', " / "))
    }

    fn user(&self) -> &str {
        let rest = self.management_url.split_once("://").map_or(self.management_url.as_str(), |(_, rest)| rest);
        rest.split(':').next().unwrap_or("guest")
    }

    async fn sql(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.admin_url).await.context("Postgres")?;
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))).await?;
        connection.close().await?;
        Ok(())
    }
}
