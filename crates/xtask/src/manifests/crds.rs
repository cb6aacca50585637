//! The schemas of resources that operators define.

use std::{collections::BTreeMap, env, path::PathBuf};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use testbed::workspace;

use super::{pods::text, tools::Tools};

/// Names the folder with the definitions (`deploy/*.yaml` in it); without it, a folder beside the workspace is tried.
const SPECS_VARIABLE: &str = "LEADLINE_SPECS";

/// The groups that Kubernetes itself defines, whose schemas kubernetes-validate has.
const OF_KUBERNETES: [&str; 5] = ["apps", "autoscaling", "batch", "networking.k8s.io", "policy"];

/// The schema of each kind, by API version and kind.
pub(super) struct Crds(BTreeMap<(String, String), Value>);

impl Crds {
    /// The definitions that are there.
    pub(super) async fn read(tools: &Tools) -> Result<Self> {
        let specs = env::var_os(SPECS_VARIABLE).map_or_else(
            || workspace::root().map(|root| root.join("../shared/reference/specs")),
            |path| Ok(path.into()),
        )?;
        let mut schemas = BTreeMap::new();
        for file in yaml_files(&specs.join("deploy")) {
            for crd in tools.documents(&file).await?.into_iter().filter(|crd| crd["kind"] == "CustomResourceDefinition")
            {
                for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
                    let mut schema = version["schema"]["openAPIV3Schema"].clone();
                    refuse_unknown_fields(&mut schema);
                    // Checked by Kubernetes itself.
                    schema["properties"]["metadata"] = json!({"type": "object"});
                    let api_version = format!("{}/{}", text(&crd["spec"]["group"]), text(&version["name"]));
                    schemas.insert((api_version, text(&crd["spec"]["names"]["kind"]).to_owned()), schema);
                }
            }
        }
        Ok(Self(schemas))
    }

    /// What breaks a schema. Kinds whose definition is not there are named on standard error: they are not checked.
    pub(super) fn findings(&self, resources: &[Value]) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for resource in resources {
            let (api_version, kind) = (text(&resource["apiVersion"]).to_owned(), text(&resource["kind"]).to_owned());
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            if group.is_empty() || OF_KUBERNETES.contains(&group) {
                continue;
            }
            let name = format!("{kind} {}", text(&resource["metadata"]["name"]));
            let Some(schema) = self.0.get(&(api_version, kind)) else {
                eprintln!("  – {name}: not checked, its definition is not here");
                continue;
            };
            let validator = jsonschema::draft7::new(schema).map_err(|error| anyhow!("{name}: {error}"))?;
            let wrong = validator.iter_errors(resource);
            findings.extend(wrong.map(|error| format!("{name}: {}: {error}", error.instance_path())));
        }
        Ok(findings)
    }
}

fn yaml_files(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// Kubernetes drops fields that a schema does not know; here they are mistakes.
fn refuse_unknown_fields(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let is_open = map.contains_key("additionalProperties")
                || map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            if map.get("properties").is_some_and(Value::is_object) && !is_open {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            map.values_mut().for_each(refuse_unknown_fields);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(refuse_unknown_fields),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crds() -> Crds {
        let mut schema = json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        }});
        refuse_unknown_fields(&mut schema);
        Crds(BTreeMap::from([(("example.com/v1".to_owned(), "Cluster".to_owned()), schema)]))
    }

    #[test]
    fn a_field_that_the_definition_does_not_know_is_found() {
        let resource = |spec: Value| {
            vec![json!({"apiVersion": "example.com/v1", "kind": "Cluster", "metadata": {"name": "one"}, "spec": spec})]
        };
        assert_eq!(crds().findings(&resource(json!({"replicas": 3}))).expect("schemas"), Vec::<String>::new());
        assert_eq!(crds().findings(&resource(json!({"replica": 3}))).expect("schemas").len(), 1);
        assert_eq!(crds().findings(&resource(json!({"replicas": "3"}))).expect("schemas").len(), 1);
    }
}
