//! A TCP proxy that can stall, silence or cut connections, and lead new ones to another address.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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

/// What it does now.
#[derive(Debug, Clone, Copy)]
struct State {
    traffic: Traffic,
    /// Connections with a lower number stay open, and every byte on them is lost.
    first_alive: u64,
}

/// A proxy on loopback to one address. It stops listening when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The address on which it listens.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    target: watch::Sender<String>,
    /// How many were accepted.
    connections: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `target` (`host:port`).
    pub async fn to(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (target, leads_to) = watch::channel(target);
        let (sender, state) = watch::channel(State { traffic: Traffic::Flows, first_alive: 0 });
        let connections = Arc::new(AtomicU64::new(0));
        let accepted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let target = leads_to.borrow().clone();
                if state.borrow().traffic != Traffic::Cut
                    && let Ok(server) = TcpStream::connect(&target).await
                {
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    tokio::spawn(pass(number, client_in, server_out, state.clone()));
                    tokio::spawn(pass(number, server_in, client_out, state.clone()));
                }
            }
        });
        Ok(Self { address, state: sender, target, connections, task })
    }

    /// Changes what it does with connections, open ones too.
    pub fn set(&self, traffic: Traffic) {
        self.state.send_modify(|state| state.traffic = traffic);
    }

    /// Leads new connections to another address (`host:port`). Those that are open stay where they are.
    pub fn lead_to(&self, target: String) {
        self.target.send_replace(target);
    }

    /// Loses every byte on the connections that are open now, and tells neither side. New connections work.
    pub fn silence_open_connections(&self) {
        let first_alive = self.connections.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.first_alive = first_alive);
    }

    /// How many connections it has taken so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    number: u64,
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16_384];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = state.wait_for(|state| state.traffic == Traffic::Cut) => return,
        };
        let Ok(count @ 1..) = read else { return };
        while state.borrow().traffic == Traffic::Stalls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if number < state.borrow().first_alive {
            continue;
        }
        if state.borrow().traffic == Traffic::Cut || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
