//! Whether traces reach the collector that the settings name: a policy that forgets it drops them without a word.

use serde_json::Value;

use super::pods::{list, object};

const ENDPOINT: &str = "/data/LEADLINE__TELEMETRY__OTLP_ENDPOINT";

/// The services that are told to send traces, and are not let out to the collector.
pub(super) fn findings(resources: &[Value]) -> Vec<String> {
    let of_kind = |kind: &'static str| resources.iter().filter(move |resource| resource["kind"] == kind);
    let Some(endpoint) = of_kind("ConfigMap").find_map(|config_map| config_map.pointer(ENDPOINT)?.as_str()) else {
        return Vec::new();
    };
    let port = endpoint.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let reaches = |policy: &Value, pod: &Value| {
        let rules = list(&policy["spec"]["egress"]);
        let ports: Vec<_> = rules.flat_map(|rule| list(&rule["ports"])).collect();
        selects(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
            && ports.iter().any(|entry| entry["port"].as_u64() == port.map(u64::from))
    };
    of_kind("Deployment")
        .filter(|deployment| !of_kind("NetworkPolicy").any(|policy| reaches(policy, &deployment["spec"]["template"])))
        .map(|deployment| format!("{}: no policy lets traces out to {endpoint}", deployment["metadata"]["name"]))
        .collect()
}

/// Whether the selector is for pods with these labels. Other operators than `In` are for none.
fn selects(selector: &Value, labels: &Value) -> bool {
    let is_in = |expression: &Value| {
        let label = expression["key"].as_str().map(|key| &labels[key]);
        let values = expression["values"].as_array();
        expression["operator"] == "In" && values.zip(label).is_some_and(|(values, label)| values.contains(label))
    };
    let mut exact = object(&selector["matchLabels"]);
    exact.all(|(key, value)| labels[key] == *value) && list(&selector["matchExpressions"]).all(is_in)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_that_may_not_reach_its_collector_is_found() {
        let service = |name: &str| {
            json!({"kind": "Deployment", "metadata": {"name": name},
                   "spec": {"template": {"metadata": {"labels": {"app": name}}}}})
        };
        let policy = json!({"kind": "NetworkPolicy", "spec": {
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["writer"]}]},
            "egress": [{"ports": [{"protocol": "TCP", "port": 4318}]}],
        }});
        let mut resources = vec![service("writer"), service("inference"), policy];
        assert_eq!(findings(&resources), Vec::<String>::new(), "no traces, no collector");
        let endpoint = "http://otel-collector.monitoring.svc:4318";
        resources.push(json!({"kind": "ConfigMap", "data": {"LEADLINE__TELEMETRY__OTLP_ENDPOINT": endpoint}}));
        assert_eq!(findings(&resources), [format!("\"inference\": no policy lets traces out to {endpoint}")]);
        resources[2]["spec"]["egress"][0]["ports"][0]["port"] = json!(4317);
        assert_eq!(findings(&resources).len(), 2);
    }
}
