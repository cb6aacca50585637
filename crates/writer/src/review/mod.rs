//! How people decide about proposals without a shell: a channel is told what waits, and each proposal has a page.

mod digest;
mod html;
mod links;
mod page;

use std::{sync::Arc, time::Duration};

use broker::{Publisher, Route, Stage};
use ledger::{Ledger, Worker};
use maintenance::command_message;
use service::{
    LogLimit, ServiceFailure,
    listener::{self, ListenerLimits},
};
use settings::Settings;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::notify::Channels;
pub use digest::{DigestError, ReviewDigest};
pub use links::{ReviewLinks, Ticket, WrongTicket};
pub use page::{PublishCommand, router};

/// People look at a page and close it; a proxy before it has a few connections.
const LIMITS: ListenerLimits = ListenerLimits {
    max_connections: 64,
    max_connections_per_peer: 64,
    header_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(90),
    max_age: Duration::from_secs(600),
};

/// Starts, as far as the settings ask for it, the page and the task that tells a channel what waits. Both run until `stop`.
///
/// # Errors
/// The address is in use, or the HTTP client of the channels cannot be built.
pub async fn start(
    settings: &Settings,
    ledger: &Ledger,
    publisher: &Publisher,
    worker: &Worker,
    stop: &CancellationToken,
) -> Result<(), ServiceFailure> {
    let review = &settings.review;
    let links = review.link_secret.as_ref().zip(review.public_url.as_ref());
    let lasts = Duration::from_secs(review.link_hours * 3_600);
    let links = links.and_then(|(secret, url)| ReviewLinks::new(secret, url, lasts));
    if let Some(channel) = review.channel.as_ref().and_then(|channel| settings.notify.get(channel)) {
        let timeout = Duration::from_secs(settings.writer.notify_timeout_seconds);
        let channels = Arc::new(Channels::new(settings.notify.clone(), timeout)?);
        let digest = ReviewDigest { ledger: ledger.clone(), channels, channel: channel.clone(), links: links.clone() };
        maintenance::run_announcements(ledger.clone(), worker.clone(), stop, move || {
            let digest = digest.clone();
            async move { digest.pass().await }
        });
    }
    if let (Some(listen), Some(links)) = (&review.listen, links) {
        let listener = TcpListener::bind(listen).await.map_err(|error| format!("review.listen {listen}: {error}"))?;
        let router = router(ledger.clone(), links, publish_with(publisher.clone()));
        let log = Arc::new(LogLimit::new(settings.telemetry.refusals_per_minute));
        tokio::spawn(listener::serve(listener, router, LIMITS, log, stop.clone()));
    }
    Ok(())
}

fn publish_with(publisher: Publisher) -> PublishCommand {
    Arc::new(move |id| {
        let publisher = publisher.clone();
        Box::pin(async move {
            if let Err(error) = publisher.publish(Route::Queue(Stage::Writes), &command_message(id)).await {
                tracing::warn!(command = %id, %error, "the message of an approved command is not published; the reconciler does it");
            }
        })
    })
}
