//! What a worker takes when a value is read again while it runs.

use domain::Credential;
use hubspot::HubSpotClient;
use ledger::Ledger;
use service::{Reload, ServiceFailure};
use settings::{ConfigScope, MissingSetting, Reloadable, Settings};

use crate::circuit_breakers::CircuitBreakers;

/// What every worker takes: the password of its ledger, and HubSpot's token. `credential` says which one that is.
pub fn reload_of_worker(
    settings: &Settings,
    scope: ConfigScope,
    (ledger, hubspot): (Ledger, HubSpotClient),
    circuit_breakers: CircuitBreakers,
    credential: impl Fn(&Settings) -> Result<Credential, MissingSetting> + Send + Sync + 'static,
) -> Reload {
    let mut reload = Reload::new(settings.clone(), scope);
    reload.hand([Reloadable::LedgerUrl], move |settings| Ok(ledger.replace_url(&settings.ledger.url())?));
    reload.hand([Reloadable::HubSpotToken], move |settings| {
        let missing = || ServiceFailure::from(MissingSetting("hubspot.token"));
        let (token, credential) = (settings.hubspot.token.clone().ok_or_else(missing)?, credential(settings)?);
        // The token first: the circuit of the new one says nothing about calls with the old one, and a call that began with the circuit
        // of the new one was made with it.
        hubspot.replace_token(token);
        circuit_breakers.replace_credential(credential);
        Ok(())
    });
    reload
}
