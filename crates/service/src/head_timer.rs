//! Bounds the time in which the head of a request arrives, apart from the time for which a connection may rest between two requests.
//!
//! A stranger who opens connections and says nothing loses them soon. A proxy keeps connections for later requests, and one that is
//! closed just as it is used again costs a request (its client sees 502), so they must rest for longer than proxies keep them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The head of a request, which has its time.
    Head,
    /// The rest of a request, or its answer.
    Request,
    /// Another request, after one that was good.
    Rest,
}

/// The phase of a connection, which its stream and its service share.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPhase(Arc<AtomicU8>);

impl ConnectionPhase {
    /// A connection that has to send a head.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Head as u8)))
    }

    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) == phase as u8
    }
}

/// A stream whose reads fail when a head takes too long.
pub(crate) struct TimedStream {
    stream: TcpStream,
    phase: ConnectionPhase,
    head_timeout: Duration,
    /// Runs during [`Phase::Head`].
    deadline: Pin<Box<Sleep>>,
    is_running: bool,
}

impl TimedStream {
    pub fn new(stream: TcpStream, phase: ConnectionPhase, head_timeout: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(head_timeout));
        Self { stream, phase, head_timeout, deadline, is_running: true }
    }

    /// Whether the head has taken too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.phase.is(Phase::Head) {
            self.is_running = false;
            return false;
        }
        if !self.is_running {
            self.is_running = true;
            self.deadline.as_mut().reset(Instant::now() + self.head_timeout);
        }
        self.deadline.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_late(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of the request took too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before && self.phase.is(Phase::Rest) {
            self.phase.set(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
