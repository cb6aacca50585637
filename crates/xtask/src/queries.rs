//! `cargo xtask queries`: keeps `.sqlx` current, so that a clone builds without a database.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use testbed::{Services, TestDatabase, step, workspace};

use crate::cargo::cargo;

/// A target folder of its own: units compiled against a database must not mix with those compiled against `.sqlx`.
const TARGET: &str = "target/sqlx-check";

/// Writes `.sqlx` anew.
pub async fn prepare() -> Result<()> {
    let fresh = describe().await?;
    let kept = workspace::root()?.join(".sqlx");
    let _ = fs::remove_dir_all(&kept);
    copy(&fresh, &kept)?;
    fs::remove_dir_all(&fresh)?;
    println!("{} statements described in .sqlx", descriptions(&kept)?.len());
    Ok(())
}

/// Fails when `.sqlx` does not match the statements and the migrations.
pub async fn check() -> Result<()> {
    let fresh = describe().await?;
    let (current, kept) = (descriptions(&fresh)?, descriptions(&workspace::root()?.join(".sqlx"))?);
    fs::remove_dir_all(&fresh)?;
    if current != kept {
        bail!(".sqlx is not current; run `cargo xtask queries prepare` and commit what it writes");
    }
    println!(".sqlx is current: {} statements", kept.len());
    Ok(())
}

/// Compiles the ledger against a migrated database. sqlx writes a description of every statement into the folder that
/// this returns.
async fn describe() -> Result<PathBuf> {
    let services = Services::up().await?;
    let database = TestDatabase::migrated(&services).await?;
    let folder = workspace::root()?.join(format!("target/sqlx-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    step("describing the ledger's statements", async {
        // A unit that is up to date would not be compiled, and its statements would not be described.
        let _ = cargo()?.args(["clean", "--quiet", "--package", "ledger", "--target-dir", TARGET]).status().await?;
        let status = cargo()?
            .args(["check", "--quiet", "--package", "ledger", "--target-dir", TARGET])
            .env("DATABASE_URL", &database.url)
            .env("SQLX_OFFLINE_DIR", &folder)
            .status()
            .await?;
        if status.success() { Ok(()) } else { bail!("the ledger does not compile against its migrations") }
    })
    .await?;
    database.remove(&services).await?;
    Ok(folder)
}

/// Each description file's name, which is a hash of the statement, and its text.
fn descriptions(folder: &Path) -> Result<BTreeSet<(String, String)>> {
    let read =
        |entry: fs::DirEntry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?));
    fs::read_dir(folder).with_context(|| folder.display().to_string())?.map(|entry| read(entry?)).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
