//! The body of a request, as it arrives.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

/// How long a body may take to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTime {
    /// Without any byte of it.
    pub pause: Duration,
    /// All of it, however steadily it comes.
    pub total: Duration,
}

/// A body that arrives in time.
pub(crate) struct IncomingBody {
    chunks: BodyDataStream,
    time: BodyTime,
    not_after: Instant,
    last_arrival: Instant,
    is_at_end: bool,
}

/// The body did not arrive in time, or the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incomplete {
    /// Whether bytes still arrived shortly before the time was over: then it may be this machine that is slow.
    pub(crate) was_arriving: bool,
}

impl IncomingBody {
    /// A body that has this time to arrive.
    pub(crate) fn new(body: Body, time: BodyTime) -> Self {
        let is_at_end = body.is_end_stream();
        let now = Instant::now();
        Self { chunks: body.into_data_stream(), time, not_after: now + time.total, last_arrival: now, is_at_end }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Incomplete> {
        let not_after = self.not_after.min(self.last_arrival + self.time.pause);
        let Ok(next) = timeout_at(not_after, self.chunks.next()).await else {
            return Err(Incomplete { was_arriving: self.last_arrival.elapsed() < self.time.pause / 2 });
        };
        self.is_at_end = next.is_none();
        self.last_arrival = Instant::now();
        next.transpose().map_err(|_| Incomplete { was_arriving: false })
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

    const PAUSE: Duration = Duration::from_millis(200);
    const TIME: BodyTime = BodyTime { pause: PAUSE, total: Duration::from_secs(1) };

    async fn read(body: Body) -> Result<Vec<u8>, Incomplete> {
        read_within(TIME, body).await
    }

    async fn read_within(time: BodyTime, body: Body) -> Result<Vec<u8>, Incomplete> {
        let (mut body, mut all) = (IncomingBody::new(body, time), Vec::new());
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
        assert_eq!(read(Body::from_stream(broken)).await, Err(Incomplete { was_arriving: false }));
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(endless).await, Err(Incomplete { was_arriving: false }));
        let trickling = |pieces: usize| {
            Body::from_stream(stream::unfold(pieces, async |left| {
                tokio::time::sleep(PAUSE / 4).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"0")), left.checked_sub(1)?))
            }))
        };
        let cut_off = read(trickling(usize::MAX)).await;
        assert_eq!(cut_off, Err(Incomplete { was_arriving: true }), "there is a time for the whole body");
        let long = BodyTime { total: Duration::from_secs(600), ..TIME };
        let arrived = read_within(long, trickling(10)).await;
        assert_eq!(arrived, Ok(b"0".repeat(10)), "what arrives steadily may take longer than a pause");
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
        let time = BodyTime { pause: Duration::from_secs(600), total: Duration::from_secs(600) };
        IncomingBody::new(Body::from_stream(endless), time).drain(1_000);
        ended.await.expect_err("the stream is dropped");
        assert_eq!(taken.load(Ordering::SeqCst), 1_004);

        let (gone, ended) = tokio::sync::oneshot::channel::<()>();
        let silent = stream::pending::<Result<Bytes, std::io::Error>>().inspect(move |_| {
            let _ = &gone;
        });
        IncomingBody::new(Body::from_stream(silent), TIME).drain(1_000);
        ended.await.expect_err("the stream is dropped");
    }
}
