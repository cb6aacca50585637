//! Whether the tasks that acquire quota work.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many of the tasks that acquire quota have panicked and not worked since. Cheap to clone; clones share the number.
#[derive(Debug, Clone, Default)]
pub struct TaskHealth {
    broken: Arc<AtomicUsize>,
}

impl TaskHealth {
    /// How many tasks are broken. A service in which one is makes no calls under its limit, and is not ready.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn of_one_task(&self) -> OneTaskHealth {
        OneTaskHealth { all: self.clone(), is_broken: false }
    }
}

/// The health of one task.
#[derive(Debug)]
pub(crate) struct OneTaskHealth {
    all: TaskHealth,
    is_broken: bool,
}

impl OneTaskHealth {
    pub(crate) fn panicked(&mut self) {
        if !std::mem::replace(&mut self.is_broken, true) {
            self.all.broken.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn worked(&mut self) {
        if std::mem::take(&mut self.is_broken) {
            self.all.broken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
