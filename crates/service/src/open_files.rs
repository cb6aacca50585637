//! Room for connections: each is an open file of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use settings::{ConfigScope, Settings};

/// Files beside the listeners' connections: those to RabbitMQ, Postgres, HubSpot and OpenAI, and what the runtime has open.
const OTHER_FILES: u64 = 512;

/// The settings ask for more connections than the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may have {allowed} files open, and the settings ask for {needed}; raise its limit (`ulimit -Hn`), or lower \
     receiver.max_connections"
)]
pub struct TooFewFiles {
    allowed: u64,
    needed: u64,
}

/// How many files the program may have open at once with these settings.
pub(crate) fn needed(settings: &Settings, scope: ConfigScope) -> u64 {
    let public = if matches!(scope, ConfigScope::Receiver) { settings.receiver.max_connections } else { 0 };
    (public + settings.admin.max_connections) as u64 + OTHER_FILES
}

/// Raises the process's limit to `needed` files where it is lower. Otherwise a public listener that is full would leave
/// nothing to the internal one and to RabbitMQ.
pub fn make_room(needed: u64) -> Result<(), TooFewFiles> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    // The kernel refuses what is above the hard limit.
    setrlimit(Resource::Nofile, raised)
        .map_err(|_| TooFewFiles { allowed: limit.maximum.or(limit.current).unwrap_or_default(), needed })
}
