//! Free ports on loopback.

use std::{
    net::TcpListener,
    ops::RangeInclusive,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};

/// Below the ports that Linux gives to outgoing connections (32768 and up). One of those could be taken between the moment
/// it is found free and the moment it is used.
const PORTS: RangeInclusive<u16> = 15_000..=31_999;

/// A port on loopback that is not in use, never the same one twice in this process.
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
