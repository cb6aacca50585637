//! Gathering: many callers ask one at a time, the asked one answers in batches.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

/// Collects single questions for a short while and asks them together.
///
/// One transaction per event would cap the fleet at a fraction of what RabbitMQ carries, and one HubSpot call per
/// record at a hundredth of what its batch calls allow.
#[derive(Debug)]
pub struct Batcher<I, O, E> {
    questions: mpsc::Sender<Question<I, O, E>>,
}

impl<I, O, E> Clone for Batcher<I, O, E> {
    fn clone(&self) -> Self {
        Self { questions: self.questions.clone() }
    }
}

#[derive(Debug)]
struct Question<I, O, E> {
    item: I,
    answer: oneshot::Sender<Result<O, BatcherError<E>>>,
}

/// Questions that are asked together; it begins with one, whatever that weighs.
struct Batch<I, O, E> {
    questions: Vec<Question<I, O, E>>,
    weight: usize,
    weigh: fn(&I) -> usize,
    max: usize,
    /// The question that would have made it heavier than `max`: the first of the next batch.
    next: Option<Question<I, O, E>>,
}

impl<I, O, E> Batch<I, O, E> {
    fn of(first: Question<I, O, E>, weigh: fn(&I) -> usize, max: usize) -> Self {
        Self { weight: weigh(&first.item), questions: vec![first], weigh, max, next: None }
    }

    fn is_growing(&self) -> bool {
        self.weight < self.max && self.next.is_none()
    }

