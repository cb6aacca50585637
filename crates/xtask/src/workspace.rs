//! Where things are, and free ports.

use std::{
    net::TcpListener,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

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

/// Ports that this program gives out. Below those that Linux gives to outgoing connections (32768 and up): one of these may
/// be taken by anybody between the moment it is found free and the moment it is used.
const PORTS: RangeInclusive<u16> = 15_000..=31_999;

/// A port on loopback that nobody uses, never the same one twice in this process.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end() - PORTS.start()) + 1;
    // Two programs at the same time begin at different places.
    let start = std::process::id().wrapping_mul(977);
    for _ in 0..count {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(offset).map(|offset| PORTS.start() + offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port within {}–{}", PORTS.start(), PORTS.end())
}
