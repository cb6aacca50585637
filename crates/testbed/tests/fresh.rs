//! What a test gets: a fresh, migrated database and an empty virtual host.

use std::collections::BTreeSet;

use anyhow::Result;
use sqlx::{Connection, PgConnection};
use testbed::{TestDatabase, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn databases_made_at_the_same_time_differ_and_have_every_migration() -> Result<()> {
    let (first, second, third) = tokio::try_join!(testbed::database(), testbed::database(), testbed::database())?;
    let names: BTreeSet<_> = [&first, &second, &third].map(|database| database.name.clone()).into();
    assert_eq!(names.len(), 3);
    for database in [first, second, third] {
        assert_eq!(applied_migrations(&database).await?, migration_files()?);
    }
    Ok(())
}

#[tokio::test]
async fn a_row_in_one_database_is_in_no_other() -> Result<()> {
    let (first, second) = (testbed::database().await?, testbed::database().await?);
    let mut connection = PgConnection::connect(&first.url).await?;
    sqlx::raw_sql("create table only_here ()").execute(&mut connection).await?;
    let mut connection = PgConnection::connect(&second.url).await?;
    let found: bool =
        sqlx::query_scalar("select to_regclass('only_here') is not null").fetch_one(&mut connection).await?;
    assert!(!found);
    Ok(())
}

#[tokio::test]
async fn a_namespace_has_an_empty_virtual_host_and_a_migrated_database() -> Result<()> {
    let namespace = testbed::namespace().await?;
    assert!(namespace.queues().await?.is_empty());
    let database = TestDatabase { name: namespace.name.clone(), url: namespace.postgres_url.clone() };
    assert_eq!(applied_migrations(&database).await?, migration_files()?);
    namespace.remove().await
}

async fn applied_migrations(database: &TestDatabase) -> Result<i64> {
    let mut connection = PgConnection::connect(&database.url).await?;
    let query = sqlx::query_scalar("select count(*) from _sqlx_migrations where success");
    Ok(query.fetch_one(&mut connection).await?)
}

fn migration_files() -> Result<i64> {
    let files = std::fs::read_dir(workspace::root()?.join("migrations"))?.flatten();
    let is_sql = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".sql");
    Ok(i64::try_from(files.map(|file| file.file_name()).filter(is_sql).count())?)
}
