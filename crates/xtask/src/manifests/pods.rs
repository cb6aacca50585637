//! What no schema knows: whether pods have the files, ports and times that their programs need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::workspace;

use super::tools::Tools;

const PREFIX: &str = "LEADLINE__";

/// ConfigMaps that the operator makes: their files cannot be known.
const MADE_BY_OTHERS: [&str; 1] = ["leadline-ca"];

/// What the repository says about settings and secrets.
pub(super) struct Known {
    /// Every setting, like `broker.url`.
    settings: BTreeSet<String>,
    defaults: toml::Table,
    /// The keys of the example secret.
    secrets: BTreeSet<String>,
}

impl Known {
    pub(super) async fn read(tools: &Tools, kubernetes: &Path) -> Result<Self> {
        let file = workspace::root()?.join("deploy/leadline.toml");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let secret = tools.documents(&kubernetes.join("secret.example.yaml")).await?;
        let secrets =
            secret.iter().flat_map(|secret| object(&secret["stringData"])).map(|(key, _)| key.clone()).collect();
        Ok(Self { settings: settings_of(&text), defaults: toml::from_str(&text)?, secrets })
    }

    fn is_setting(&self, key: &str) -> bool {
        key.starts_with("notify.") || self.settings.contains(key)
    }
}

/// Every setting that the file names. Those without a default are comments, like `# token = ""`.
fn settings_of(text: &str) -> BTreeSet<String> {
    let (mut settings, mut section) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            name.clone_into(&mut section);
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ") {
            settings.insert(format!("{section}.{name}"));
        }
    }
    settings
}

/// Everything that is wrong with the pods among the resources.
pub(super) fn findings(resources: &[Value], known: &Known) -> Vec<String> {
    let config_maps: BTreeMap<_, _> = resources
        .iter()
        .filter(|resource| resource["kind"] == "ConfigMap")
        .map(|resource| (text(&resource["metadata"]["name"]), &resource["data"]))
        .collect();
    let mut findings = Vec::new();
    for resource in resources.iter().filter(|resource| resource["kind"] == "Deployment" || resource["kind"] == "Job") {
        let pod = &resource["spec"]["template"]["spec"];
        for container in list(&pod["initContainers"]).chain(list(&pod["containers"])) {
            let checked = Container { pod, spec: container, config_maps: &config_maps, known };
            let name = text(&resource["metadata"]["name"]);
            findings.extend(checked.findings().into_iter().map(|finding| format!("{name}: {finding}")));
        }
    }
    findings
}

struct Container<'a> {
    pod: &'a Value,
    spec: &'a Value,
    config_maps: &'a BTreeMap<&'a str, &'a Value>,
    known: &'a Known,
}

impl<'a> Container<'a> {
    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if !text(&self.spec["image"]).contains("@sha256:") {
            findings.push("its image is not named by a digest".to_owned());
        }
        let environment = self.environment(&mut findings);
        let files = self.files(&mut findings);
        for (variable, value) in &environment {
            let Some(setting) = variable.strip_prefix(PREFIX) else { continue };
            let (setting, is_file) = setting.strip_suffix("_FILE").map_or((setting, false), |setting| (setting, true));
            let key = setting.replace("__", ".").to_lowercase();
            if !self.known.is_setting(&key) {
                findings.push(format!("{variable} is no setting"));
            }
            if is_file && !files.contains(*value) {
                findings.push(format!("{variable} names {value}, which is not mounted"));
            }
        }
        findings.extend(self.probes(&environment));
        findings.extend(self.grace(&environment));
        findings
    }

    /// The container's variables: those of ConfigMaps, then its own.
    fn environment(&self, findings: &mut Vec<String>) -> BTreeMap<&'a str, &'a str> {
        let mut environment = BTreeMap::new();
        for source in list(&self.spec["envFrom"]) {
            let name = text(&source["configMapRef"]["name"]);
            match self.config_maps.get(name) {
                Some(data) => environment.extend(object(data).map(|(name, value)| (name.as_str(), text(value)))),
                None => findings.push(format!("there is no ConfigMap {name}")),
            }
        }
        environment.extend(list(&self.spec["env"]).map(|entry| (text(&entry["name"]), text(&entry["value"]))));
        environment
    }

    /// The files that are mounted.
    fn files(&self, findings: &mut Vec<String>) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for mount in list(&self.spec["volumeMounts"]) {
            let Some(volume) = list(&self.pod["volumes"]).find(|volume| volume["name"] == mount["name"]) else {
                findings.push(format!("there is no volume {}", mount["name"]));
                continue;
            };
            let folder = text(&mount["mountPath"]);
            for item in list(&volume["secret"]["items"]) {
                if !self.known.secrets.contains(text(&item["key"])) {
                    findings.push(format!("secret.example.yaml has no key {}", item["key"]));
                }
                files.insert(format!("{folder}/{}", text(&item["path"])));
            }
            let Some(name) = volume["configMap"]["name"].as_str() else { continue };
            match self.config_maps.get(name) {
                Some(data) => files.extend(object(data).map(|(file, _)| format!("{folder}/{file}"))),
                None if MADE_BY_OTHERS.contains(&name) => {}
                None => findings.push(format!("there is no ConfigMap {name}")),
            }
        }
        files
    }

    /// Each probe asks a port that the container names, and each such port is the one that the settings open.
    fn probes(&self, environment: &BTreeMap<&str, &str>) -> Vec<String> {
        let mut findings = Vec::new();
        let ports: BTreeMap<_, _> =
            list(&self.spec["ports"]).map(|port| (text(&port["name"]), port["containerPort"].to_string())).collect();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let Some(port) = self.spec[probe]["httpGet"]["port"].as_str() else { continue };
            if !ports.contains_key(port) {
                findings.push(format!("{probe} asks the port {port}, which is not open"));
            }
        }
        for (port, variable, section) in
            [("admin", "LEADLINE__ADMIN__LISTEN", "admin"), ("public", "LEADLINE__RECEIVER__LISTEN", "receiver")]
        {
            let default = self.known.defaults[section]["listen"].as_str().unwrap_or_default();
            let listen = environment.get(variable).copied().unwrap_or(default);
            if let Some(number) = ports.get(port).filter(|number| listen != format!("0.0.0.0:{number}")) {
                findings.push(format!("its port {port} is {number}, and {section}.listen is {listen}"));
            }
        }
        findings
    }

    /// A service that is told to stop has the time that its settings give it.
    fn grace(&self, environment: &BTreeMap<&str, &str>) -> Option<String> {
        let pod = self.pod["terminationGracePeriodSeconds"].as_i64()?;
        let given = environment.get("LEADLINE__BROKER__SHUTDOWN_GRACE_SECONDS").and_then(|value| value.parse().ok());
        let service = given.or_else(|| self.known.defaults["broker"]["shutdown_grace_seconds"].as_integer())?;
        (pod < service + 10).then(|| format!("has {pod} s to stop, and broker.shutdown_grace_seconds is {service}"))
    }
}

