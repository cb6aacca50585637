//! Properties that HubSpot takes no value for at the moment: missing, archived or read-only ones.
//!
//! They are remembered for a while, so that one such property costs one refused call and not one for each record: HubSpot blocks
//! apps that go on sending calls which fail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::ObjectType;
use hubspot::{
    HubSpotError,
    client::{HubSpotApiError, RefusedProperty},
};

/// The refused properties that this process knows. A person may change the portal at any time, so each is forgotten after a
/// while, and tried again.
pub struct RefusedProperties {
    known: Mutex<HashMap<(ObjectType, String), Refusal>>,
    remembered_for: Duration,
}

#[derive(Clone)]
struct Refusal {
    at: Instant,
    error: Arc<HubSpotError>,
}

/// The most properties that are remembered at once. HubSpot allows about a thousand custom properties for an object type.
const MAX_KNOWN: usize = 10_000;

impl RefusedProperties {
    /// Remembers each property for this time.
    pub fn new(remembered_for: Duration) -> Self {
        Self { known: Mutex::default(), remembered_for }
    }

    /// Remembers the properties that `error` says no value can be written to. Returns whether there was one that was not known.
    pub fn learn(&self, object_type: &ObjectType, error: &Arc<HubSpotError>) -> bool {
        let refused = error.api().map(HubSpotApiError::refused_properties).unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, refusal| refusal.at.elapsed() < self.remembered_for);
        let mut is_new = false;
        for property in refused.into_iter().filter(RefusedProperty::is_about_every_value) {
            if known.len() >= MAX_KNOWN {
                break;
            }
            known.entry((object_type.clone(), property.name)).or_insert_with_key(|(object, property)| {
                tracing::warn!(%object, property, %error, "HubSpot takes no value for the property");
                is_new = true;
                Refusal { at: Instant::now(), error: error.clone() }
            });
        }
        is_new
    }

    /// Why values of the property are not sent; `None` when they are.
    pub fn why(&self, object_type: &ObjectType, property: &str) -> Option<Arc<HubSpotError>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = known.get(&(object_type.clone(), property.to_owned()))?;
        (refusal.at.elapsed() < self.remembered_for).then(|| refusal.error.clone())
    }
}