    fn add(&mut self, question: Question<I, O, E>) {
        let weight = self.weight + (self.weigh)(&question.item);
        if weight > self.max {
            self.next = Some(question);
        } else {
            self.weight = weight;
            self.questions.push(question);
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum BatcherError<E> {
    /// The batch that it was asked in failed.
    #[error(transparent)]
    Failed(Arc<E>),
    /// Whoever answers is gone: it panicked, or the service is stopping.
    #[error("nobody is there to answer")]
    Closed,
}

/// How long and how much is gathered.
#[derive(Clone)]
pub struct BatcherSettings {
    /// A batch is asked when its questions weigh this much …
    pub max: usize,
    /// … or when its first question is this old, and one of `parallel` is free: until then it grows.
    pub linger: Duration,
    /// Where a batch costs more than time, at present: so much longer is gathered.
    pub extra_linger: Option<ExtraLinger>,
    /// Batches under way at once.
    pub max_in_flight: usize,
}

/// How much longer is gathered, at present.
pub type ExtraLinger = Arc<dyn Fn() -> Duration + Send + Sync>;

impl<I, O, E> Batcher<I, O, E>
where
    I: Clone + Send + Sync + 'static,
    O: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    /// Starts gathering for `ask`, which answers a batch in order and keeps nothing of it (or it has to be copied). When a
    /// batch fails and `should_split` says that one of its items may be to blame, the halves are asked on their own, so that one
    /// bad item costs only itself. Every question weighs 1.
    pub fn start<F, Fut>(limits: BatcherSettings, ask: F, should_split: fn(&E) -> bool) -> Self
    where
        F: Fn(Arc<Vec<I>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, E>> + Send + 'static,
    {
        Self::start_weighted(limits, |_| 1, ask, should_split)
    }

    /// The same for questions of different weight. One that weighs more than the most is asked alone.
    pub fn start_weighted<F, Fut>(
        limits: BatcherSettings,
        weigh: fn(&I) -> usize,
        ask: F,
        should_split: fn(&E) -> bool,
    ) -> Self
    where
        F: Fn(Arc<Vec<I>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, E>> + Send + 'static,
    {
        let (questions, mut asked) = mpsc::channel::<Question<I, O, E>>(limits.max * 2);
        let ask = Arc::new(ask);
        let parallel = Arc::new(Semaphore::new(limits.max_in_flight));
        tokio::spawn(async move {
            let mut next = None;
            loop {
                let first = match next.take() {
                    Some(question) => question,
                    None => match asked.recv().await {
                        Some(question) => question,
                        None => return,
                    },
                };
                let extra_linger = limits.extra_linger.as_ref().map_or(Duration::ZERO, |extra_linger| extra_linger());
                let deadline = Instant::now() + limits.linger + extra_linger;
                let mut batch = Batch::of(first, weigh, limits.max);
                while batch.is_growing() {
                    match tokio::time::timeout_at(deadline, asked.recv()).await {
                        Ok(Some(question)) => batch.add(question),
                        Ok(None) | Err(_) => break,
                    }
                }
                let slot = loop {
                    tokio::select! {
                        biased;
                        slot = parallel.clone().acquire_owned() => break slot,
                        Some(question) = asked.recv(), if batch.is_growing() => batch.add(question),
                    }
                };
                next = batch.next.take();
                let Ok(slot) = slot else { return };
                let ask = ask.clone();
                tokio::spawn(async move {
                    answer(batch.questions, &*ask, should_split).await;
                    drop(slot);
                });
            }
        });
        Self { questions }
    }

    /// Asks and waits for the answer.
    pub async fn submit(&self, item: I) -> Result<O, BatcherError<E>> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { item, answer }).await.map_err(|_| BatcherError::Closed)?;
        answered.await.unwrap_or(Err(BatcherError::Closed))
    }
}

async fn answer<I, O, E, F, Fut>(batch: Vec<Question<I, O, E>>, ask: &F, should_split: fn(&E) -> bool)
where
    I: Clone,
    F: Fn(Arc<Vec<I>>) -> Fut,
    Fut: Future<Output = Result<Vec<O>, E>>,
{
    let (items, waiting): (Vec<_>, Vec<_>) = batch.into_iter().map(|question| (question.item, question.answer)).unzip();
    let mut batches = vec![(items, waiting)];
    while let Some((items, mut waiting)) = batches.pop() {
        let items = Arc::new(items);
        match ask(items.clone()).await {
            Ok(answers) => {
                debug_assert_eq!(answers.len(), waiting.len());
                for (waiting, answer) in waiting.into_iter().zip(answers) {
                    // Nobody waits any more when a delivery was aborted at the end of the grace period.
                    let _ = waiting.send(Ok(answer));
                }
            }
            Err(error) if waiting.len() > 1 && should_split(&error) => {
                let mut items = Arc::unwrap_or_clone(items);
                let half = items.len() / 2;
                let second = (items.split_off(half), waiting.split_off(half));
                batches.extend([second, (items, waiting)]);
            }
            Err(error) => {
                let error = Arc::new(error);
                for waiting in waiting {
                    let _ = waiting.send(Err(BatcherError::Failed(error.clone())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::{Batcher, BatcherError, BatcherSettings};

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Bad(&'static str);

    fn limits() -> BatcherSettings {
        BatcherSettings { max: 10, linger: Duration::from_millis(20), extra_linger: None, max_in_flight: 1 }
    }

    #[tokio::test]
    async fn questions_are_asked_together_and_a_bad_one_costs_only_itself() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let ask = move |items: Arc<Vec<i32>>| {
            seen.lock().expect("unpoisoned").push(items.len());
            async move {
                if items.contains(&7) { Err(Bad("seven")) } else { Ok(items.iter().map(|item| item * 2).collect()) }
            }
        };
        let gather = Batcher::start(limits(), ask, |_| true);
        let tasks: Vec<_> = (0..10)
            .map(|item| {
                let gather = gather.clone();
                tokio::spawn(async move { gather.submit(item).await })
            })
            .collect();
        for (item, task) in (0..10).zip(tasks) {
            match task.await.expect("no panic") {
                Ok(answer) => assert_eq!(answer, item * 2),
                Err(error) => assert!(item == 7 && matches!(error, BatcherError::Failed(_)), "{item}: {error}"),
            }
        }
        assert_eq!(sizes.lock().expect("unpoisoned")[0], 10, "all in one batch");
    }

    #[tokio::test]
    async fn a_batch_is_as_full_as_its_questions_weights_allow() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let ask = move |items: Arc<Vec<usize>>| {
            seen.lock().expect("unpoisoned").push(items.to_vec());
            async move { Ok::<_, Bad>(items.to_vec()) }
        };
        let gather = Batcher::start_weighted(limits(), |item| *item, ask, |_| false);
        let answers = futures_util::future::join_all([4, 4, 3, 12, 7, 3].map(|item| gather.submit(item))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
        assert_eq!(answers, [4, 4, 3, 12, 7, 3]);
        let asked = asked.lock().expect("unpoisoned");
        assert_eq!(*asked, [vec![4, 4], vec![3], vec![12], vec![7, 3]], "ten at most, but one that is heavier alone");
    }

    #[tokio::test]
    async fn a_failure_of_the_whole_is_not_divided() {
        let gather = Batcher::start(limits(), |_: Arc<Vec<i32>>| async { Err::<Vec<i32>, _>(Bad("away")) }, |_| false);
        assert!(matches!(gather.submit(1).await, Err(BatcherError::Failed(_))));
    }
}
