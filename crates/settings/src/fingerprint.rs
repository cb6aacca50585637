//! Whether replicas have the same settings: hashes that tell settings apart and do not tell them.

use domain::hash::sha256_hex_of_list;

use crate::{
    sections::{AdminSection, BrokerSection, TelemetrySection},
    tables::Settings,
};

impl Settings {
    /// The fingerprint of what all services must agree on, because it is an argument of the queues.
    pub fn queues_fingerprint(&self) -> String {
        let BrokerSection { retry_delays_seconds, delivery_limit, max_queue_length, .. } = &self.broker;
        fingerprint(&format!("{retry_delays_seconds:?} {delivery_limit} {max_queue_length}"))
    }

    /// The fingerprint of what the replicas of one service must agree on: everything but secrets, where they listen, what they log,
    /// and how much each of them does at once.
    pub fn replica_fingerprint(&self) -> String {
        let mut agreed = self.clone();
        (agreed.admin, agreed.telemetry) = (AdminSection::default(), TelemetrySection::default());
        agreed.receiver.listen.clear();
        agreed.ledger.max_connections = 0;
        // The folder; which playbooks are in it has a fingerprint of its own.
        agreed.inference.playbooks.clear();
        agreed.inference.concurrency = 0;
        agreed.inference.backfill_concurrency = 0;
        agreed.inference.text_threads = 0;
        agreed.writer.concurrency = 0;
        agreed.writer.parallel_batches = 0;
        // Secrets are no part of the debug form.
        fingerprint(&format!("{agreed:?}"))
    }
}

/// The fingerprint of a text.
fn fingerprint(text: &str) -> String {
    sha256_hex_of_list(["leadline settings", text])
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn fingerprints(change: impl FnOnce(&mut Settings)) -> (String, String) {
        let mut settings = Settings::default();
        change(&mut settings);
        (settings.queues_fingerprint(), settings.replica_fingerprint())
    }

    #[test]
    fn replicas_have_the_same_fingerprint_whatever_their_secrets_and_addresses_are() {
        let with_secrets = |token: &str| {
            fingerprints(|settings| {
                settings.hubspot.token = Some(token.to_owned().into());
                settings.ledger.url = format!("postgres://{token}@db/leadline").into();
                settings.notify.insert("sales".to_owned(), format!("https://hooks.example.com/{token}").into());
            })
        };
        assert_eq!(with_secrets("pat-na1-one"), with_secrets("pat-na1-other"));
        let usual = fingerprints(|_| {});
        let of_one_replica = fingerprints(|settings| {
            settings.admin.listen = "0.0.0.0:9191".to_owned();
            settings.receiver.listen = "0.0.0.0:8181".to_owned();
            settings.telemetry.log_level = "debug".to_owned();
            settings.inference.concurrency = 10;
            settings.inference.playbooks = "/etc/leadline/playbooks".into();
        });
        assert_eq!(of_one_replica, usual);
    }

    #[test]
    fn what_replicas_must_agree_on_changes_the_fingerprint() {
        let usual = fingerprints(|_| {});
        let (queues, replica) = fingerprints(|settings| settings.spend.micro_dollars_per_day = 1);
        assert_eq!(queues, usual.0);
        assert_ne!(replica, usual.1);
        let (queues, _) = fingerprints(|settings| settings.broker.retry_delays_seconds.push(7_200));
        assert_ne!(queues, usual.0);
    }
}
