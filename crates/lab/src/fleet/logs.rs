//! The folder with the logs of a fleet's processes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use testbed::workspace;

/// `target/fleet/NAME`. Removed on drop, but kept when a test panics or after [`Logs::keep`].
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    is_kept: bool,
}

impl Logs {
    pub(super) fn create(name: &str) -> Result<Self> {
        let folder = workspace::root()?.join("target/fleet").join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, is_kept: false })
    }

    /// A log file for one more process; `name` comes after a running number.
    pub(super) fn next_file(&self, name: &str) -> PathBuf {
        let count = std::fs::read_dir(&self.folder).map_or(0, Iterator::count);
        self.folder.join(format!("{count:02}-{name}.log"))
    }

    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if !(self.is_kept || std::thread::panicking()) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
