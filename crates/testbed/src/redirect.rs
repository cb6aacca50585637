//! Two HTTP servers: one redirects every request to the other, which must never hear of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// The two servers. They end with the runtime.
#[derive(Debug)]
pub struct Redirection {
    /// The URL of the server that redirects, without a path.
    pub url: String,
    asked: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
}

impl Redirection {
    /// Starts both. The first answers every request with `status` and the other's address as `Location`.
    pub async fn start(status: u16) -> Result<Self> {
        let (asked, heard) = (Arc::default(), Arc::default());
        let second = TcpListener::bind("127.0.0.1:0").await?;
        let elsewhere = format!("http://{}/elsewhere", second.local_addr()?);
        serve(
            second,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
            Arc::clone(&heard),
        );
        let first = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", first.local_addr()?);
        let answer = format!(
            "HTTP/1.1 {status} Found\r\nconnection: close\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
        );
        serve(first, answer, Arc::clone(&asked));
        Ok(Self { url, asked, heard })
    }

    /// How many connections the server that redirects had.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many connections the other server had.
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

/// Answers the first request of each connection with `answer`, counts the connection, and closes it.
fn serve(listener: TcpListener, answer: String, connections: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            // Enough for the headers; the bodies of these tests are small.
            let mut request = [0; 16_384];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}
