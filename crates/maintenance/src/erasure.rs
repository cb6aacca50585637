//! Erases the records whose erasure was asked for: from the ledger, the parking lots and the retry queues.
//!
//! A worker that began before may still store something: the answer about another record that has read this one. So an
//! erasure stays open until every lease of that time has ended. It is carried out twice: at once, and then, for what was stored
//! since.

use std::{collections::HashSet, time::Duration};

use broker::{Connection, Message, ParkedMessage, ParkingLot, PublishError, Publisher, Route, Stage};
use domain::{Event, RecordRef, WriteCommandId, named_record::named_in_text, write_command::CommandMessage};
use ledger::{Ledger, LedgerError, OpenErasure};
use settings::Settings;

/// How long an erasure waits at first: until what came with it, such as the event of the deletion itself, has ended. What is
/// still under way then is dropped, and its message comes back once more.
const MIN_AGE: Duration = Duration::from_secs(2);

/// How many erasures one pass takes on.
const MAX_AT_ONCE: i64 = 100;

/// How many messages about write commands the ledger is asked about at once.
const COMMANDS_AT_ONCE: usize = 500;

/// How much longer than the longest lease an erasure stays open: a commit may be on its way when the lease ends.
const MARGIN: Duration = Duration::from_secs(60);

/// A batch makes many statements and reads each parking lot once, each call with a bound of its own. One that takes this long makes no
/// progress.
const LONGEST_BATCH: Duration = Duration::from_secs(3_600);

/// Why an erasure was not carried out. The next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The ledger could not be read or changed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A parking lot or a retry queue could not be read.
    #[error(transparent)]
    Broker(#[from] broker::ConnectionError),
    /// A message that loses its value could not be published without it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Erases records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Eraser {
    ledger: Ledger,
    connection: Connection,
    publisher: Publisher,
    /// How long after it was asked for an erasure stays open.
    open_for: Duration,
}

impl Eraser {
    /// An eraser that reads the queues over `connection`.
    pub fn new(ledger: Ledger, connection: Connection, publisher: Publisher, settings: &Settings) -> Self {
        let longest_lease = settings.inference.lease_seconds.max(settings.writer.lease_seconds);
        Self { ledger, connection, publisher, open_for: Duration::from_secs(longest_lease) + MARGIN }
    }

    /// Carries out every erasure that is due. One that fails keeps no other from being carried out.
    ///
    /// # Errors
    /// The ledger or RabbitMQ is away. What was erased stays erased.
    pub async fn pass(&self) -> Result<(), EraseError> {
        let mut failed = 0;
        loop {
            let open = self.ledger.open_erasures(MIN_AGE, self.open_for, failed, MAX_AT_ONCE).await?;
            let taken = i64::try_from(open.len()).unwrap_or(MAX_AT_ONCE);
            let concluded = watchdog::watch("erase", LONGEST_BATCH, self.carry_out(open)).await?;
            // Those that failed are the first of the next list, too.
            failed += taken - concluded;
            if taken < MAX_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Carries out these erasures and returns how many did not fail and are not listed again. When the ledger goes away, those that
    /// were carried out before are concluded first, as far as that is possible.
    async fn carry_out(&self, open: Vec<OpenErasure>) -> Result<i64, EraseError> {
        let (mut carried_out, mut records) = (Vec::new(), ErasedRecords::default());
        let mut away = None;
        for open in open {
            match self.ledger.erase(&open.record).await {
                Ok((_, found)) => {
                    records.add(&open.record, found);
                    carried_out.push(open);
                }
                Err(error) if ends_pass(&error) => {
                    away = Some(error);
                    break;
                }
                Err(error) => tracing::error!(%error, "a record could not be erased; the next pass tries again"),
            }
        }
        let mut removal = Removal::default();
        if !carried_out.is_empty() {
            removal = self.remove_messages(&records).await?;
        }
        let mut concluded = 0;
        for open in &carried_out {
            let is_due = open.age >= self.open_for;
            match self.ledger.conclude_erasure(&open.record, is_due && !removal.left_newer).await {
                // It stays open, and is listed again.
                Ok(()) if is_due && removal.left_newer => {}
                Ok(()) => concluded += 1,
                Err(error) if ends_pass(&error) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "an erasure could not be concluded; the next pass tries again");
                    continue;
                }
            }
            if !open.is_erased {
                metrics::counter!("leadline_erasures_total").increment(1);
                tracing::info!("erased a record");
            }
        }
        away.map_or(Ok(concluded), |error| Err(error.into()))
    }

