//! Reading the settings from the file and the environment.

use std::{collections::HashMap, path::Path};

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Value, ValueKind};

use crate::{error::SettingsFinding, tables::Settings};

const PREFIX: &str = "LEADLINE__";
const FILE_SUFFIX: &str = "_FILE";

/// Reads the settings, or reports every setting that is unknown or has a wrong type.
pub(super) fn read(file: Option<&Path>, environment: Vec<(String, String)>) -> Result<Settings, Vec<SettingsFinding>> {
    let mut findings = Vec::new();
    let variables = with_files(environment, &mut findings);
    // `config` reports only "the environment" as a value's origin; people need the variable's name.
    let names: HashMap<String, String> =
        variables.keys().map(|name| (name[PREFIX.len()..].replace("__", ".").to_lowercase(), name.clone())).collect();
    let mut builder = Config::builder();
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => builder = builder.add_source(File::from_str(&text, FileFormat::Toml)),
            Err(error) => findings.push(finding("settings file", format!("cannot read {}: {error}", path.display()))),
        }
    }
    let source = Environment::with_prefix("LEADLINE")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("broker.retry_delays_seconds")
        .with_list_parse_key("hubspot.signature_versions")
        .with_list_parse_key("inference.protected_properties")
        .source(Some(variables));
    let merged = match builder.add_source(source).build() {
        Ok(merged) => merged,
        Err(error) => {
            let place = file.map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
            findings.push(finding(&place, error.to_string()));
            return Err(findings);
        }
    };
    let root: Map<String, Value> = merged.cache.clone().into_table().unwrap_or_default();
    let mut leaves = Vec::new();
    flatten("", root, &mut leaves);
    // serde stops at the first error. Reading each value alone, over the defaults, finds them all.
    for (key, value) in leaves {
        let origin = names.get(&key).cloned().or_else(|| file.map(|path| path.display().to_string()));
        if let Err(error) = check_alone(&key, value) {
            findings.push(SettingsFinding { key, origin, message: error.to_string() });
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    merged.try_deserialize().map_err(|error| vec![finding("settings", error.to_string())])
}

fn finding(key: &str, message: String) -> SettingsFinding {
    SettingsFinding { key: key.to_owned(), origin: None, message }
}

/// The variables that begin with [`PREFIX`], with each `…_FILE` replaced by the content of the file that it names.
fn with_files(environment: Vec<(String, String)>, findings: &mut Vec<SettingsFinding>) -> Map<String, String> {
    let (files, mut variables): (Vec<_>, Map<String, String>) = {
        let with_prefix = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let (files, plain): (Vec<_>, Vec<_>) = with_prefix.partition(|(name, _)| name.ends_with(FILE_SUFFIX));
        (files, plain.into_iter().collect())
    };
    for (name, path) in files {
        let key = name[PREFIX.len()..].replace("__", ".").to_lowercase();
        let target = name.trim_end_matches(FILE_SUFFIX).to_owned();
        if variables.contains_key(&target) {
            findings.push(finding(&key, format!("given twice, as {target} and as {name}")));
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => drop(variables.insert(target, text.trim_end().to_owned())),
            Err(error) => findings.push(finding(&key, format!("cannot read {path}: {error}"))),
        }
    }
    variables
}

/// Collects all values below `table` with their keys, like `broker.url`.
fn flatten(prefix: &str, table: Map<String, Value>, leaves: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) => flatten(&key, inner, leaves),
            _ => leaves.push((key, value)),
        }
    }
}

/// Whether this one value is valid on its own.
///
/// # Errors
/// What is wrong, without the value: it may be a secret.
fn check_alone(key: &str, value: Value) -> Result<(), InvalidValue> {
    let config = Config::builder().set_override(key, value)?.build()?;
    config.try_deserialize::<Settings>()?;
    Ok(())
}

/// Why a value is invalid, without the value.
#[derive(Debug, thiserror::Error)]
enum InvalidValue {
    #[error("expected {0}")]
    Type(&'static str),
    /// For an unknown setting: serde's text names it and the known ones.
    #[error("{0}")]
    Other(ConfigError),
}

impl From<ConfigError> for InvalidValue {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Type { expected, .. } => Self::Type(expected),
            ConfigError::At { error, .. } => Self::from(*error),
            other => Self::Other(other),
        }
    }
}
