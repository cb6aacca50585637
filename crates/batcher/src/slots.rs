//! How many batches are in progress at once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Slots for batches. When batches take too long there are half as many, because on a machine or at an API that is overloaded all
/// of them together end too late; one more for each that ends in time (additive increase, multiplicative decrease).
#[derive(Debug)]
pub(crate) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
    most: usize,
    long: Option<Duration>,
}

#[derive(Debug)]
struct State {
    in_use: usize,
    allowed: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state();
        (state.in_use < state.allowed).then(|| {
            state.in_use += 1;
            Slot { shared: self.clone(), began: Instant::now() }
        })
    }
}

/// A slot in use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    began: Instant,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.in_use -= 1;
        if self.shared.long.is_some_and(|long| self.began.elapsed() > long) {
            state.allowed = (state.allowed / 2).max(1);
        } else {
            state.allowed = (state.allowed + 1).min(self.shared.most);
        }
        drop(state);
        self.shared.freed.notify_one();
    }
}

impl Slots {
    /// `most` slots, and fewer while batches take longer than `long`.
    pub(crate) fn new(most: usize, long: Option<Duration>) -> Self {
        let state = Mutex::new(State { in_use: 0, allowed: most });
        Self(Arc::new(Shared { state, freed: Notify::new(), most, long }))
    }

    /// Waits until no slot is in use. One caller waits at a time, for this or for a slot.
    pub(crate) async fn idle(&self) {
        while self.0.state().in_use > 0 {
            self.0.freed.notified().await;
        }
    }

    /// Waits for a slot. One caller waits at a time.
    pub(crate) async fn acquire(&self) -> Slot {
        loop {
            if let Some(slot) = self.0.take() {
                return slot;
            }
            self.0.freed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Slot, Slots};

    /// All slots that are free now.
    fn take_all(slots: &Slots) -> Vec<Slot> {
        std::iter::from_fn(|| slots.0.take()).collect()
    }

    #[test]
    fn batches_that_take_too_long_leave_half_as_many_slots_and_never_none() {
        let slots = Slots::new(8, Some(Duration::ZERO));
        let mut taken = take_all(&slots);
        assert_eq!(taken.len(), 8);
        std::thread::sleep(Duration::from_millis(1));
        taken.pop();
        assert_eq!(take_all(&slots).len(), 0, "four are allowed, and seven in use");
        taken.clear();
        assert_eq!(take_all(&slots).len(), 1);
    }

    #[tokio::test]
    async fn each_batch_that_ends_in_time_brings_a_slot_back() {
        let slots = Slots::new(3, Some(Duration::from_secs(3_600)));
        slots.0.state().allowed = 1;
        for allowed in [2, 3, 3] {
            drop(slots.acquire().await);
            assert_eq!(slots.0.state().allowed, allowed);
        }
    }

    #[test]
    fn without_a_bound_for_a_batch_there_are_always_as_many() {
        let slots = Slots::new(2, None);
        drop(take_all(&slots));
        assert_eq!(take_all(&slots).len(), 2);
    }
}