    /// Carries out the rest of erasures that were carried out in the ledger: removes the messages about these records, each with what
    /// [`Ledger::erase`] found of it, and returns how many there were. The fleet goes on with them until they are finished.
    ///
    /// # Errors
    /// The ledger or RabbitMQ is away. The fleet does it later.
    pub async fn erase_messages(&self, erased: Vec<(RecordRef, Vec<RecordRef>)>) -> Result<usize, EraseError> {
        let mut records = ErasedRecords::default();
        let named: Vec<_> = erased.iter().map(|(record, _)| record.clone()).collect();
        erased.into_iter().for_each(|(record, found)| records.add(&record, found));
        let messages = self.remove_messages(&records).await?.removed;
        for record in named {
            self.ledger.conclude_erasure(&record, false).await?;
        }
        Ok(messages)
    }

    /// Removes the messages about these records from all parking lots and retry queues, with those of erased write commands,
    /// and returns what became of them. A message that stays is never taken from its queue, only looked at, and one that loses its value
    /// is published without it before: when this is interrupted, RabbitMQ has it still.
    async fn remove_messages(&self, records: &ErasedRecords) -> Result<Removal, EraseError> {
        let mut removal = Removal::default();
        for (route, depth) in self.connection.queue_depths().await? {
            if depth == 0 || matches!(route, Route::Queue(_)) {
                continue;
            }
            let queue = ParkingLot::open_queue(&self.connection, route).await?;
            match route.stage() {
                Stage::Events | Stage::Backfill | Stage::Erasures => {
                    self.remove_events(&queue, route, depth, records, &mut removal).await?;
                }
                Stage::Writes => self.remove_commands(&queue, depth, &mut removal).await?,
            }
            queue.close().await;
        }
        if removal.left_newer {
            tracing::warn!("messages of a newer version are left, and erasures stay open for a worker that knows it");
        }
        Ok(removal)
    }

    async fn remove_events(
        &self,
        queue: &ParkingLot,
        route: Route,
        depth: u32,
        records: &ErasedRecords,
        removal: &mut Removal,
    ) -> Result<(), EraseError> {
        for _ in 0..depth {
            let Some(parked) = queue.next().await? else { break };
            match records.fate_of(&parked.message, route.stage()) {
                Fate::Stays => continue,
                Fate::IsNewer => {
                    removal.left_newer = true;
                    continue;
                }
                Fate::Goes => {}
                // The ledger may not know its event, and then this is all that is known of it.
                Fate::LosesValue(message) => self.publisher.publish(route, &message).await?,
            }
            queue.remove(&parked).await?;
            removal.removed += 1;
        }
        Ok(())
    }

    /// The message of a write command says only its id.
    async fn remove_commands(&self, queue: &ParkingLot, depth: u32, removal: &mut Removal) -> Result<(), EraseError> {
        let mut left = depth;
        while left > 0 {
            let mut messages: Vec<(WriteCommandId, ParkedMessage)> = Vec::new();
            while left > 0 && messages.len() < COMMANDS_AT_ONCE {
                left -= 1;
                let Some(parked) = queue.next().await? else {
                    left = 0;
                    break;
                };
                if parked.message.is_newer_than_known(Stage::Writes) {
                    removal.left_newer = true;
                    continue;
                }
                messages.extend(command_of(&parked.message).map(|id| (id, parked)));
            }
            let ids: Vec<_> = messages.iter().map(|(id, _)| *id).collect();
            let erased: HashSet<_> = self.ledger.erased_commands(&ids).await?.into_iter().collect();
            for (_, parked) in messages.iter().filter(|(id, _)| erased.contains(id)) {
                queue.remove(parked).await?;
                removal.removed += 1;
            }
        }
        Ok(())
    }
}

/// What became of the messages in parking lots and retry queues.
#[derive(Debug, Default)]
struct Removal {
    /// How many were removed, or lost a value.
    removed: usize,
    /// Whether there is one of a newer version. Whom it names, and where, only a newer worker can tell.
    left_newer: bool,
}

/// Whether the ledger is away. A record that another process holds, or with more than one statement can go through, is the only one
/// that has to wait.
fn ends_pass(error: &LedgerError) -> bool {
    error.is_away() && !error.is_locked() && !error.is_timed_out()
}

/// Records that are erased, and their engagements.
#[derive(Debug, Default)]
struct ErasedRecords {
    records: Vec<RecordRef>,
    /// They may be somebody else's, too.
    engagements: Vec<RecordRef>,
}

impl ErasedRecords {
    /// Adds a record with what was found of it.
    fn add(&mut self, record: &RecordRef, found: Vec<RecordRef>) {
        self.records.push(record.clone());
        self.engagements.extend(found.into_iter().filter(|found| found != record));
    }

