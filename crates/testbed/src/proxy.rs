//! A TCP proxy that can stall or cut connections.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Passes bytes on.
    Flows,
    /// Keeps connections open and passes no bytes on.
    Stalls,
    /// Cuts connections and refuses new ones.
    Cut,
}

/// A proxy on loopback to one address. It stops listening when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The address on which it listens.
    pub address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `target` (`host:port`).
    pub async fn to(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (traffic, state) = watch::channel(Traffic::Flows);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *state.borrow() != Traffic::Cut
                    && let Ok(server) = TcpStream::connect(&target).await
                {
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    tokio::spawn(pass(client_in, server_out, state.clone()));
                    tokio::spawn(pass(server_in, client_out, state.clone()));
                }
            }
        });
        Ok(Self { address, traffic, task })
    }

    /// Changes what it does with connections, open ones too.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<Traffic>,
) {
    let mut buffer = vec![0; 16_384];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = state.wait_for(|traffic| *traffic == Traffic::Cut) => return,
        };
        let Ok(count @ 1..) = read else { return };
        while *state.borrow() == Traffic::Stalls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if *state.borrow() == Traffic::Cut || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
