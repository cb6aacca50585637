//! Dumps, loses and restores the database of a namespace, as `docs/backup.md` tells an operator to.

use std::{ffi::OsStr, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    Role, TestNamespace,
    database::{EMPTY, connect, deploy_file, drop_database, execute},
    services::postgres_program,
};

impl TestNamespace {
    /// Dumps the ledger into a file, with the rights of its owner.
    pub async fn dump_ledger(&self, file: &Path) -> Result<()> {
        let url = self.postgres_url_of(Role::Owner)?;
        run("pg_dump", &["--format=custom".as_ref(), "--file".as_ref(), file.as_ref(), url.as_ref()]).await
    }

    /// Drops the ledger, even while clients are connected.
    pub async fn lose_ledger(&self) -> Result<()> {
        drop_database(self.admin_url(), &self.name).await
    }

    /// Makes the database again and restores the ledger from a file, with the rights of its owner.
    pub async fn restore_ledger(&self, file: &Path) -> Result<()> {
        let mut server = connect(self.admin_url()).await?;
        execute(&mut server, &format!("create database {} owner {}{EMPTY}", self.name, Role::Owner.user())).await?;
        let mut database = connect(&self.postgres_url).await?;
        execute(&mut database, &deploy_file("roles.sql")?).await?;
        let url = self.postgres_url_of(Role::Owner)?;
        run("pg_restore", &["--exit-on-error".as_ref(), "--dbname".as_ref(), url.as_ref(), file.as_ref()]).await
    }
}

/// Runs one of Postgres' programs.
async fn run(program: &str, arguments: &[&OsStr]) -> Result<()> {
    let path = postgres_program(program).with_context(|| format!("{program} is not installed"))?;
    let output = tokio::process::Command::new(path).args(arguments).output().await?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