    /// What becomes of a message of an event, or of an element that is none. It goes when it names one of the records. When it holds a
    /// value of one of their engagements, which may be somebody else's, too, it loses that.
    fn fate_of(&self, message: &Message, stage: Stage) -> Fate {
        if message.is_newer_than_known(stage) {
            return Fate::IsNewer;
        }
        let event = serde_json::from_slice::<Event>(&message.body).ok();
        let text = String::from_utf8_lossy(&message.body);
        let named = event.as_ref().map_or_else(|| named_in_text(&text), Event::named_records);
        let is_any_of =
            |records: &[RecordRef]| named.iter().any(|named| records.iter().any(|record| named.may_be(record)));
        if is_any_of(&self.records) {
            return Fate::Goes;
        }
        let has_value = event.as_ref().map_or_else(|| text.contains(VALUE), |event| event.payload.get(VALUE).is_some());
        if !has_value || !is_any_of(&self.engagements) {
            return Fate::Stays;
        }
        // Of text that is no JSON, such as an element that was cut, nobody could tell where the value ends.
        let body = without_value(&message.body, event.is_some());
        body.map_or(Fate::Goes, |body| {
            let mut left = message.clone();
            (left.body, left.detail) = (body, None);
            Fate::LosesValue(left)
        })
    }
}

/// What becomes of a message.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    Goes,
    /// It has a form that is not known here, and stays for those that know it.
    IsNewer,
    /// This message takes its place.
    LosesValue(Message),
}

/// The body of a message without the value: that of an event, which holds the element that HubSpot sent, or such an element itself.
fn without_value(body: &[u8], is_event: bool) -> Option<Vec<u8>> {
    let mut json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let element = if is_event { json.get_mut("payload")? } else { &mut json };
    element.as_object_mut()?.remove(VALUE)?;
    serde_json::to_vec(&json).ok()
}

/// The field of an event with the new value of a property.
const VALUE: &str = "propertyValue";

fn command_of(message: &Message) -> Option<WriteCommandId> {
    Some(serde_json::from_slice::<CommandMessage>(&message.body).ok()?.id)
}

#[cfg(test)]
mod tests {
    use broker::{Message, Stage};
    use domain::{ObjectId, ObjectType, PortalId, RecordRef};
    use serde_json::{Value, json};

    use super::{ErasedRecords, Fate};
    use crate::messages::payload_message;

    fn record(object_type: ObjectType, id: i64) -> RecordRef {
        RecordRef { portal_id: PortalId(1), object_type, object_id: ObjectId(id) }
    }

    fn element(object: &str, type_id: &str, id: i64) -> Value {
        json!({"eventId": 1, "portalId": 1, "occurredAt": 1_764_000_000_000_i64, "attemptNumber": 0, "objectId": id,
               "objectTypeId": type_id, "subscriptionType": format!("{object}.propertyChange"), "propertyName": "hs_note_body",
               "propertyValue": "Zebulon", "changeSource": "CRM_UI"})
    }

    #[test]
    fn a_message_of_a_shared_engagement_loses_its_value_and_keeps_the_rest() {
        let mut erased = ErasedRecords::default();
        let person = record(ObjectType::Contact, 7);
        erased.add(&person, vec![person.clone(), record(ObjectType::Note, 5)]);
        let fate_of = |message: &Message| erased.fate_of(message, Stage::Events);
        let note = element("object", "0-46", 5);
        let of = |element: &Value| payload_message(element).expect("an event");
        assert_eq!(fate_of(&of(&element("contact", "0-1", 7))), Fate::Goes);
        assert_eq!(fate_of(&of(&element("contact", "0-1", 8))), Fate::Stays);

        let mut waiting = of(&note);
        (waiting.attempts, waiting.reason) = (3, Some("hubspot_unavailable".to_owned()));
        let Fate::LosesValue(left) = fate_of(&waiting) else { panic!("{:?}", fate_of(&waiting)) };
        let mut expected = note.clone();
        expected.as_object_mut().expect("an object").remove("propertyValue");
        waiting.body = of(&expected).body;
        assert_eq!(left, waiting);
        assert_eq!(fate_of(&left), Fate::Stays, "it is not published again and again");

        // What the receiver could not read may be replayed by a later version.
        let unread = Message::new("rejected:0", note.to_string().into_bytes());
        let Fate::LosesValue(left) = fate_of(&unread) else { panic!("{:?}", fate_of(&unread)) };
        assert_eq!(serde_json::from_slice::<Value>(&left.body).expect("JSON"), expected);
        let cut = Message::new("rejected:0", note.to_string().into_bytes()[..note.to_string().len() - 1].to_vec());
        assert_eq!(fate_of(&cut), Fate::Goes);
    }

    #[test]
    fn a_message_of_a_newer_version_stays_for_a_worker_that_knows_it() {
        let mut erased = ErasedRecords::default();
        let person = record(ObjectType::Contact, 7);
        erased.add(&person, vec![person.clone()]);
        let mut message = payload_message(&element("contact", "0-1", 7)).expect("an event");
        assert_eq!(erased.fate_of(&message, Stage::Events), Fate::Goes);
        message.version = Some(7);
        assert_eq!(erased.fate_of(&message, Stage::Events), Fate::IsNewer);
    }
}
