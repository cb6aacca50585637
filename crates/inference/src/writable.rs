//! Whether HubSpot takes values for what playbooks write, known before a question is paid for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::ObjectType;
use hubspot::{HubSpotClient, client::PropertyDefinition};
use playbook::Playbook;

/// How often the definitions are read again.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// How old the definitions may be that keep a question from being asked: what was just mended counts soon.
const MAX_AGE_OF_A_REFUSAL: Duration = Duration::from_secs(2);

/// The properties that playbooks write and HubSpot takes no value for.
pub struct WritableProperties {
    hubspot: HubSpotClient,
    needed: BTreeMap<ObjectType, BTreeSet<String>>,
    known: Mutex<Known>,
    /// Held by whoever reads the definitions. Only those wait for it whose playbook would write nothing.
    checking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    checked_at: Option<Instant>,
    /// Why each of these takes no value.
    refused: HashMap<(ObjectType, String), &'static str>,
}

impl WritableProperties {
    /// Knows nothing yet, and holds every property for writable until it is checked.
    pub fn new<'a>(hubspot: HubSpotClient, playbooks: impl IntoIterator<Item = &'a Playbook>) -> Self {
        let mut needed: BTreeMap<ObjectType, BTreeSet<String>> = BTreeMap::new();
        for (object_type, property) in playbooks.into_iter().flat_map(values) {
            needed.entry(object_type).or_default().insert(property);
        }
        Self { hubspot, needed, known: Mutex::default(), checking: tokio::sync::Mutex::default() }
    }

    /// Checks now, and then once an hour.
    pub async fn watch(&self) {
        loop {
            let checking = self.checking.lock().await;
            self.check().await;
            drop(checking);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Why none of the answer's values could be written: HubSpot takes no value for any of the playbook's properties. `None` when
    /// a question makes sense, also for a playbook that has actions alone.
    pub async fn nothing_to_write(&self, playbook: &Playbook) -> Option<String> {
        self.known().all_refused(playbook)?;
        let _checking = self.checking.lock().await;
        let is_old = self.known().checked_at.is_none_or(|at| at.elapsed() > MAX_AGE_OF_A_REFUSAL);
        if is_old {
            self.check().await;
        }
        self.known().all_refused(playbook)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the definitions. Where that fails, what was known before counts.
    async fn check(&self) {
        for (object_type, names) in &self.needed {
            let definitions = match self.hubspot.properties(object_type).await {
                Ok(definitions) => definitions,
                Err(error) => {
                    tracing::warn!(%object_type, %error, "the property definitions cannot be read");
                    continue;
                }
            };
            let mut known = self.known();
            for name in names {
                let definition = definitions.iter().find(|definition| definition.name == *name);
                let refusal = definition.map_or(Some("does not exist"), PropertyDefinition::not_writable);
                known.note(object_type, name, refusal);
            }
        }
        self.known().checked_at = Some(Instant::now());
    }
}

impl Known {
    fn note(&mut self, object_type: &ObjectType, name: &str, refusal: Option<&'static str>) {
        let key = (object_type.clone(), name.to_owned());
        let before = match refusal {
            Some(why) => self.refused.insert(key, why),
            None => self.refused.remove(&key),
        };
        let labels = [("object", object_type.name().to_owned()), ("property", name.to_owned())];
        metrics::gauge!("leadline_unwritable_properties", &labels).set(f64::from(u8::from(refusal.is_some())));
        match refusal {
            Some(why) if before.is_none() => {
                tracing::warn!(%object_type, property = name, "a playbook writes a property that {why}; see `leadline check`");
            }
            None if before.is_some() => {
                tracing::info!(%object_type, property = name, "the property can be written now");
            }
            _ => {}
        }
    }

    /// What speaks against each of the playbook's values, if something speaks against all of them.
    fn all_refused(&self, playbook: &Playbook) -> Option<String> {
        let reason = |value: (ObjectType, String)| {
            let why = self.refused.get(&value)?;
            Some(format!("`{}.{}` {why}", value.0, value.1))
        };
        let reasons: Vec<_> = values(playbook).map(reason).collect::<Option<_>>()?;
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }
}

/// The properties in which a playbook writes values of the answer.
fn values(playbook: &Playbook) -> impl Iterator<Item = (ObjectType, String)> {
    let writes = playbook.effects.writes.iter();
    let written: BTreeSet<_> =
        writes.flat_map(|write| write.to.iter().map(|path| (path.end().clone(), write.property.clone()))).collect();
    written.into_iter()
}
