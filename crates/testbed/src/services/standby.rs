//! A streaming standby of a private Postgres, and one address in front of both.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sqlx::Connection;

use super::{
    postgres::{Durability, Postgres},
    program::UP_WITHIN,
};
use crate::{
    database::{connect, execute},
    proxy::{Proxy, Traffic},
};

/// The standby's name, by which the primary waits for it.
const NAME: &str = "standby";

/// When the primary answers that something is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// When the standby has it, too.
    Synchronous,
    /// When it has it itself: what has not reached the standby yet is lost with the primary.
    Asynchronous,
}

/// What becomes of the primary when its standby takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldPrimary {
    /// It is killed before.
    Dies,
    /// It is left alone and only reads from now on; connections to it stay open.
    OnlyReads,
}

/// The standby, and the address that leads to whichever server is the primary.
#[derive(Debug)]
pub(super) struct Failover {
    address: Proxy,
    replication: Replication,
    standby: Option<Standby>,
    /// The primary that was left alone.
    old: Option<Postgres>,
    folder: PathBuf,
    durability: Durability,
    /// How many standbys there were.
    made: usize,
}

#[derive(Debug)]
struct Standby {
    server: Postgres,
    /// Between the standby and its primary.
    stream: Proxy,
}

impl Failover {
    /// Begins with a standby of `primary`, whose data is in a folder beside that of the primary.
    pub(super) async fn start(primary: &Postgres, replication: Replication) -> Result<Self> {
        let folder = primary.folder().parent().unwrap_or_else(|| Path::new("/")).to_owned();
        let mut failover = Self {
            address: Proxy::to(primary.address()).await?,
            replication,
            standby: None,
            old: None,
            folder,
            durability: primary.durability(),
            made: 0,
        };
        failover.make_standby(primary).await?;
        Ok(failover)
    }

    /// The address in front of both, as a URL.
    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address.address)
    }

    /// Makes a standby unless there is one, and waits until it has all that the primary has.
    pub(super) async fn make_standby(&mut self, primary: &Postgres) -> Result<()> {
        if self.standby.is_some() {
            return Ok(());
        }
        self.old = None;
        self.made += 1;
        let stream = Proxy::to(primary.address()).await?;
        let folder = self.folder.join(format!("{NAME}-{}", self.made));
        let from = format!("host=127.0.0.1 port={} user=postgres application_name={NAME}", stream.address.port());
        let server = primary.standby(folder, &from, self.durability).await?;
        self.standby = Some(Standby { server, stream });
        let mut connection = connect(&primary.url()).await?;
        if self.replication == Replication::Synchronous {
            execute(&mut connection, &format!("alter system set synchronous_standby_names = '{NAME}'")).await?;
            execute(&mut connection, "select pg_reload_conf()").await?;
        }
        let is_synchronous = self.replication == Replication::Synchronous;
        let follows = "select exists (select from pg_stat_replication
                                      where state = 'streaming' and (sync_state = 'sync') = $1)";
        let started = Instant::now();
        while !sqlx::query_scalar(follows).bind(is_synchronous).fetch_one(&mut connection).await? {
            if started.elapsed() > UP_WITHIN {
                bail!("the standby does not follow the primary within {UP_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(connection.close().await?)
    }

    /// Passes nothing on to the standby any more.
    pub(super) fn cut_stream(&self) {
        if let Some(standby) = &self.standby {
            standby.stream.set(Traffic::Cut);
        }
    }

    /// Promotes the standby, which takes the primary's place, and leads new connections to it.
    pub(super) async fn promote(&mut self, primary: &mut Postgres, old: OldPrimary) -> Result<()> {
        let mut standby = self.standby.take().context("there is no standby")?;
        match old {
            OldPrimary::Dies => primary.kill(),
            OldPrimary::OnlyReads => {
                let mut connection = connect(&primary.url()).await?;
                execute(&mut connection, "alter system set default_transaction_read_only = on").await?;
                execute(&mut connection, "select pg_reload_conf()").await?;
            }
        }
        let mut connection = connect(&standby.server.url()).await?;
        execute(&mut connection, "select pg_promote()").await?;
        self.address.lead_to(standby.server.address());
        std::mem::swap(primary, &mut standby.server);
        // A killed one ends here; nothing connects to it any more.
        self.old = (old == OldPrimary::OnlyReads).then_some(standby.server);
        Ok(())
    }
}
