//! What is known about a record that has to go? Erasing a person, and what waits for a record that was deleted.
//!
//! The statements are functions of the ledger's owner (`migrations/`). A receipt remains that names nobody.

use std::time::Duration;

use domain::{ObjectId, RecordRef, WriteCommandId, inference::ErasureCause};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, column::Column, command_results::end_events, milliseconds, records::record, seconds};

/// About how many rows of each kind one transaction empties: few enough that no other transaction waits long for its locks.
const ROWS_AT_ONCE: i64 = 200;

/// How often a transaction is tried again that waited in vain for a worker's lock, and after which pause.
const LOCKED_TRIES: usize = 30;
const LOCKED_PAUSE: Duration = Duration::from_millis(200);

const CAUSE: Column = Column::new("erasure", "cause");

/// How many rows about one record were emptied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose payload, key and record were erased.
    pub events: i64,
    /// Inferences whose prompt, answer and fields were erased.
    pub inferences: i64,
    /// Write commands whose values were erased.
    pub write_commands: i64,
    /// Values, written or skipped, that were erased.
    pub values: i64,
    /// Actions whose texts were erased.
    pub actions: i64,
}

impl Erased {
    /// The rows that [`Ledger::erasure_size`] counts.
    pub fn rows(&self) -> i64 {
        self.events + self.inferences + self.write_commands
    }
}

impl std::ops::AddAssign for Erased {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.inferences += other.inferences;
        self.write_commands += other.write_commands;
        self.values += other.values;
        self.actions += other.actions;
    }
}

/// An erasure that was asked for and is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenErasure {
    /// The record.
    pub record: RecordRef,
    /// The record and its engagements, as far as they are known.
    pub records: Vec<RecordRef>,
    /// How long ago it was asked for, by the database's clock.
    pub age: Duration,
    /// Whether nothing was left of it once before.
    pub is_erased: bool,
}

/// What is left of a record that was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureReceipt {
    /// Who asked for it first.
    pub cause: ErasureCause,
    /// When it was asked for last.
    pub requested_at: OffsetDateTime,
    /// When nothing was left of it.
    pub erased_at: Option<OffsetDateTime>,
    /// How much was erased, in all.
    pub erased: Erased,
}

