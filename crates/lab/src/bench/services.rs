//! What an event costs RabbitMQ and Postgres: CPU time, statements, transactions and bytes of the write-ahead log.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::PgPool;
use testbed::Services;

use super::usage;

/// How many statements are printed.
const STATEMENTS: i64 = 14;

/// Private services of which Postgres counts statements.
pub async fn counting() -> Result<Services> {
    let mut services = Services::private("", "").await?;
    let postgres = PgPool::connect(&services.postgres_url).await?;
    sqlx::query("alter system set shared_preload_libraries = 'pg_stat_statements'").execute(&postgres).await?;
    postgres.close().await;
    // It reads this setting when it starts.
    services.crash_postgres(Duration::ZERO).await?;
    Ok(services)
}

/// What the services have done so far.
#[derive(Debug, Clone, Copy)]
pub struct ServiceUsage {
    rabbitmq: Duration,
    postgres: Duration,
    statements: i64,
    transactions: i64,
    wal_bytes: i64,
}

impl ServiceUsage {
    /// Begins to count the statements in the ledger of `pool`.
    pub async fn begin(services: &Services, pool: &PgPool) -> Result<Self> {
        sqlx::query("create extension if not exists pg_stat_statements").execute(pool).await?;
        sqlx::query("select pg_stat_statements_reset()").execute(pool).await?;
        Self::now(services, pool).await
    }

    pub async fn now(services: &Services, pool: &PgPool) -> Result<Self> {
        let (rabbitmq, postgres) = services.processes().context("the services are private")?;
        let (statements, transactions, wal_bytes) = sqlx::query_as(
            "select (select coalesce(sum(calls), 0)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid
                     where d.datname = current_database()),
                    (select (xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()),
                    (select wal_bytes::bigint from pg_stat_wal)",
        )
        .fetch_one(pool)
        .await?;
        let [rabbitmq, postgres] = [rabbitmq, postgres].map(usage::cpu_with_children);
        Ok(Self { rabbitmq, postgres, statements, transactions, wal_bytes })
    }

    /// What was done since then for so many events, in words.
    pub fn since(self, before: Self, events: f64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "counts for a report")]
        let per_event = |now: i64, before: i64| (now - before) as f64 / events;
        let cpu = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() * 1_000.0 / events;
        format!(
            "per event: {:.2} ms of RabbitMQ's CPU, {:.2} ms of Postgres'; {:.2} statements in {:.2} transactions, {:.1} KiB of WAL",
            cpu(self.rabbitmq, before.rabbitmq),
            cpu(self.postgres, before.postgres),
            per_event(self.statements, before.statements),
            per_event(self.transactions, before.transactions),
            per_event(self.wal_bytes, before.wal_bytes) / 1_024.0
        )
    }
}

/// Prints the statements that took the most time.
pub async fn print_statements(pool: &PgPool, events: f64) -> Result<()> {
    let rows: Vec<(i64, f64, i64, String)> = sqlx::query_as(
        r"select calls, total_exec_time, wal_bytes::bigint, left(regexp_replace(query, '\s+', ' ', 'g'), 90)
           from pg_stat_statements s join pg_database d on d.oid = s.dbid
           where d.datname = current_database() order by total_exec_time desc limit $1",
    )
    .bind(STATEMENTS)
    .fetch_all(pool)
    .await?;
    println!("\n  {:>10} {:>10} {:>10}  statement", "per 1,000", "µs/event", "WAL/event");
    for (calls, milliseconds, wal, query) in rows {
        #[expect(clippy::cast_precision_loss, reason = "counts for a report")]
        let (calls, wal) = (calls as f64 / events * 1_000.0, wal as f64 / events);
        println!("  {calls:>10.1} {:>10.1} {wal:>10.0}  {query}", milliseconds * 1_000.0 / events);
    }
    Ok(())
}
