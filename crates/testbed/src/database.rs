//! Fresh databases with the current schema and the rights of every role, copied from a template that is migrated once.

use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, migrate::Migrator};

use crate::{Role, Services, workspace};

/// The advisory lock under which the roles and the template are made: one process makes them, the others wait. Any constant will do that no
/// other program takes on this server.
const TEMPLATE_LOCK: i64 = 0x1ead_11ee;

/// What a new, empty database is made from. Its encoding is that of the ledger, whatever the server's locale.
pub(crate) const EMPTY: &str = " encoding 'UTF8' template template0";

/// A fresh database. It stays until the services end: a test that waited for `drop database` would take longer.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    /// How to connect to it.
    pub url: String,
}

/// A fresh, migrated database on the Postgres that the environment names.
///
/// # Errors
///
/// When the environment names no services: run the tests with `cargo xtask test`.
pub async fn database() -> Result<TestDatabase> {
    TestDatabase::migrated(&Services::from_environment()?).await
}

impl TestDatabase {
    /// A copy of the template with every migration applied. The first call on a server makes the template.
    pub async fn migrated(services: &Services) -> Result<Self> {
        let mut connection = connect(&services.postgres_url).await?;
        let template = template(services, &mut connection).await?;
        Self::create(services, connection, &format!(" template {template}")).await
    }

    /// An empty database of the owner's.
    pub async fn empty(services: &Services) -> Result<Self> {
        let mut connection = connect(&services.postgres_url).await?;
        make_roles(services, &mut connection).await?;
        Self::create(services, connection, EMPTY).await
    }

    /// Removes it, even while clients are connected.
    pub async fn remove(&self, services: &Services) -> Result<()> {
        drop_database(&services.postgres_url, &self.name).await
    }

    async fn create(services: &Services, mut connection: PgConnection, template: &str) -> Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("leadline_{}", &id[20..]);
        let owner = Role::Owner.user();
        execute(&mut connection, &format!("create database {name} owner {owner}{template}")).await?;
        connection.close().await?;
        Ok(Self { url: url_of(services, &name)?, name })
    }
}

/// Drops a database, even while clients are connected; `url` leads to another database of the server.
pub(crate) async fn drop_database(url: &str, name: &str) -> Result<()> {
    let mut connection = connect(url).await?;
    execute(&mut connection, &format!("drop database {name} with (force)")).await?;
    Ok(connection.close().await?)
}

/// The URL of another database on the same server.
fn url_of(services: &Services, name: &str) -> Result<String> {
    let (server, _) = services.postgres_url.rsplit_once('/').context("the Postgres URL names no database")?;
    Ok(format!("{server}/{name}"))
}

pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    PgConnection::connect(url).await.context("cannot connect to Postgres")
}

/// Runs one statement outside a transaction.
pub(crate) async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    connection.execute(query).await.with_context(|| format!("Postgres refused `{statement}`"))?;
    Ok(())
}

/// Makes the roles, with their names as passwords, unless they are there.
async fn make_roles(services: &Services, connection: &mut PgConnection) -> Result<()> {
    if !has_roles(connection).await? {
        sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
        // Another process may have made them while this one waited for the lock.
        if !has_roles(connection).await? {
            // In a database that goes again: the file gives the database that it runs in to the owner.
            execute(connection, "drop database if exists leadline_roles with (force)").await?;
            execute(connection, "create database leadline_roles").await?;
            let mut inside = connect(&url_of(services, "leadline_roles")?).await?;
            let mut statements = deploy_file("roles.sql")?;
            for role in Role::ALL.into_iter().filter(|role| *role != Role::Receiver).map(Role::user) {
                statements.push_str(&format!("; alter role {role} password '{role}'"));
            }
            execute(&mut inside, &statements).await?;
            inside.close().await?;
            execute(connection, "drop database leadline_roles with (force)").await?;
        }
        sqlx::query("select pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn has_roles(connection: &mut PgConnection) -> Result<bool> {
    // The last one that the file makes.
    let query = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)");
    Ok(query.bind(Role::Auditor.user()).fetch_one(connection).await?)
}

/// The name of the template, which is made unless it is there. The name holds a hash of the migrations and the grants, so
/// that a server which outlives a change of them gets a new template.
async fn template(services: &Services, connection: &mut PgConnection) -> Result<String> {
    make_roles(services, connection).await?;
    let migrations = workspace::root()?.join("migrations");
    let grants = deploy_file("grants.sql")?;
    let name = format!("leadline_template_{}", hash(&migrations, &grants)?);
    if exists(connection, &name).await? {
        return Ok(name);
    }
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
    // Another process may have made it while this one waited for the lock.
    if !exists(connection, &name).await? {
        // Renamed when it is complete: a process that is killed in between leaves no half-migrated template.
        let unfinished = format!("{name}_unfinished");
        execute(connection, &format!("drop database if exists {unfinished} with (force)")).await?;
        execute(connection, &format!("create database {unfinished} owner {}{EMPTY}", Role::Owner.user())).await?;
        migrate(&migrations, &grants, &Role::Owner.url(&url_of(services, &unfinished)?)?).await?;
        execute(connection, &format!("alter database {unfinished} rename to {name}")).await?;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *connection).await?;
    Ok(name)
}

/// The text of a file in `deploy/postgres`.
pub(crate) fn deploy_file(name: &str) -> Result<String> {
    let path = workspace::root()?.join("deploy/postgres").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool> {
    let query = sqlx::query_scalar("select exists (select from pg_database where datname = $1)");
    Ok(query.bind(name).fetch_one(connection).await?)
}

/// Does what `leadline migrate` does, which needs the ledger: this crate has to build before it.
async fn migrate(migrations: &Path, grants: &str, url: &str) -> Result<()> {
    let migrator = Migrator::new(migrations.to_owned()).await?;
    let mut connection = connect(url).await?;
    migrator.run(&mut connection).await.context("the migrations do not apply to an empty database")?;
    execute(&mut connection, grants).await?;
    connection.close().await?;
    Ok(())
}

/// A hash of the names and texts of the files in `folder`, and of `text`.
fn hash(folder: &Path, text: &str) -> Result<String> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    hasher.update(text);
    Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
