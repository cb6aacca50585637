//! Reads a request's body within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;

/// The bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The most bytes.
    pub(crate) max_bytes: usize,
    /// The longest time from the first byte to the last.
    pub(crate) read_timeout: Duration,
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It has more bytes than allowed.
    TooLarge,
    /// It did not arrive in time, or the connection broke.
    Incomplete,
}

impl BodyLimits {
    /// Reads a body.
    pub(crate) async fn read(&self, body: Body) -> Result<Bytes, BodyError> {
        let mut chunks = Vec::new();
        self.for_each_chunk(body, |chunk| chunks.push(chunk)).await?;
        Ok(match chunks.len() {
            // Most bodies arrive as one chunk, which needs no copy.
            1 => chunks.swap_remove(0),
            _ => chunks.concat().into(),
        })
    }

    /// Reads a body without keeping it in memory. A client that is still sending would see a broken connection instead of
    /// the answer. The bounds are the same, so that a slow client cannot hold the connection.
    pub(crate) async fn discard(&self, body: Body) {
        // What is wrong with a body that is not used does not matter.
        let _ = self.for_each_chunk(body, drop).await;
    }

    async fn for_each_chunk(&self, body: Body, mut take: impl FnMut(Bytes)) -> Result<(), BodyError> {
        let mut chunks = body.into_data_stream();
        let mut left = self.max_bytes;
        let read = async {
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
                left = left.checked_sub(chunk.len()).ok_or(BodyError::TooLarge)?;
                take(chunk);
            }
            Ok(())
        };
        tokio::time::timeout(self.read_timeout, read).await.unwrap_or(Err(BodyError::Incomplete))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 10, read_timeout: Duration::from_millis(20) };

    fn body(chunks: &[&'static str]) -> Body {
        Body::from_stream(stream::iter(chunks.iter().copied().map(Ok::<_, std::io::Error>).collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_the_last_allowed_byte() {
        assert_eq!(LIMITS.read(body(&["01234", "56789"])).await, Ok(Bytes::from_static(b"0123456789")));
        assert_eq!(LIMITS.read(body(&["0123456789"])).await, Ok(Bytes::from_static(b"0123456789")));
        assert_eq!(LIMITS.read(body(&[])).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_body_of_one_byte_more_is_too_large() {
        assert_eq!(LIMITS.read(body(&["01234", "567890"])).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_takes_too_long_is_incomplete() {
        let broken = stream::iter([Ok(Bytes::from_static(b"0")), Err(std::io::Error::other("reset by the client"))]);
        assert_eq!(LIMITS.read(Body::from_stream(broken)).await, Err(BodyError::Incomplete));
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(LIMITS.read(endless).await, Err(BodyError::Incomplete));
    }

    #[tokio::test]
    async fn discarding_ends_at_the_limits_too() {
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"0123"))));
        LIMITS.discard(endless).await;
        LIMITS.discard(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).await;
    }
}
