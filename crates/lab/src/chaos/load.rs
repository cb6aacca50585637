//! A steady load of signed webhooks, as HubSpot sends them: in batches, again until somebody answers 200, some of them
//! twice, some late, some with another clock, and poison among them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use hubspot::webhook;
use lab::{SimulatorClient, WebhookClient, webhook_client::milliseconds};
use serde_json::{Value, json};
use simulator::admin::{NewContact, NewRecord};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;

/// Records that the events are about; each comes up again and again.
const CONTACTS: u64 = 120;
const FIRST_CONTACT: i64 = 100_000;

/// The contact about which the model declines to answer.
pub const DECLINED: i64 = 99_999;

/// HubSpot waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of what was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Keys of events that were answered 200.
    pub accepted: HashSet<String>,
    /// Marks of elements that make no event, and were answered 200.
    pub poison: HashSet<String>,
    /// Webhooks that were answered 200.
    pub webhooks: u64,
    /// Webhooks that were sent once more after that.
    pub duplicates: u64,
    /// Answers other than 200, by status; 0 for none.
    pub rejections: BTreeMap<u16, u64>,
    /// Webhooks whose timestamp was too far off, and that were accepted all the same.
    pub wrongly_accepted: u64,
    /// Webhooks with such a timestamp that were refused.
    pub skewed: u64,
}

/// The load, shared between those who send and those who look.
#[derive(Clone)]
pub struct Load {
    webhooks: WebhookClient,
    simulator: SimulatorClient,
    receivers: Vec<String>,
    portal_id: i64,
    sent: Arc<Mutex<Sent>>,
}

impl Load {
    /// Makes the records.
    pub async fn prepare(simulator: SimulatorClient, receivers: Vec<String>) -> Result<Self> {
        let known = simulator::Config::default();
        for id in (FIRST_CONTACT..).take(usize::try_from(CONTACTS)?).chain([DECLINED]) {
            let properties = [("firstname", "Ada"), ("lastname", "Marsh"), ("company", "Marsh Ltd")];
            let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let notes = if id == DECLINED { vec!["He repeated the unspeakable request.".to_owned()] } else { vec![] };
            simulator.put_contact(&NewContact { id, properties, notes, merged_ids: vec![] }).await?;
        }
        Ok(Self {
            webhooks: WebhookClient::new(PATIENCE)?,
            simulator,
            receivers,
            portal_id: known.portal_id,
            sent: Arc::default(),
        })
    }

    pub fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent, once nothing more is.
    pub fn all_sent(&self) -> Sent {
        std::mem::take(&mut self.sent())
    }

    /// Sends about `per_second` events a second until `stop`, and then waits until each webhook was answered 200.
    pub async fn run(&self, mut dice: Dice, per_second: f64, stop: CancellationToken) -> Result<()> {
        let mut sending = JoinSet::new();
        let mut sequence = 0;
        while !stop.is_cancelled() {
            let size = dice.within(1, 6);
            let mut batch = Vec::new();
            for _ in 0..size {
                sequence += 1;
                batch.push(self.event(&mut dice, sequence).await?);
            }
            dice.shuffle(&mut batch);
            let (load, dice) = (self.clone(), dice.fork());
            sending.spawn(async move { load.deliver(&batch, dice).await });
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            tokio::time::sleep(Duration::from_secs_f64(size as f64 / per_second)).await;
            while let Some(done) = sending.try_join_next() {
                done??;
            }
        }
        while let Some(done) = sending.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Something happens in HubSpot, and this is the webhook's element that tells of it.
    async fn event(&self, dice: &mut Dice, sequence: i64) -> Result<Value> {
        let now = milliseconds();
        let about = |contact: i64, property: &str| {
            json!({"eventId": sequence, "subscriptionId": 1, "portalId": self.portal_id, "appId": 1_234_567,
                "occurredAt": now, "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1",
                "subscriptionType": "contact.propertyChange", "propertyName": property,
                "propertyValue": "1764000000000", "changeSource": "CRM_UI", "sourceId": "userId:42"})
        };
        Ok(match dice.within(0, 100) {
            // No event at all; it has to be in the parking lot in the end.
            0..=2 => json!({"portalId": "nobody", "poison": format!("poison-{sequence}")}),
            // A record that is gone, a property that no playbook asks about, a question that the model declines.
            3..=5 => about(9_000_000 + sequence, "notes_last_updated"),
            6..=7 => about(FIRST_CONTACT, "favourite_colour"),
            8..=9 => about(DECLINED, "notes_last_updated"),
            _ => {
                let contact = FIRST_CONTACT + i64::try_from(dice.within(0, CONTACTS))?;
                let text = format!(
                    "<p>Spoke to the {}: they have ${sequence}k ready for Q1{}.</p>",
                    if dice.percent(50) { "CEO" } else { "assistant" },
                    if dice.percent(30) { " and are very excited; they are ready to sign" } else { "" }
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

    /// Delivers one batch until it is answered 200, and sometimes once more.
    async fn deliver(&self, batch: &[Value], mut dice: Dice) -> Result<()> {
        if dice.percent(15) {
            // HubSpot promises no order.
            tokio::time::sleep(Duration::from_millis(dice.within(100, 3_000))).await;
        }
        if dice.percent(3) {
            // A replay, or a clock that is wrong by minutes.
            let status = self.post(batch, &mut dice, -400_000).await;
            let mut sent = self.sent();
            if status == Some(200) { sent.wrongly_accepted += 1 } else { sent.skewed += 1 }
        }
        loop {
            // Within what HubSpot's clock may be off.
            let skew = i64::try_from(dice.within(0, 250_000))? - 240_000;
            let status = self.post(batch, &mut dice, skew).await;
            if status == Some(200) {
                break;
            }
            *self.sent().rejections.entry(status.unwrap_or(0)).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(dice.within(200, 1_200))).await;
        }
        self.accept(batch)?;
        if dice.percent(12) {
            tokio::time::sleep(Duration::from_millis(dice.within(0, 4_000))).await;
            // Nobody waits for this one: it was accepted before.
            self.post(batch, &mut dice, 0).await;
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
                let mark = value["poison"].as_str().context("a mark")?;
                sent.poison.insert(mark.to_owned());
            }
        }
        Ok(())
    }

    /// Posts a batch, signed, to any of the receivers. The timestamp is off by `skew` milliseconds.
    async fn post(&self, batch: &[Value], dice: &mut Dice, skew: i64) -> Option<u16> {
        self.webhooks.post(dice.pick(&self.receivers)?, serde_json::to_vec(batch).ok()?, skew).await
    }
}
