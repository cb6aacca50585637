//! `cargo xtask queries`: keeps `.sqlx` current, so that a clone builds without a database.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sqlx::{Connection, PgConnection, migrate::Migrator};
use xtask::{Services, TestNamespace, step, workspace};

use crate::tests::cargo;

/// A target folder of its own: what is compiled against a database must not mix with what is not.
const TARGET: &str = "target/sqlx-check";

/// Writes `.sqlx` anew.
pub async fn prepare() -> Result<()> {
    let fresh = describe().await?;
    let kept = workspace::root().join(".sqlx");
    let _ = fs::remove_dir_all(&kept);
    copy(&fresh, &kept)?;
    fs::remove_dir_all(&fresh)?;
    println!("{} statements described in .sqlx", names(&kept)?.len());
    Ok(())
}

/// Fails when `.sqlx` is not what the statements and migrations say.
pub async fn check() -> Result<()> {
    let fresh = describe().await?;
    let (current, kept) = (names(&fresh)?, names(&workspace::root().join(".sqlx"))?);
    fs::remove_dir_all(&fresh)?;
    if current != kept {
        bail!(".sqlx is not current; run `cargo xtask queries prepare` and commit what it writes");
    }
    println!(".sqlx is current: {} statements", kept.len());
    Ok(())
}

/// Compiles the ledger against a migrated database and lets sqlx write what it sees.
async fn describe() -> Result<PathBuf> {
    let services = Services::up().await?;
    let namespace = TestNamespace::new(&services).await?;
    // From the folder as it is, not as it was when this program was built: while a statement has no description, nothing
    // that knows the ledger compiles, and the program from before has to do.
    let migrations = Migrator::new(workspace::root().join("migrations")).await?;
    migrations.run(&mut PgConnection::connect(&namespace.postgres_url).await?).await?;
    let folder = workspace::root().join(format!("target/sqlx-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    step("describing the ledger's statements", async {
        // A unit that is up to date would not look at its statements again.
        let _ = cargo().args(["clean", "--quiet", "--package", "ledger", "--target-dir", TARGET]).status().await?;
        let status = cargo()
            .args(["check", "--quiet", "--package", "ledger", "--target-dir", TARGET])
            .env("DATABASE_URL", &namespace.postgres_url)
            .env("SQLX_OFFLINE_DIR", &folder)
            .status()
            .await?;
        if status.success() { Ok(()) } else { bail!("the ledger does not compile against its migrations") }
    })
    .await?;
    namespace.remove().await?;
    Ok(folder)
}

/// The names of the description files: hashes of the statements, with what they hold.
fn names(folder: &Path) -> Result<BTreeSet<(String, String)>> {
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
