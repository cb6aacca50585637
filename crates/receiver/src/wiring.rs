//! Builds the receiver's parts from the settings.

use std::{sync::Arc, time::Duration};

use broker::Publisher;
use hubspot::{signature::SignatureVerifier, webhook::BodyBounds};
use secrecy::{ExposeSecret, SecretString};
use service::{LogLimit, Reload, ServerTls, listener::ListenerLimits};
use settings::{ConfigScope, MissingSetting, Reloadable, Settings, SignatureVersion};

use crate::{
    body::BodyTime,
    handler::{WebhookHandler, WebhookLimits},
};

/// The handler of webhooks, which publishes with `publisher` and logs within `log`.
///
/// # Errors
/// `receiver.public_url` is missing: HubSpot signs it, so no signature can be verified without it.
pub fn webhook_handler(
    settings: &Settings,
    publisher: Publisher,
    log: Arc<LogLimit>,
) -> Result<WebhookHandler, MissingSetting> {
    let (hubspot, receiver) = (&settings.hubspot, &settings.receiver);
    let public_url = receiver.public_url.as_deref().ok_or(MissingSetting("receiver.public_url"))?;
    let accepts = |version| hubspot.signature_versions.contains(&version);
    let verifier = SignatureVerifier::new(
        client_secrets(settings),
        public_url,
        accepts(SignatureVersion::V1),
        accepts(SignatureVersion::V2),
    );
    Ok(WebhookHandler::new(verifier, publisher, log, webhook_limits(settings)))
}

/// The secrets that HubSpot may sign with: either of them while the client secret is rotated.
fn client_secrets(settings: &Settings) -> Vec<SecretString> {
    let secrets = [&settings.hubspot.client_secret, &settings.hubspot.client_secret_previous];
    secrets.into_iter().flatten().cloned().collect()
}

/// What is read again while the receiver runs.
pub fn reload(settings: &Settings, verifier: SignatureVerifier, tls: Option<ServerTls>) -> Reload {
    let mut reload = Reload::new(settings.clone(), ConfigScope::Receiver);
    reload.hand([Reloadable::ClientSecret, Reloadable::PreviousClientSecret], move |settings| {
        verifier.replace_secrets(client_secrets(settings));
        Ok(())
    });
    if let Some(tls) = tls {
        reload.hand([Reloadable::ReceiverCertificate, Reloadable::ReceiverKey], move |settings| {
            let receiver = &settings.receiver;
            match receiver.tls_certificate.as_ref().zip(receiver.tls_key.as_ref()) {
                Some((chain, key)) => Ok(tls.replace(chain, key.expose_secret())?),
                None => Ok(()),
            }
        });
    }
    reload
}

/// The certificate of the public listener, if it has one.
///
/// # Errors
/// It cannot be used.
pub fn tls(settings: &Settings) -> Result<Option<ServerTls>, String> {
    let receiver = &settings.receiver;
    let Some((chain, key)) = receiver.tls_certificate.as_ref().zip(receiver.tls_key.as_ref()) else { return Ok(None) };
    let tls = ServerTls::new(chain, key.expose_secret());
    tls.map(Some).map_err(|error| format!("receiver.tls_certificate: {error}"))
}

/// How much the receiver takes.
pub fn webhook_limits(settings: &Settings) -> WebhookLimits {
    let receiver = &settings.receiver;
    let confirm = Duration::from_millis(settings.broker.confirm_timeout_ms);
    WebhookLimits {
        max_in_flight: receiver.max_in_flight,
        max_bytes_in_flight: receiver.max_bytes_in_flight,
        max_bytes_per_peer: receiver.max_bytes_per_peer,
        body: BodyBounds {
            max_bytes: receiver.max_body_bytes,
            max_kept_bytes: receiver.max_kept_bytes,
            max_string_bytes: receiver.max_value_bytes,
        },
        body_time: BodyTime {
            pause: read_timeout(settings),
            // The confirm has its time after the body.
            total: HUBSPOT_WAITS.saturating_sub(confirm).max(read_timeout(settings)),
        },
        retry_after_seconds: receiver.retry_after_seconds,
    }
}

/// How long HubSpot waits for an answer (5 seconds, its webhooks guide,
/// <https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide>), without what the way there and back takes.
const HUBSPOT_WAITS: Duration = Duration::from_millis(4_900);

/// The limits of the public listener.
pub fn listener_limits(settings: &Settings) -> ListenerLimits {
    let receiver = &settings.receiver;
    ListenerLimits {
        max_connections: receiver.max_connections,
        max_connections_per_peer: receiver.max_connections_per_peer,
        header_timeout: read_timeout(settings),
        keep_alive: Duration::from_secs(receiver.keep_alive_seconds),
        max_age: Duration::from_secs(receiver.connection_max_seconds),
    }
}

fn read_timeout(settings: &Settings) -> Duration {
    Duration::from_millis(settings.receiver.read_timeout_ms)
}
