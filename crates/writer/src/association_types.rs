//! The types of the associations between the engagements that the fleet creates and the records that they are about.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::ObjectType;
use hubspot::{HubSpotClient, HubSpotError, client::AssociationType};

/// The types of associations that this process knows. Those of custom objects differ from portal to portal and never change,
/// so each is asked for once.
#[derive(Default)]
pub struct AssociationTypes {
    known: Mutex<HashMap<(ObjectType, ObjectType), AssociationType>>,
}

impl AssociationTypes {
    /// The type of the association from an engagement to a record; `None` when HubSpot associates the two types with each
    /// other in no way.
    pub async fn get(
        &self,
        hubspot: &HubSpotClient,
        engagement: &ObjectType,
        record: &ObjectType,
    ) -> Result<Option<AssociationType>, HubSpotError> {
        if !record.is_custom() {
            return Ok(AssociationType::of_engagement(engagement, record));
        }
        let key = (engagement.clone(), record.clone());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = hubspot.plain_association_type(engagement, record).await?;
        if let Some(found) = &found {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        }
        Ok(found)
    }
}
