//! Erases the records whose erasure was asked for: from the ledger, the parking lots and the retry queues.
//!
//! A worker that began before may still store something: the answer about another record that has read this one. So an
//! erasure stays open until every lease of that time has ended, and each pass erases what was stored since.

use std::{collections::HashSet, time::Duration};

use broker::{Connection, Message, ParkedMessage, ParkingLot, Route, Stage};
use domain::{Event, RecordRef, WriteCommandId, named_record::named_in_text, write_command::CommandMessage};
use ledger::{Erased, Ledger, LedgerError};
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

/// Why an erasure was not carried out. The next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The ledger could not be read or changed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A parking lot or a retry queue could not be read.
    #[error(transparent)]
    Broker(#[from] broker::ConnectionError),
}

/// What was erased of one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasedCounts {
    /// In the ledger.
    pub ledger: Erased,
    /// Messages in parking lots and retry queues.
    pub messages: usize,
}

/// Erases records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Eraser {
    ledger: Ledger,
    connection: Connection,
    /// How long after it was asked for an erasure stays open.
    open_for: Duration,
}

impl Eraser {
    /// An eraser that reads the queues over `connection`.
    pub fn new(ledger: Ledger, connection: Connection, settings: &Settings) -> Self {
        let longest_lease = settings.inference.lease_seconds.max(settings.writer.lease_seconds);
        Self { ledger, connection, open_for: Duration::from_secs(longest_lease) + MARGIN }
    }

    /// Carries out every erasure that is open.
    ///
    /// # Errors
    /// The ledger or RabbitMQ is away. What was erased stays erased.
    pub async fn pass(&self) -> Result<(), EraseError> {
        let (mut due, mut records) = (Vec::new(), Vec::new());
        for open in self.ledger.open_erasures(MIN_AGE, MAX_AT_ONCE).await? {
            let (_, found) = self.ledger.erase(&open.record).await?;
            let is_final = open.age >= self.open_for;
            // Nothing comes into the queues in between: no event of it is claimed any more.
            if is_final || !open.is_erased {
                records.extend(found);
                due.push((open.record, is_final, open.is_erased));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        self.remove_messages(&records).await?;
        for (record, is_final, was_erased) in due {
            self.ledger.conclude_erasure(&record, is_final).await?;
            if !was_erased {
                metrics::counter!("leadline_erasures_total").increment(1);
                tracing::info!("erased a record");
            }
        }
        Ok(())
    }

    /// Carries out the erasure of one record that was asked for. The fleet goes on with it until it is finished.
    ///
    /// # Errors
    /// The ledger or RabbitMQ is away. What was erased stays erased.
    pub async fn erase(&self, record: &RecordRef) -> Result<ErasedCounts, EraseError> {
        let (ledger, records) = self.ledger.erase(record).await?;
        let messages = self.remove_messages(&records).await?;
        self.ledger.conclude_erasure(record, false).await?;
        Ok(ErasedCounts { ledger, messages })
    }

    /// Removes the messages about these records from all parking lots and retry queues, with those of erased write commands,
    /// and returns how many there were. A message that stays is never taken from its queue, only looked at: when this is
    /// interrupted, RabbitMQ has it still.
    async fn remove_messages(&self, records: &[RecordRef]) -> Result<usize, EraseError> {
        let mut removed = 0;
        for (route, depth) in self.connection.queue_depths().await? {
            if depth == 0 || matches!(route, Route::Queue(_)) {
                continue;
            }
            let queue = ParkingLot::open_queue(&self.connection, route).await?;
            removed += match route.stage() {
                Stage::Events | Stage::Backfill => remove_events(&queue, depth, records).await?,
                Stage::Writes => self.remove_commands(&queue, depth).await?,
            };
            queue.close().await;
        }
        Ok(removed)
    }

    /// The message of a write command says only its id.
    async fn remove_commands(&self, queue: &ParkingLot, depth: u32) -> Result<usize, EraseError> {
        let (mut removed, mut left) = (0, depth);
        while left > 0 {
            let mut messages: Vec<(WriteCommandId, ParkedMessage)> = Vec::new();
            while left > 0 && messages.len() < COMMANDS_AT_ONCE {
                left -= 1;
                let Some(parked) = queue.next().await? else {
                    left = 0;
                    break;
                };
                messages.extend(command_of(&parked.message).map(|id| (id, parked)));
            }
            let ids: Vec<_> = messages.iter().map(|(id, _)| *id).collect();
            let erased: HashSet<_> = self.ledger.erased_commands(&ids).await?.into_iter().collect();
            for (_, parked) in messages.iter().filter(|(id, _)| erased.contains(id)) {
                queue.remove(parked).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

async fn remove_events(queue: &ParkingLot, depth: u32, records: &[RecordRef]) -> Result<usize, EraseError> {
    let mut removed = 0;
    for _ in 0..depth {
        let Some(parked) = queue.next().await? else { break };
        if is_about(&parked.message, records) {
            queue.remove(&parked).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a message of an event, or of an element that is none, is about one of the records.
fn is_about(message: &Message, records: &[RecordRef]) -> bool {
    let named = match serde_json::from_slice::<Event>(&message.body) {
        Ok(event) => event.named_records(),
        Err(_) => named_in_text(&String::from_utf8_lossy(&message.body)),
    };
    named.iter().any(|named| records.iter().any(|record| named.may_be(record)))
}

fn command_of(message: &Message) -> Option<WriteCommandId> {
    Some(serde_json::from_slice::<CommandMessage>(&message.body).ok()?.id)
}
