//! `leadline-simulator`: simulated HubSpot and OpenAI on one address.

use clap::Parser;
use simulator::{Simulator, SimulatorOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = SimulatorOptions::parse();
    http_client::install_tls_provider();
    let listener = tokio::net::TcpListener::bind(&options.listen).await?;
    println!("the simulator listens on {}", listener.local_addr()?);
    axum::serve(listener, Simulator::new(options.into()).router()).await?;
    Ok(())
}
