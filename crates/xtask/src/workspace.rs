//! Where things are, and free ports.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder with the services' binaries: that of the running program, or its parent for a test.
pub fn binaries() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where is this program?")?;
    let folder = program.ancestors().skip(1).find(|folder| folder.join("leadline-receiver").exists());
    folder.map(Path::to_owned).context("the services are not built; run `cargo build --workspace`")
}

/// A port on loopback that nobody uses at this moment.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}
