//! What surrounds the calls of an API client.

use std::{fmt, sync::Arc};

use crate::{Failure, SharedRateLimiter};

/// Sees how every attempt of every call ends.
pub trait CallObserver: Send + Sync + fmt::Debug {
    /// An attempt ended: `None` is success.
    fn record(&self, failure: Option<&dyn Failure>);
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
