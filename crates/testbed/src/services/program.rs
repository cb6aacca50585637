//! Where the installed programs are, and whether they accept connections.

use std::{fs, net::TcpStream, path::PathBuf, time::Duration};

/// RabbitMQ and Postgres start within seconds; after this time a start counts as failed. On a busy machine a node of a cluster takes a
/// minute.
pub(super) const UP_WITHIN: Duration = Duration::from_secs(180);

/// The path `inner` below the last folder of `parent` (the newest version) that has it.
pub(super) fn newest_with(parent: &str, inner: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path().join(inner));
    folders.filter(|path| path.exists()).max()
}

/// Whether a port of this machine accepts connections.
pub(super) fn is_up(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