/// The items of a list; of anything else, none.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The members of an object; of anything else, none.
pub(crate) fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The text; of anything else, an empty one.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Known {
        let text = "[broker]\n# url = \"\"\nshutdown_grace_seconds = 25\n[admin]\nlisten = \"127.0.0.1:9090\"\n[receiver]\nlisten = \"0.0.0.0:8080\"\n";
        Known {
            settings: settings_of(text),
            defaults: toml::from_str(text).expect("TOML"),
            secrets: BTreeSet::from(["broker-url".to_owned()]),
        }
    }

    /// A Deployment without fault, and its ConfigMap.
    fn resources() -> Vec<Value> {
        vec![
            json!({"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {
                "LEADLINE__BROKER__URL_FILE": "/run/secrets/broker-url", "LEADLINE__ADMIN__LISTEN": "0.0.0.0:9090",
            }}),
            json!({"kind": "Deployment", "metadata": {"name": "writer"}, "spec": {"template": {"spec": {
                "terminationGracePeriodSeconds": 45,
                "containers": [{
                    "image": "registry.example.com/leadline@sha256:00",
                    "envFrom": [{"configMapRef": {"name": "settings"}}],
                    "env": [{"name": "LEADLINE__NOTIFY__SALES", "value": "https://hooks.example.com"}],
                    "ports": [{"name": "admin", "containerPort": 9090}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
                    "volumeMounts": [{"name": "secrets", "mountPath": "/run/secrets"}],
                }],
                "volumes": [{"name": "secrets", "secret": {"items": [{"key": "broker-url", "path": "broker-url"}]}}],
            }}}}),
        ]
    }

    /// What is found when the value at `pointer` of the Deployment is another one.
    fn found_with(pointer: &str, value: Value) -> Vec<String> {
        let mut resources = resources();
        *resources[1].pointer_mut(&format!("/spec/template/spec{pointer}")).expect("a value") = value;
        findings(&resources, &known())
    }

    #[test]
    fn a_deployment_without_fault_has_no_findings() {
        assert_eq!(findings(&resources(), &known()), Vec::<String>::new());
    }

    #[test]
    fn what_a_program_would_miss_is_found() {
        for (pointer, value, expected) in [
            ("/containers/0/image", json!("leadline:0.1.0"), "writer: its image is not named by a digest"),
            ("/containers/0/env/0/name", json!("LEADLINE__BROKER__URI"), "writer: LEADLINE__BROKER__URI is no setting"),
            ("/containers/0/envFrom/0/configMapRef/name", json!("gone"), "writer: there is no ConfigMap gone"),
            (
                "/volumes/0/secret/items/0/path",
                json!("url"),
                "writer: LEADLINE__BROKER__URL_FILE names /run/secrets/broker-url, which is not mounted",
            ),
            ("/volumes/0/secret/items/0/key", json!("url"), "writer: secret.example.yaml has no key \"url\""),
            ("/volumes/0/name", json!("other"), "writer: there is no volume \"secrets\""),
            (
                "/containers/0/readinessProbe/httpGet/port",
                json!("public"),
                "writer: readinessProbe asks the port public, which is not open",
            ),
            (
                "/containers/0/ports/0/containerPort",
                json!(9091),
                "writer: its port admin is 9091, and admin.listen is 0.0.0.0:9090",
            ),
            (
                "/terminationGracePeriodSeconds",
                json!(30),
                "writer: has 30 s to stop, and broker.shutdown_grace_seconds is 25",
            ),
        ] {
            let found = found_with(pointer, value);
            assert!(found.iter().any(|finding| finding == expected), "{pointer}: {found:?}");
        }
    }
}
