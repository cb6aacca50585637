//! Reading the settings from the file and the environment.

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Value, ValueKind};

use crate::{
    error::SettingsFinding,
    reload::{ValueFiles, value_of},
    tables::Settings,
};

const PREFIX: &str = "LEADLINE__";
const FILE_SUFFIX: &str = "_FILE";

/// Settings that are lists; in the environment their values are separated by commas.
const LISTS: [&str; 3] =
    ["broker.retry_delays_seconds", "hubspot.signature_versions", "inference.protected_properties"];

/// Settings whose text is a secret, beside those of the table `notify`.
const SECRETS: [&str; 11] = [
    "broker.url",
    "broker.management_url",
    "broker.tls_key",
    "ledger.url",
    "ledger.migrate_url",
    "hubspot.token",
    "hubspot.client_secret",
    "hubspot.client_secret_previous",
    "openai.api_key",
    "receiver.tls_key",
    "review.link_secret",
];

/// Reads the settings, or reports every setting that is unknown or has a wrong type.
pub(super) fn read(file: Option<&Path>, environment: Vec<(String, String)>) -> Result<Settings, Vec<SettingsFinding>> {
    let mut findings = Vec::new();
    let (variables, files) = with_files(environment, &mut findings);
    // `config` reports only "the environment" as a value's origin; people need the variable's name.
    let names: HashMap<String, String> = variables.keys().map(|name| (key_of(name), name.clone())).collect();
    let mut builder = Config::builder();
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => match toml_error_place(&text) {
                None => builder = builder.add_source(File::from_str(&text, FileFormat::Toml)),
                Some(place) => {
                    findings.push(finding(&path.display().to_string(), format!("is not valid TOML at {place}")));
                    return Err(findings);
                }
            },
            Err(error) => findings.push(finding("settings file", format!("cannot read {}: {error}", path.display()))),
        }
    }
    for source in environment_sources(variables) {
        builder = builder.add_source(source);
    }
    let Ok(merged) = builder.build() else {
        // What is wrong is not told: the error's text may quote a value.
        findings.push(finding("settings", "the file and the environment cannot be merged".to_owned()));
        return Err(findings);
    };
    let root: Map<String, Value> = merged.cache.clone().into_table().unwrap_or_default();
    let mut leaves = Vec::new();
    flatten("", root, &mut leaves);
    // serde stops at the first error. Reading each value alone, over the defaults, finds them all.
    for (key, value) in leaves {
        let origin = names.get(&key).cloned().or_else(|| file.map(|path| path.display().to_string()));
        let is_secret = SECRETS.contains(&key.as_str()) || key.starts_with("notify.");
        if is_secret && !matches!(value.kind, ValueKind::String(_)) {
            // TOML's numbers lose their form: a secret 1e3 would become `1000`.
            findings.push(SettingsFinding { key, origin, message: "is no text: put it in quotes".to_owned() });
        } else if let Err(error) = check_alone(&key, value) {
            let message = without_value(&key, &error);
            findings.push(SettingsFinding { key, origin, message });
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let settings: Settings =
        merged.try_deserialize().map_err(|error| vec![finding("settings", InvalidValue::from(error).to_string())])?;
    Ok(Settings { files, ..settings })
}

/// The variables that are settings, as text. Other variables may hold any bytes.
pub(super) fn texts(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Vec<SettingsFinding>> {
    let ours = variables.filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    let (mut texts, mut findings) = (Vec::new(), Vec::new());
    for (name, value) in ours {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (Ok(name), Err(_)) => findings.push(finding(&key_of(&name), format!("{name} is no text in UTF-8"))),
            (Err(_), _) => {
                findings.push(finding(PREFIX, "the name of a variable that begins so is no text in UTF-8".to_owned()));
            }
        }
    }
    if findings.is_empty() { Ok(texts) } else { Err(findings) }
}

/// The setting that a variable is for, like `broker.url`.
fn key_of(variable: &str) -> String {
    variable[PREFIX.len()..].replace("__", ".").to_lowercase()
}

/// The variables as sources. Every value stays text, so that a secret such as `00012345` or `TRUE` is read as it is; where a
/// setting is a number or a boolean, its text is read as one. Lists alone are taken apart.
fn environment_sources(variables: Map<String, String>) -> [Environment; 2] {
    let (lists, texts): (Map<_, _>, Map<_, _>) =
        variables.into_iter().partition(|(name, _)| LISTS.contains(&key_of(name).as_str()));
    let source = || Environment::with_prefix("LEADLINE").prefix_separator("__").separator("__");
    let of_lists = source().try_parsing(true).list_separator(",").source(Some(lists));
    let of_lists = LISTS.iter().fold(of_lists, |source, list| source.with_list_parse_key(list));
    [source().source(Some(texts)), of_lists]
}

/// Where the text is no TOML, by line and column. The parser's own message quotes the line, which may hold a secret.
fn toml_error_place(text: &str) -> Option<String> {
    let error = toml::from_str::<toml::Table>(text).err()?;
    let before = &text[..text.floor_char_boundary(error.span().map_or(0, |span| span.start))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    Some(format!("line {line}, column {column}"))
}

fn finding(key: &str, message: String) -> SettingsFinding {
    SettingsFinding { key: key.to_owned(), origin: None, message }
}

/// The variables, with the values that files hold, and these files.
fn with_files(
    environment: Vec<(String, String)>,
    findings: &mut Vec<SettingsFinding>,
) -> (Map<String, String>, ValueFiles) {
    let mut of_values = ValueFiles::default();
    let (files, mut variables): (Vec<_>, Map<String, String>) = {
        let with_prefix = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let (files, plain): (Vec<_>, Vec<_>) = with_prefix.partition(|(name, _)| name.ends_with(FILE_SUFFIX));
        let plain = plain.into_iter().map(|(name, value)| (name, without_break(&value)));
        // Compose gives an empty variable for one that is not set: `${NAME:-}`.
        (files, plain.filter(|(_, value)| !value.is_empty()).collect())
    };
    for (name, path) in files {
        let key = key_of(&name);
        let target = name.trim_end_matches(FILE_SUFFIX).to_owned();
        if variables.contains_key(&target) {
            findings.push(finding(&key, format!("given twice, as {target} and as {name}")));
            continue;
        }
        let path = PathBuf::from(without_break(&path));
        match value_of(&path) {
            Ok(text) => {
                of_values.0.insert(key_of(&target), path);
                variables.insert(target, text);
            }
            // The path is not printed: it may be the secret itself, given in the place of its file's name.
            Err(error) => findings.push(finding(&key, format!("cannot read the file that {name} names: {error}"))),
        }
    }
    (variables, of_values)
}

/// The value without the line breaks at its end: tools that write secrets often end them with one, whatever they write them to.
pub(crate) fn without_break(value: &str) -> String {
    value.trim_end_matches(['\r', '\n']).to_owned()
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

/// What is wrong with a value, without the value: who gives a setting the value of another one may have given it a secret. The text of an
/// error that is the same for any other value does not quote it: of an unknown setting it names the known ones.
fn without_value(key: &str, error: &InvalidValue) -> String {
    let text = error.to_string();
    let of_another = || check_alone(key, Value::from("?")).err().map(|error| error.to_string());
    let is_told = matches!(error, InvalidValue::Type(_)) || of_another().as_ref() == Some(&text);
    if is_told { text } else { "has none of the values that it takes; deploy/leadline.toml names them".to_owned() }
}

/// Why a value is invalid.
#[derive(Debug, thiserror::Error)]
enum InvalidValue {
    #[error("expected {0}")]
    Type(&'static str),
    /// Its text may quote the value.
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

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use super::{texts, with_files};

    #[test]
    fn bytes_in_variables_of_others_do_not_matter_and_in_ours_they_are_named() {
        let bytes = || OsString::from_vec(vec![0xff, 0xfe]);
        let of = |name: &str, value: OsString| (OsString::from(name), value);
        let others = [of("LESSOPEN", bytes()), of("LEADLINE__BROKER__URL", "amqp://x".into()), (bytes(), "x".into())];
        assert_eq!(texts(others.into_iter()), Ok(vec![("LEADLINE__BROKER__URL".to_owned(), "amqp://x".to_owned())]));
        let mut name = b"LEADLINE__HUBSPOT__".to_vec();
        name.push(0xff);
        let ours = [of("LEADLINE__HUBSPOT__TOKEN", bytes()), (OsString::from_vec(name), "x".into())];
        let findings = texts(ours.into_iter()).expect_err("no text");
        assert_eq!(findings[0].to_string(), "hubspot.token: LEADLINE__HUBSPOT__TOKEN is no text in UTF-8");
        assert_eq!(findings[1].to_string(), "LEADLINE__: the name of a variable that begins so is no text in UTF-8");
    }

    #[test]
    fn a_line_break_after_a_secret_is_not_part_of_it() {
        let variables = vec![("LEADLINE__HUBSPOT__TOKEN".to_owned(), "token\r\n".to_owned())];
        let mut findings = Vec::new();
        assert_eq!(with_files(variables, &mut findings).0["LEADLINE__HUBSPOT__TOKEN"], "token");
        assert_eq!(findings, Vec::new());
    }
}
