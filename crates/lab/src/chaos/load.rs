//! A steady load of signed webhooks, as HubSpot sends them: in batches, repeated until one is answered 200, some of them
//! twice, some late, some with a wrong clock, and some elements that are no events.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hubspot::webhook;
use lab::{SimulatorClient, WebhookClient, webhook_client::milliseconds};
use rand::{
    RngExt, SeedableRng,
    rngs::Xoshiro256PlusPlus,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};
use simulator::admin::{NewContact, NewRecord};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Contacts that the events are about; each has many events.
const CONTACTS: i64 = 120;
const FIRST_CONTACT: i64 = 100_000;

/// The contact about which the model declines to answer.
pub const DECLINED: i64 = 99_999;

/// HubSpot waits five seconds for an answer to a webhook.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What was sent, and how it was answered.
#[derive(Debug, Default)]
pub struct Sent {
    /// Keys of events that were answered 200.
    pub accepted: HashSet<String>,
    /// Marks of elements that are no events and were answered 200.
    pub poison: HashSet<String>,
    /// Webhooks that were answered 200.
    pub webhooks: u64,
    /// Webhooks that were sent again after a 200.
    pub duplicates: u64,
    /// Answers other than 200, by status; 0: no answer.
    pub rejections: BTreeMap<u16, u64>,
    /// When each of them came.
    pub rejected_at: Vec<Instant>,
    /// Webhooks that were accepted although their timestamp was too far off.
    pub wrongly_accepted: u64,
    /// Webhooks with such a timestamp that were refused.
    pub skewed: u64,
}

impl Sent {
    fn reject(&mut self, status: u16) {
        *self.rejections.entry(status).or_default() += 1;
        self.rejected_at.push(Instant::now());
    }
}

/// The load. Clones share what was sent.
#[derive(Clone)]
pub struct Load {
    webhooks: WebhookClient,
    simulator: SimulatorClient,
    receivers: Vec<String>,
    portal_id: i64,
    sent: Arc<Mutex<Sent>>,
}

impl Load {
    /// Creates the contacts in the simulator.
    pub async fn prepare(simulator: SimulatorClient, receivers: Vec<String>) -> Result<Self> {
        let known = simulator::Config::default();
        for id in (FIRST_CONTACT..).take(usize::try_from(CONTACTS)?).chain([DECLINED]) {
            let properties = [("firstname", "Ada"), ("lastname", "Marsh"), ("company", "Marsh Ltd")];
            let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let notes = if id == DECLINED { vec!["He repeated the unspeakable request.".to_owned()] } else { vec![] };
            simulator.put_contact(&NewContact { id, properties, notes, merged_ids: vec![] }).await?;
        }
        Ok(Self {
            webhooks: WebhookClient::new(ANSWER_TIMEOUT)?,
            simulator,
            receivers,
            portal_id: known.portal_id,
            sent: Arc::default(),
        })
    }

    pub fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what was sent; call it when nothing more is sent.
    pub fn all_sent(&self) -> Sent {
        std::mem::take(&mut self.sent())
    }

