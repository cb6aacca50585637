//! Finding the bad item of a batch by halving it.

use std::{future::Future, sync::Arc};

/// Processes `items` as one batch. If that fails and `may_be_one_item` says that a single item can be the cause, the batch is
/// split in halves that are processed separately, and so on: one bad item fails alone, and the others succeed.
///
/// `process` returns one result for each item, in the same order. `finish` gets the result of each item by its index, as soon
/// as the part that it is in has ended. Parts are processed one after the other, in the order of the items.
pub async fn bisect<I, O, E, F, Fut>(
    items: Vec<I>,
    process: F,
    may_be_one_item: impl Fn(&E) -> bool,
    mut finish: impl FnMut(usize, Result<O, Arc<E>>),
) where
    I: Clone,
    F: Fn(Arc<Vec<I>>) -> Fut,
    Fut: Future<Output = Result<Vec<O>, E>>,
{
    let mut pending = vec![(0, items)];
    while let Some((start, items)) = pending.pop() {
        let count = items.len();
        let items = Arc::new(items);
        match process(items.clone()).await {
            Ok(results) => {
                debug_assert_eq!(results.len(), count);
                results.into_iter().enumerate().for_each(|(index, result)| finish(start + index, Ok(result)));
            }
            Err(error) if count > 1 && may_be_one_item(&error) => {
                let mut first = Arc::unwrap_or_clone(items);
                let second = first.split_off(count / 2);
                pending.extend([(start + count / 2, second), (start, first)]);
            }
            Err(error) => {
                let error = Arc::new(error);
                (start..start + count).for_each(|index| finish(index, Err(error.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::Arc};

    use super::bisect;

    /// Which items failed, and which batches were processed.
    async fn outcome(items: Vec<u32>, bad: &[u32], may_be_one_item: bool) -> (Vec<u32>, Vec<Vec<u32>>) {
        let (batches, failed) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let process = |batch: Arc<Vec<u32>>| {
            batches.borrow_mut().push(batch.to_vec());
            async move { if batch.iter().any(|item| bad.contains(item)) { Err("bad") } else { Ok(batch.to_vec()) } }
        };
        let all = items.clone();
        bisect(
            items,
            process,
            |_| may_be_one_item,
            |index, result| match result {
                Ok(item) => assert_eq!(item, all[index], "results belong to their items"),
                Err(_) => failed.borrow_mut().push(all[index]),
            },
        )
        .await;
        (failed.into_inner(), batches.into_inner())
    }

    #[tokio::test]
    async fn a_bad_item_is_found_by_halving() {
        let (failed, batches) = outcome(vec![1, 2, 3, 4, 5], &[4], true).await;
        assert_eq!(failed, [4]);
        assert_eq!(batches, [vec![1, 2, 3, 4, 5], vec![1, 2], vec![3, 4, 5], vec![3], vec![4, 5], vec![4], vec![5]]);
    }

    #[tokio::test]
    async fn a_failure_that_no_single_item_causes_fails_the_whole_batch_at_once() {
        let (failed, batches) = outcome(vec![1, 2, 3], &[2], false).await;
        assert_eq!((failed, batches.len()), (vec![1, 2, 3], 1));
    }

    #[tokio::test]
    async fn a_single_item_is_not_split() {
        let (failed, batches) = outcome(vec![1], &[1], true).await;
        assert_eq!((failed, batches), (vec![1], vec![vec![1]]));
    }
}
