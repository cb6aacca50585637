//! The body of a request, as it arrives.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

/// A body that arrives in time.
pub(crate) struct IncomingBody {
    chunks: BodyDataStream,
    not_after: Instant,
    is_at_end: bool,
}

/// The body did not arrive in time, or the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl IncomingBody {
    /// A body that has this time to arrive.
    pub(crate) fn new(body: Body, timeout: Duration) -> Self {
        let is_at_end = body.is_end_stream();
        Self { chunks: body.into_data_stream(), not_after: Instant::now() + timeout, is_at_end }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Incomplete> {
        let next = timeout_at(self.not_after, self.chunks.next()).await.map_err(|_| Incomplete)?;
        self.is_at_end = next.is_none();
        next.transpose().map_err(|_| Incomplete)
    }

    /// Reads what remains, at most `max_bytes`, and keeps nothing of it, while the answer is already on its way. A client that
    /// is still sending would otherwise see a broken connection instead of the answer.
    pub(crate) fn drain(mut self, max_bytes: usize) {
        if self.is_at_end {
            return;
        }
        tokio::spawn(async move {
            let mut left = max_bytes;
            while let Ok(Some(chunk)) = self.next().await {
                let Some(less) = left.checked_sub(chunk.len()) else { return };
                left = less;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::stream;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    async fn read(body: Body) -> Result<Vec<u8>, Incomplete> {
        let (mut body, mut all) = (IncomingBody::new(body, TIMEOUT), Vec::new());
        while let Some(chunk) = body.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let chunks = stream::iter(["01234", "", "56789"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk))));
        assert_eq!(read(Body::from_stream(chunks)).await, Ok(b"0123456789".to_vec()));
        assert_eq!(read(Body::from("0123456789")).await, Ok(b"0123456789".to_vec()));
        assert_eq!(read(Body::empty()).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_takes_too_long_is_incomplete() {
        let broken = stream::iter([Ok(Bytes::from_static(b"0")), Err(std::io::Error::other("reset by the client"))]);
        assert_eq!(read(Body::from_stream(broken)).await, Err(Incomplete));
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(endless).await, Err(Incomplete));
        let trickling = stream::unfold((), async |()| {
            tokio::time::sleep(TIMEOUT / 4).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"0")), ()))
        });
        assert_eq!(read(Body::from_stream(trickling)).await, Err(Incomplete), "the time is for the whole body");
    }

    #[tokio::test]
    async fn draining_ends_at_the_bound_and_when_the_time_is_over() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = taken.clone();
        let (gone, ended) = tokio::sync::oneshot::channel::<()>();
        let endless = stream::repeat_with(move || {
            let _ = &gone;
            counter.fetch_add(4, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(b"0123"))
        });
        IncomingBody::new(Body::from_stream(endless), Duration::from_secs(600)).drain(1_000);
        ended.await.expect_err("the stream is dropped");
        assert_eq!(taken.load(Ordering::SeqCst), 1_004);

        let (gone, ended) = tokio::sync::oneshot::channel::<()>();
        let silent = stream::pending::<Result<Bytes, std::io::Error>>().inspect(move |_| {
            let _ = &gone;
        });
        IncomingBody::new(Body::from_stream(silent), TIMEOUT).drain(1_000);
        ended.await.expect_err("the stream is dropped");
    }
}