    /// Sends about `per_second` events a second until `stop`, and then waits until each webhook was answered 200.
    pub async fn run(&self, mut random: Xoshiro256PlusPlus, per_second: f64, stop: CancellationToken) -> Result<()> {
        let mut sending = JoinSet::new();
        let mut sequence = 0;
        while !stop.is_cancelled() {
            let size = random.random_range(1..6_u32);
            let mut batch = Vec::new();
            for _ in 0..size {
                sequence += 1;
                batch.push(self.event(&mut random, sequence).await?);
            }
            batch.shuffle(&mut random);
            let (load, random) = (self.clone(), random.fork());
            sending.spawn(async move { load.deliver(&batch, random).await });
            tokio::time::sleep(Duration::from_secs_f64(f64::from(size) / per_second)).await;
            while let Some(done) = sending.try_join_next() {
                done??;
            }
        }
        while let Some(done) = sending.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Changes something in HubSpot and returns the webhook's element about it.
    async fn event(&self, random: &mut Xoshiro256PlusPlus, sequence: i64) -> Result<Value> {
        let now = milliseconds();
        let about = |contact: i64, property: &str| {
            json!({"eventId": sequence, "subscriptionId": 1, "portalId": self.portal_id, "appId": 1_234_567,
                "occurredAt": now, "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1",
                "subscriptionType": "contact.propertyChange", "propertyName": property,
                "propertyValue": "1764000000000", "changeSource": "CRM_UI", "sourceId": "userId:42"})
        };
        Ok(match random.random_range(0..100) {
            // Not an event; it has to be in the parking lot at the end.
            0..=2 => json!({"portalId": "none", "poison": format!("poison-{sequence}")}),
            // A record that does not exist, a property that no playbook waits for, a contact about which the model declines.
            3..=5 => about(9_000_000 + sequence, "notes_last_updated"),
            6..=7 => about(FIRST_CONTACT, "favourite_colour"),
            8..=9 => about(DECLINED, "notes_last_updated"),
            _ => {
                let contact = FIRST_CONTACT + random.random_range(0..CONTACTS);
                let text = format!(
                    "<p>Spoke to the {}: they have ${sequence}k ready for Q1{}.</p>",
                    if random.random_bool(0.5) { "CEO" } else { "assistant" },
                    if random.random_bool(0.3) { " and are very excited; they are ready to sign" } else { "" }
                );
                let properties = [("hs_note_body", text), ("hs_timestamp", now.to_string())];
                let note = NewRecord {
                    kind: "note".to_owned(),
                    id: 5_000_000 + sequence,
                    properties: properties.map(|(name, value)| (name.to_owned(), value)).into(),
                    associations: vec![("contact".to_owned(), contact)],
                    primary: false,
                };
                self.simulator.put_object(&note).await?;
                about(contact, "notes_last_updated")
            }
        })
    }

    /// Sends a batch until it is answered 200, and sometimes once more.
    async fn deliver(&self, batch: &[Value], mut random: Xoshiro256PlusPlus) -> Result<()> {
        if random.random_bool(0.15) {
            // HubSpot delivers in no particular order.
            tokio::time::sleep(Duration::from_millis(random.random_range(100..3_000))).await;
        }
        if random.random_bool(0.03) {
            // A replay, or a clock that is minutes off.
            let status = self.post(batch, &mut random, -400_000).await;
            let mut sent = self.sent();
            if status == Some(200) { sent.wrongly_accepted += 1 } else { sent.skewed += 1 }
        }
        loop {
            // The receiver accepts a timestamp that is up to five minutes old.
            let skew = random.random_range(-240_000..10_000);
            let status = self.post(batch, &mut random, skew).await;
            if status == Some(200) {
                break;
            }
            self.sent().reject(status.unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(random.random_range(200..1_200))).await;
        }
        self.accept(batch)?;
        if random.random_bool(0.12) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..4_000))).await;
            // Its answer does not matter: the batch was accepted before.
            self.post(batch, &mut random, 0).await;
            self.sent().duplicates += 1;
        }
        Ok(())
    }

    fn accept(&self, batch: &[Value]) -> Result<()> {
        let body = serde_json::to_vec(batch)?;
        let mut sent = self.sent();
        sent.webhooks += 1;
        for (element, value) in webhook::parse(&body)?.into_iter().zip(batch) {
            if let Ok(event) = element.event {
                sent.accepted.insert(event.key.to_string());
            } else {
                let mark = value["poison"].as_str().context("an element that is no event has no mark")?;
                sent.poison.insert(mark.to_owned());
            }
        }
        Ok(())
    }

    /// Posts a signed batch to one of the receivers. The timestamp is off by `skew` milliseconds.
    async fn post(&self, batch: &[Value], random: &mut Xoshiro256PlusPlus, skew: i64) -> Option<u16> {
        self.webhooks.post(self.receivers.choose(random)?, serde_json::to_vec(batch).ok()?, skew).await
    }
}
