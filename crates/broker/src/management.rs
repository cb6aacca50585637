//! What RabbitMQ's management API says about the queues. AMQP tells a client nothing of policies.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{address::Authorities, connection::BrokerSettings, route::Route, topology::Topology};

/// How long the management API may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the policies are not known.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The URL is invalid.
    #[error("broker.management_url is no URL")]
    Url,
    /// The API does not answer, or its answer cannot be read.
    #[error("RabbitMQ's management API: {}", http_client::with_cause(.0))]
    Http(#[from] reqwest::Error),
}

/// A policy that changes what a queue promises.
#[derive(Debug, PartialEq, Eq)]
pub struct HarmfulPolicy {
    /// The queue.
    pub queue: String,
    /// The policy's name.
    pub policy: String,
    /// What it sets, and what that does.
    pub effect: String,
}

impl fmt::Display for HarmfulPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy `{}` on `{}` has {}", self.policy, self.queue, self.effect)
    }
}

/// A queue, as `GET /api/queues/{vhost}` describes it (RabbitMQ's documentation, "HTTP API Reference").
#[derive(Deserialize)]
struct Queue {
    name: String,
    policy: Option<String>,
    #[serde(default)]
    effective_policy_definition: Value,
}

/// The policies by which a queue of `broker` would lose messages or refuse them early, by the API at `url`, which may have its certificate of
/// the same authorities.
pub async fn harmful_policies(
    url: &SecretString,
    broker: &BrokerSettings,
) -> Result<Vec<HarmfulPolicy>, ManagementError> {
    let (vhost, topology) = (broker.vhost(), &broker.topology);
    let mut address = reqwest::Url::parse(url.expose_secret()).map_err(|_| ManagementError::Url)?;
    let (user, password) = (address.username().to_owned(), address.password().map(ToOwned::to_owned));
    address.path_segments_mut().map_err(|()| ManagementError::Url)?.pop_if_empty().extend(["api", "queues", &vhost]);
    let (without_user, without_password) = (address.set_username(""), address.set_password(None));
    without_user.and(without_password).map_err(|()| ManagementError::Url)?;
    let authorities = broker.address.authorities.as_ref().map(Authorities::as_pem);
    let client = http_client::builder_trusting(TIMEOUT, authorities)?.build()?;
    let response = client.get(address).basic_auth(user, password).send().await?.error_for_status()?;
    let queues: Vec<Queue> = response.json().await.map_err(reqwest::Error::without_url)?;
    let ours = topology.routes();
    let of_ours =
        queues.iter().filter_map(|queue| Some((ours.iter().find(|route| route.to_string() == queue.name)?, queue)));
    Ok(of_ours.flat_map(|(route, queue)| harm(*route, queue, topology)).collect())
}

fn harm(route: Route, queue: &Queue, topology: &Topology) -> Vec<HarmfulPolicy> {
    let none = Map::new();
    let definition = queue.effective_policy_definition.as_object().unwrap_or(&none);
    let effect = |(key, value): (&String, &Value)| effect(route, key, value, topology);
    let policy = queue.policy.clone().unwrap_or_default();
    let found = definition.iter().filter_map(effect);
    found.map(|effect| HarmfulPolicy { queue: queue.name.clone(), policy: policy.clone(), effect }).collect()
}

/// What a key of a policy does to a queue, if it does harm.
fn effect(route: Route, key: &str, value: &Value, topology: &Topology) -> Option<String> {
    let number = value.as_u64();
    let does = match key {
        "overflow" if value != "reject-publish" => "a full queue drops messages",
        "max-length" if matches!(route, Route::Queue(_)) && number >= Some(topology.max_queue_length.into()) => {
            return None;
        }
        "max-length" | "max-length-bytes" => "the queue refuses messages early",
        "message-ttl" => "messages are dropped or moved on after this time",
        "expires" => "an unused queue is deleted with its messages",
        "delivery-limit" => "messages are parked after another number of deliveries",
        "dead-letter-exchange" | "dead-letter-routing-key" | "dead-letter-strategy" => "messages go to another queue",
        _ => return None,
    };
    Some(format!("{key} = {value}: {does}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Queue, harm};
    use crate::{
        retry_schedule::RetrySchedule,
        route::{Route, Stage},
        topology::Topology,
    };

    fn effects(definition: Value) -> Vec<String> {
        let retry_schedule = RetrySchedule::new(vec![std::time::Duration::from_secs(10)], 3).expect("a schedule");
        let topology = Topology { retry_schedule, delivery_limit: 20, max_queue_length: 1_000 };
        let policy = Some("house rule".to_owned());
        let queue = Queue { name: "leadline.events".to_owned(), policy, effective_policy_definition: definition };
        harm(Route::Queue(Stage::Events), &queue, &topology).into_iter().map(|harmful| harmful.effect).collect()
    }

    #[test]
    fn a_policy_is_harmful_when_it_loses_refuses_or_diverts_messages() {
        let expected = [
            "max-length = 5: the queue refuses messages early",
            "overflow = \"drop-head\": a full queue drops messages",
        ];
        assert_eq!(effects(json!({"max-length": 5, "overflow": "drop-head"})), expected);
        assert_eq!(effects(json!({"message-ttl": 1_000})).len(), 1);
        // RabbitMQ says nothing in three ways.
        for harmless in [json!({}), json!([]), Value::Null] {
            assert_eq!(effects(harmless), Vec::<String>::new());
        }
        assert_eq!(
            effects(json!({"max-length": 5_000, "overflow": "reject-publish", "queue-leader-locator": "balanced"})),
            Vec::<String>::new()
        );
    }
}