impl Ledger {
    /// Asks for a record to be erased. From now on no event of it is claimed that has happened so far, nor any after a
    /// privacy deletion. Asked for again, it is done again.
    ///
    /// The same is asked for under all ids by which the record is known, its survivor's and those from before merges, and the ledger
    /// forgets these merges. Returns the record under all of its ids.
    pub async fn request_erasure(&self, of: &RecordRef, cause: ErasureCause) -> Result<Vec<RecordRef>, LedgerError> {
        let (portal, kind, id) = key(of);
        let ids = sqlx::query_scalar!(
            r#"select request_erasure($1, $2, $3, $4) as "ids!""#,
            portal,
            kind,
            id,
            cause.as_str()
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(ids.into_iter().map(|id| RecordRef { object_id: ObjectId(id), ..of.clone() }).collect())
    }

    /// At most `limit` erasures for which something is to be done: those of which nothing was erased yet and that were asked for at least
    /// `min_age` ago, and then those that were asked for at least `open_for` ago and can be finished. The oldest first,
    /// without the first `skip`.
    pub async fn open_erasures(
        &self,
        min_age: Duration,
        open_for: Duration,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<OpenErasure>, LedgerError> {
        let rows = sqlx::query!(
            r#"select portal_id, records as "records!", erased_at is not null as "is_erased!",
                      extract(epoch from clock_timestamp() - requested_at)::float8 as "age_seconds!"
               from erasure
               where finished_at is null and records is not null
                 and requested_at <= clock_timestamp() - case when erased_at is null then $1::float8 else $2 end * interval '1 millisecond'
               order by erased_at is not null, requested_at, record_hash offset $3 limit $4"#,
            milliseconds(min_age),
            milliseconds(open_for),
            skip,
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        let open = rows.into_iter().filter_map(|row| {
            let records = records_of(row.portal_id, &row.records);
            let record = records.first()?.clone();
            Some(OpenErasure { record, records, age: seconds(row.age_seconds), is_erased: row.is_erased })
        });
        Ok(open.collect())
    }

    /// Erases everything that was read, asked, answered and written about a record whose erasure was asked for, and the
    /// record's id. Of other records' answers that read it or one of its engagements, it erases the prompt, the answer and the
    /// values that followed. What has not ended is dropped. The rows stay, so that counts, costs and times stay right.
    ///
    /// Many small transactions: when it is interrupted, the next call goes on. Returns what was emptied, and the record with
    /// its engagements.
    pub async fn erase(&self, of: &RecordRef) -> Result<(Erased, Vec<RecordRef>), LedgerError> {
        self.erase_telling(of, |_| {}).await
    }

    /// As [`Ledger::erase`], and tells after each transaction what was emptied so far.
    pub async fn erase_telling(
        &self,
        of: &RecordRef,
        mut tell: impl FnMut(&Erased) + Send,
    ) -> Result<(Erased, Vec<RecordRef>), LedgerError> {
        let (mut erased, mut looked_at) = (Erased::default(), 0);
        while let Some((more, looked_at_now)) = self.erase_next_unlocked(of, looked_at).await? {
            erased += more;
            looked_at = looked_at_now;
            tell(&erased);
        }
        let (portal, kind, id) = key(of);
        let records = sqlx::query_scalar!(
            "select records from erasure where record_hash = record_hash($1, $2 || '/' || $3::bigint)",
            portal,
            kind,
            id
        )
        .fetch_optional(&self.connections)
        .await?;
        Ok((erased, records_of(portal, &records.flatten().unwrap_or_default())))
    }

    /// About how many rows are to be emptied: those about the record itself.
    pub async fn erasure_size(&self, of: &RecordRef) -> Result<i64, LedgerError> {
        let (portal, kind, id) = key(of);
        let size = sqlx::query_scalar!(r#"select erasure_size($1, $2, $3) as "size!""#, portal, kind, id);
        Ok(size.fetch_one(&self.maintenance).await?)
    }

    /// The next transaction of an erasure, once no other process holds what it needs.
    async fn erase_next_unlocked(&self, of: &RecordRef, looked_at: i32) -> Result<Option<(Erased, i32)>, LedgerError> {
        for _ in 0..LOCKED_TRIES {
            match self.erase_next(of, looked_at).await {
                Err(error) if error.is_locked() => tokio::time::sleep(LOCKED_PAUSE).await,
                result => return result,
            }
        }
        self.erase_next(of, looked_at).await
    }

    async fn erase_next(&self, of: &RecordRef, looked_at: i32) -> Result<Option<(Erased, i32)>, LedgerError> {
        let (portal, kind, id) = key(of);
        let mut transaction = self.maintenance.begin().await?;
        let row = sqlx::query!(
            r#"select changed as "changed!", events as "events!", inferences as "inferences!",
                      write_commands as "write_commands!", written_values as "values!", actions as "actions!",
                      of_dropped as "of_dropped!", looked_at_now as "looked_at_now!"
               from erase_record($1, $2, $3, $4, $5)"#,
            portal,
            kind,
            id,
            ROWS_AT_ONCE,
            looked_at
        )
        .fetch_one(&mut transaction)
        .await?;
        end_events(&mut transaction, &row.of_dropped).await?;
        transaction.commit().await?;
        let erased = Erased {
            events: row.events,
            inferences: row.inferences,
            write_commands: row.write_commands,
            values: row.values,
            actions: row.actions,
        };
        Ok((row.changed > 0).then_some((erased, row.looked_at_now)))
    }

    /// Records that nothing is left of a record. `is_final`: no worker can store anything about it any more, so that the receipt
    /// forgets which record it was.
    pub async fn conclude_erasure(&self, of: &RecordRef, is_final: bool) -> Result<(), LedgerError> {
        let (portal, kind, id) = key(of);
        sqlx::query!("select conclude_erasure($1, $2, $3, $4)", portal, kind, id, is_final)
            .execute(&self.connections)
            .await?;
        Ok(())
    }

    /// The receipt of a record's erasure; `None` when it was never erased.
    pub async fn erasure_receipt(&self, of: &RecordRef) -> Result<Option<ErasureReceipt>, LedgerError> {
        let (portal, kind, id) = key(of);
        let row = sqlx::query!(
            "select cause, requested_at, erased_at, events, inferences, write_commands, written_values, actions
             from erasure where record_hash = record_hash($1, $2 || '/' || $3::bigint)",
            portal,
            kind,
            id
        )
        .fetch_optional(&self.connections)
        .await?;
        let receipt = row.map(|row| {
            Ok(ErasureReceipt {
                cause: CAUSE.read(&row.cause, ErasureCause::parse)?,
                requested_at: row.requested_at,
                erased_at: row.erased_at,
                erased: Erased {
                    events: row.events,
                    inferences: row.inferences,
                    write_commands: row.write_commands,
                    values: row.written_values,
                    actions: row.actions,
                },
            })
        });
        receipt.transpose()
    }

    /// Which of these write commands were dropped because a record was erased. Their messages are of no use any more.
    pub async fn erased_commands(&self, ids: &[WriteCommandId]) -> Result<Vec<WriteCommandId>, LedgerError> {
        let all: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let found = sqlx::query_scalar!(
            "select id from write_command where id = any($1::uuid[]) and state = 'dropped' and reason = 'record_erased'",
            &all
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(found.into_iter().map(WriteCommandId).collect())
    }

    /// Cancels what waits for a record that was deleted at `deleted_at`: its events in retry queues, and write commands that
    /// no writer has. Later events of the record, which was restored then, are left alone. Returns how many there were.
    pub async fn cancel_waiting(&self, of: &RecordRef, deleted_at: OffsetDateTime) -> Result<i64, LedgerError> {
        let (portal, kind, id) = key(of);
        let mut transaction = self.connections.begin().await?;
        let row = sqlx::query!(
            r#"select cancelled as "cancelled!", of_dropped as "of_dropped!" from cancel_waiting($1, $2, $3, $4)"#,
            portal,
            kind,
            id,
            deleted_at
        )
        .fetch_one(&mut transaction)
        .await?;
        end_events(&mut transaction, &row.of_dropped).await?;
        transaction.commit().await?;
        Ok(row.cancelled)
    }
}

fn key(of: &RecordRef) -> (i64, &str, i64) {
    (of.portal_id.0, of.object_type.type_id(), of.object_id.0)
}

/// Records as the column `erasure.records` has them.
fn records_of(portal: i64, texts: &[String]) -> Vec<RecordRef> {
    let parsed = texts.iter().filter_map(|text| {
        let (kind, id) = text.rsplit_once('/')?;
        Some(record(portal, kind, id.parse().ok()?))
    });
    parsed.collect()
}
