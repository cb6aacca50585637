//! What surrounds the calls of an API client.

use std::{fmt, sync::Arc};

use crate::{Failure, SharedRateLimiter};

/// Sees how every attempt of every call ends.
pub trait CallObserver: Send + Sync + fmt::Debug {
    /// Which credential is in use. Asked before an attempt reads its credential, which may then be a newer one, but never an older.
    fn credential(&self) -> CredentialVersion;

    /// An attempt ended that was made with this credential: `None` is success.
    fn record(&self, with: CredentialVersion, failure: Option<&dyn Failure>);
}

/// Which of the credentials that follow each other while a process runs: how often they were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CredentialVersion(u64);

impl CredentialVersion {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// An observer that clients share.
pub type SharedObserver = Arc<dyn CallObserver>;

/// What a client calls before and after each attempt. By default nothing.
#[derive(Debug, Clone, Default)]
pub struct CallHooks {
    /// Sees how every attempt ends.
    pub observer: Option<SharedObserver>,
    /// Every attempt needs a permit of it.
    pub rate_limiter: Option<SharedRateLimiter>,
}
