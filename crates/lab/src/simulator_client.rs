//! A client of the simulator's own API, by which tests prepare and inspect it.

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use simulator::{
    Call, Charge, Fault, WebhookDelivery,
    admin::{
        ChannelMessage, Edit, Merge, ModelAccess, NewContact, NewRecord, ObjectView, Quirks, SendWebhook, Survivor,
    },
};

/// A client of a running simulator.
#[derive(Debug, Clone)]
pub struct SimulatorClient {
    http: reqwest::Client,
    base: String,
}

impl SimulatorClient {
    /// A client of the simulator at `base`.
    pub fn new(base: String) -> Self {
        Self { http: reqwest::Client::new(), base }
    }

    /// The simulator's URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Creates a contact.
    pub async fn put_contact(&self, contact: &NewContact) -> Result<()> {
        self.send(Method::POST, "contacts", Some(contact)).await
    }

    /// Deletes a contact for privacy reasons.
    pub async fn delete_for_privacy(&self, id: i64) -> Result<()> {
        self.send(Method::POST, &format!("contacts/{id}/privacy-deletion"), None::<&()>).await
    }

    /// Creates an object of any kind.
    pub async fn put_object(&self, object: &NewRecord) -> Result<()> {
        self.send(Method::POST, "objects", Some(object)).await
    }

    /// A contact with the history of its properties; `None` when it does not exist.
    pub async fn contact(&self, id: i64) -> Result<Option<ObjectView>> {
        self.object("contact", id).await
    }

    /// An object with the history of its properties; `None` when it does not exist.
    pub async fn object(&self, kind: &str, id: i64) -> Result<Option<ObjectView>> {
        let response = self.http.get(format!("{}/_simulator/objects/{kind}/{id}", self.base)).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }

    /// Every object of a kind.
    pub async fn objects(&self, kind: &str) -> Result<Vec<ObjectView>> {
        self.call(Method::GET, &format!("objects/{kind}"), None::<&()>).await
    }

    /// Changes an object as another user or app of the portal would.
    pub async fn edit(&self, kind: &str, id: i64, edit: &Edit) -> Result<()> {
        self.send(Method::PATCH, &format!("objects/{kind}/{id}"), Some(edit)).await
    }

    /// The ids of the `to` records that a record is associated with.
    pub async fn associated(&self, kind: &str, id: i64, to: &str) -> Result<Vec<i64>> {
        self.call(Method::GET, &format!("objects/{kind}/{id}/{to}"), None::<&()>).await
    }

    /// Merges records and returns the id of the one that survives.
    pub async fn merge(&self, merge: &Merge) -> Result<i64> {
        let survivor: Survivor = self.call(Method::POST, "merges", Some(merge)).await?;
        Ok(survivor.id)
    }

    /// The URL of a channel that accepts Slack's messages.
    pub fn channel(&self, name: &str) -> String {
        format!("{}/_simulator/channels/{name}", self.base)
    }

    /// The messages that all channels have received.
    pub async fn messages(&self) -> Result<Vec<ChannelMessage>> {
        self.call(Method::GET, "messages", None::<&()>).await
    }

    /// Sends events as one webhook and returns how it was answered.
    pub async fn webhook(&self, webhook: &SendWebhook) -> Result<WebhookDelivery> {
        self.call(Method::POST, "webhooks", Some(webhook)).await
    }

    /// The webhooks that the simulator sent about changes.
    pub async fn deliveries(&self) -> Result<Vec<WebhookDelivery>> {
        self.call(Method::GET, "deliveries", None::<&()>).await
    }

    /// Switches a fault on.
    pub async fn fault(&self, fault: &Fault) -> Result<()> {
        self.send(Method::POST, "faults", Some(fault)).await
    }

    /// Switches all faults off.
    pub async fn clear_faults(&self) -> Result<()> {
        self.send(Method::DELETE, "faults", None::<&()>).await
    }

    /// Sets how HubSpot treats certain records and properties.
    pub async fn quirks(&self, quirks: &Quirks) -> Result<()> {
        self.send(Method::POST, "quirks", Some(quirks)).await
    }

    /// Says which models are away and which parameters are refused, from now on.
    pub async fn models(&self, access: &ModelAccess) -> Result<()> {
        self.send(Method::POST, "models", Some(access)).await
    }

    /// Watches for values that must never arrive at the model; a request with one is refused.
    pub async fn keep_back(&self, values: &[&str]) -> Result<()> {
        self.send(Method::POST, "kept-back", Some(values)).await
    }

    /// The values that arrived at the model although they must not.
    pub async fn arrived(&self) -> Result<Vec<String>> {
        self.call(Method::GET, "kept-back", None::<&()>).await
    }

    /// Ends the lag of the search index: searches find everything that was written so far.
    pub async fn complete_search_index(&self) -> Result<()> {
        self.send(Method::POST, "search-index", None::<&()>).await
    }

    /// How many requests wait for the model's answer.
    pub async fn open_requests(&self) -> Result<usize> {
        self.call(Method::GET, "open-requests", None::<&()>).await
    }

    /// The calls after the one with number `after`.
    pub async fn calls(&self, after: u64) -> Result<Vec<Call>> {
        self.call(Method::GET, &format!("calls?after={after}"), None::<&()>).await
    }

    /// Every question that OpenAI billed, oldest first.
    pub async fn charges(&self) -> Result<Vec<Charge>> {
        self.call(Method::GET, "charges", None::<&()>).await
    }

    async fn call<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T> {
        Ok(self.response(method, path, body).await?.json().await?)
    }

    async fn send<B: Serialize + ?Sized>(&self, method: Method, path: &str, body: Option<&B>) -> Result<()> {
        self.response(method, path, body).await.map(drop)
    }

    async fn response<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<reqwest::Response> {
        let mut request = self.http.request(method, format!("{}/_simulator/{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("cannot reach the simulator's {path}"))?;
        let status = response.status();
        if !status.is_success() {
            bail!("the simulator answered {status} to {path}: {}", response.text().await?);
        }
        Ok(response)
    }
}
