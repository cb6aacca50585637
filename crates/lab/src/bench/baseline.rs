//! The baselines: what RabbitMQ and Postgres do on this machine when nobody does anything else with them.

use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use sqlx::{AssertSqlSafe, PgPool};
use testbed::TestNamespace;
use tokio::task::JoinSet;

use super::usage;

/// What is under way at once.
const PREFETCH: u16 = 1_000;

/// Events in one transaction: what the fleet gathers at most, too.
const ROWS_BATCH: usize = 200;

/// The tables that an event leaves rows in, and how to find those of the events `$1`.
const TABLES: [(&str, &str); 6] = [
    ("event", "event t where t.id = any($1)"),
    ("event_history", "event_history t where t.event_id = any($1)"),
    ("inference", "inference t where t.event_id = any($1)"),
    (
        "inference_raw",
        "inference i join inference_raw t on t.inference_id = i.id and t.created_at = i.created_at \
         where i.event_id = any($1)",
    ),
    ("write_command", "write_command t where t.event_id = any($1)"),
    ("write", "write_command c join write t on t.write_command_id = c.id where c.event_id = any($1)"),
];

/// What a program does that only passes messages on.
#[derive(Debug, Clone, Copy)]
pub struct Hops {
    /// Messages through both queues per second.
    pub per_second: f64,
    /// The same per second of the program's own CPU time: how fast the machine's cores are at such work.
    pub per_cpu_second: f64,
}

/// Messages through two durable quorum queues: published with confirms, consumed, published on with confirms,
/// acknowledged, consumed, acknowledged, by this program, which does nothing else meanwhile.
pub async fn two_hops(namespace: &TestNamespace, body: &[u8], count: usize) -> Result<Hops> {
    let connect = || Connection::connect(&namespace.amqp_url, ConnectionProperties::default());
    let (publishing, consuming) = (connect().await?, connect().await?);
    let first = confirming(&publishing).await?;
    let second = confirming(&publishing).await?;
    for queue in ["baseline.first", "baseline.second"] {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        first.queue_declare(queue.into(), options, arguments).await?;
    }
    let spent = || usage::cpu(&[std::process::id()]);
    let (started, spent_before) = (Instant::now(), spent());
    let feed = {
        let (channel, body) = (first.clone(), body.to_vec());
        tokio::spawn(async move {
            let mut publishing = JoinSet::new();
            for _ in 0..count {
                while publishing.len() >= PREFETCH.into() {
                    publishing.join_next().await.context("there are some")???;
                }
                let (channel, body) = (channel.clone(), body.clone());
                publishing.spawn(async move { publish(&channel, "baseline.first", &body).await });
            }
            while let Some(published) = publishing.join_next().await {
                published??;
            }
            anyhow::Ok(())
        })
    };
    let hop = {
        let mut deliveries = consume(&consuming, "baseline.first").await?;
        tokio::spawn(async move {
            let mut passing = JoinSet::new();
            for _ in 0..count {
                let delivery = deliveries.next().await.context("the consumer ended")??;
                let channel = second.clone();
                passing.spawn(async move {
                    publish(&channel, "baseline.second", &delivery.data).await?;
                    anyhow::Ok(delivery.ack(BasicAckOptions::default()).await?)
                });
                while let Some(passed) = passing.try_join_next() {
                    passed??;
                }
            }
            while let Some(passed) = passing.join_next().await {
                passed??;
            }
            anyhow::Ok(())
        })
    };
    let mut deliveries = consume(&consuming, "baseline.second").await?;
    for _ in 0..count {
        deliveries.next().await.context("the consumer ended")??.ack(BasicAckOptions::default()).await?;
    }
    let (passed, spent) = (started.elapsed(), spent().saturating_sub(spent_before));
    feed.await??;
    hop.await??;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = count as f64;
    Ok(Hops { per_second: count / passed.as_secs_f64(), per_cpu_second: count / spent.as_secs_f64() })
}

async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn consume(connection: &Connection, queue: &str) -> Result<lapin::Consumer> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    Ok(())
}

/// Events per second whose rows (all that the fleet has left of them) are written again into tables of the same form, over
/// one connection, in batches.
pub async fn rows(pool: &PgPool, events: i64) -> Result<f64> {
    let mut batches = Vec::new();
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from event where state = 'written' limit $1")
        .bind(events)
        .fetch_all(pool)
        .await?;
    for (table, from) in TABLES {
        let copy =
            format!("drop table if exists floor_{table}; create table floor_{table} (like {table} including all)");
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(pool).await?;
        let read = format!("select jsonb_agg(to_jsonb(t))::text from {from}");
        for (batch, ids) in ids.chunks(ROWS_BATCH).enumerate() {
            let text: Option<String> =
                sqlx::query_scalar(AssertSqlSafe(read.clone())).bind(ids).fetch_one(pool).await?;
            let write = format!(
                "insert into floor_{table} select * from jsonb_populate_recordset(null::floor_{table}, $1::jsonb)"
            );
            batches.push((batch, write, text.context("no event was written")?));
        }
    }
    batches.sort_by_key(|(batch, ..)| *batch);
    let started = Instant::now();
    for batch in batches.chunks(TABLES.len()) {
        let mut transaction = pool.begin().await?;
        for (_, write, rows) in batch {
            sqlx::query(AssertSqlSafe(write.clone())).bind(rows).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let written = ids.len() as f64;
    let rate = written / started.elapsed().as_secs_f64();
    for (table, _) in TABLES {
        sqlx::raw_sql(AssertSqlSafe(format!("drop table floor_{table}"))).execute(pool).await?;
    }
    Ok(rate)
}
