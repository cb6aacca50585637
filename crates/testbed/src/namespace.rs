//! A virtual host and a database for one test, so that tests side by side do not disturb each other.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Role, Services,
    database::{TestDatabase, drop_database},
    management::call,
    urls, workspace,
};

/// A fresh virtual host and a fresh database of the same name. The virtual host goes with the last clone: RabbitMQ becomes slow with
/// the thousands of quorum queues that hundreds of tests declare. The database stays until the services end or
/// [`TestNamespace::remove`] is called.
#[derive(Debug, Clone)]
pub struct TestNamespace {
    /// The name of both.
    pub name: String,
    /// The broker's URL, with the virtual host, for a user who may do everything. Of a cluster, those of its nodes, separated by commas.
    pub amqp_url: String,
    /// The database's URL, for a user who may do everything.
    pub postgres_url: String,
    management_url: String,
    admin_url: String,
    _virtual_host: Arc<VirtualHost>,
}

/// Removes the virtual host when it is dropped, in the background.
#[derive(Debug)]
struct VirtualHost {
    name: String,
    management_url: String,
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        let (path, management_url) = (format!("vhosts/{}", self.name), self.management_url.clone());
        // The test's runtime is ending. What is not removed when the process ends, ends with the services.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = runtime.map(|runtime| runtime.block_on(call(&management_url, Method::DELETE, &path, None)));
        });
    }
}

/// The part of RabbitMQ's definitions that `deploy/rabbitmq/permissions.json` has.
#[derive(Debug, Deserialize)]
struct Definitions {
    permissions: Vec<UserPermissions>,
}

#[derive(Debug, Deserialize)]
struct UserPermissions {
    user: String,
    /// `configure`, `write`, `read` and, for deployments, `vhost`.
    #[serde(flatten)]
    may: BTreeMap<String, String>,
}

/// A queue and how many messages it holds.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueDepth {
    /// The queue's name.
    pub name: String,
    /// Ready and unacknowledged messages.
    #[serde(default)]
    pub messages: u64,
    /// Messages that were delivered and are not yet acknowledged.
    #[serde(default)]
    pub messages_unacknowledged: u64,
}

/// An empty virtual host and a migrated database on the services that the environment names.
///
/// # Errors
///
/// When the environment names no services: run the tests with `cargo xtask test`.
pub async fn namespace() -> Result<TestNamespace> {
    TestNamespace::migrated(&Services::from_environment()?).await
}

impl TestNamespace {
    /// An empty virtual host and an empty database.
    pub async fn new(services: &Services) -> Result<Self> {
        Self::with(services, TestDatabase::empty(services).await?).await
    }

    /// An empty virtual host and a database with every migration applied.
    pub async fn migrated(services: &Services) -> Result<Self> {
        Self::with(services, TestDatabase::migrated(services).await?).await
    }

    async fn with(services: &Services, database: TestDatabase) -> Result<Self> {
        let management_url = services.management_url.trim_end_matches('/').to_owned();
        let virtual_host = VirtualHost { name: database.name.clone(), management_url: management_url.clone() };
        let namespace = Self {
            _virtual_host: Arc::new(virtual_host),
            amqp_url: urls::each(&services.amqp_url, |url| {
                Ok(format!("{}/{}", url.trim_end_matches('/'), database.name))
            })?,
            postgres_url: database.url,
            management_url,
            admin_url: services.postgres_url.clone(),
            name: database.name,
        };
        namespace.management(Method::PUT, &format!("vhosts/{}", namespace.name), Some(json!({}))).await?;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let user = namespace.user().to_owned();
        namespace.management(Method::PUT, &format!("permissions/{}/{user}", namespace.name), Some(everything)).await?;
        namespace.add_users().await?;
        Ok(namespace)
    }

    /// The broker's address, `host:port`; of a cluster, its first node's.
    pub fn amqp_address(&self) -> &str {
        let first = self.amqp_url.split(',').next().unwrap_or_default();
        let after_user = first.rsplit_once('@').map_or(first, |(_, rest)| rest);
        after_user.split('/').next().unwrap_or(after_user)
    }

    /// Makes a user for each role, with its name as password, and gives it its permissions.
    async fn add_users(&self) -> Result<()> {
        let path = workspace::root()?.join("deploy/rabbitmq/permissions.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let definitions: Definitions = serde_json::from_str(&text).context("deploy/rabbitmq/permissions.json")?;
        for UserPermissions { user, may } in definitions.permissions {
            let (path, account) = (format!("users/{user}"), json!({"password": user, "tags": ""}));
            // All namespaces share the users. RabbitMQ refuses the second of two calls that make one at the same moment.
            if let Err(error) = self.management(Method::PUT, &path, Some(account)).await {
                self.management(Method::GET, &path, None).await.map_err(|_| error)?;
            }
            let path = format!("permissions/{}/{user}", self.name);
            self.management(Method::PUT, &path, Some(serde_json::to_value(may)?)).await?;
        }
        Ok(())
    }

    /// The broker's URL for the user of a role.
    pub fn amqp_url_of(&self, role: Role) -> Result<String> {
        role.url(&self.amqp_url)
    }

    /// The database's URL for the user of a role.
    pub fn postgres_url_of(&self, role: Role) -> Result<String> {
        role.url(&self.postgres_url)
    }

    /// The URL of another database of the server, for a user who may do everything.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Removes both, even while clients are connected.
    pub async fn remove(&self) -> Result<()> {
        self.management(Method::DELETE, &format!("vhosts/{}", self.name), None).await?;
        drop_database(&self.admin_url, &self.name).await
    }

    /// Every queue with its depth, from the management API. Its numbers lag by about a second.
    pub async fn queues(&self) -> Result<Vec<QueueDepth>> {
        let answer = self.management(Method::GET, &format!("queues/{}", self.name), None).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Takes up to `count` messages out of a queue and returns them: body and headers.
    pub async fn take_messages(&self, queue: &str, count: u32) -> Result<Vec<Value>> {
        let body = json!({"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let answer = self.management(Method::POST, &format!("queues/{}/{queue}/get", self.name), Some(body)).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Calls RabbitMQ's management API; `path` begins after `/api/`. An empty answer is `null`.
    pub async fn management(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        call(&self.management_url, method, path, body).await
    }

    /// The management API's URL, with the login.
    pub fn management_url(&self) -> &str {
        &self.management_url
    }

    /// The management UI's address without credentials, and the login: `user / password`.
    pub fn management_login(&self) -> (String, String) {
        let (scheme, rest) = self.management_url.split_once("://").unwrap_or(("http", &self.management_url));
        let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        (format!("{scheme}://{host}"), credentials.replace(':', " / "))
    }

    fn user(&self) -> &str {
        let rest = self.management_url.split_once("://").map_or(self.management_url.as_str(), |(_, rest)| rest);
        rest.split(':').next().unwrap_or("guest")
    }
}
