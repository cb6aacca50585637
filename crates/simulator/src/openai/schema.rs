//! The strict subset of JSON schema that OpenAI's structured outputs accept.

use serde_json::Value;

/// The most levels of nesting (OpenAI's documentation of structured outputs).
const MAX_DEPTH: usize = 10;

/// The keywords that every supported model accepts.
const KNOWN: [&str; 10] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "description",
    "enum",
    "const",
    "items",
    "anyOf",
    "$defs",
];

/// Why OpenAI refuses `schema` with `strict: true`; `None` when it accepts it.
pub(super) fn strict_flaw(schema: &Value) -> Option<String> {
    if schema["type"] != "object" {
        return Some("schema must be a JSON Schema of 'type: \"object\"'".to_owned());
    }
    let mut totals = Totals::default();
    flaw(schema, "()", 1, &mut totals).or_else(|| totals.flaw())
}

#[derive(Default)]
struct Totals {
    properties: usize,
    enum_values: usize,
    characters: usize,
}

impl Totals {
    fn flaw(&self) -> Option<String> {
        let bounds = [
            ("properties", self.properties, 5_000),
            ("enum values", self.enum_values, 1_000),
            ("characters of names and enum values", self.characters, 120_000),
        ];
        let (what, found, max) = bounds.into_iter().find(|(_, found, max)| found > max)?;
        Some(format!("{found} {what}, at most {max} are allowed"))
    }
}

fn flaw(schema: &Value, place: &str, depth: usize, totals: &mut Totals) -> Option<String> {
    let object = schema.as_object()?;
    if depth > MAX_DEPTH {
        return Some(format!("In context={place}, more than {MAX_DEPTH} levels of nesting"));
    }
    if let Some(keyword) = object.keys().find(|keyword| !KNOWN.contains(&keyword.as_str())) {
        return Some(format!("In context={place}, '{keyword}' is not permitted"));
    }
    if let Some(values) = schema["enum"].as_array() {
        totals.enum_values += values.len();
        totals.characters += values.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
    }
    let is_object =
        schema["type"] == "object" || schema["type"].as_array().is_some_and(|t| t.iter().any(|t| t == "object"));
    if is_object {
        if schema["additionalProperties"] != false {
            return Some(format!(
                "In context={place}, 'additionalProperties' is required to be supplied and to be false"
            ));
        }
        let names: Vec<_> = schema["properties"].as_object().map(|p| p.keys().collect()).unwrap_or_default();
        totals.properties += names.len();
        totals.characters += names.iter().map(|name| name.len()).sum::<usize>();
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if let Some(missing) = names.iter().find(|name| !required.contains(&name.as_str())) {
            return Some(format!(
                "In context={place}, 'required' is required to be supplied and to be an array including every key in properties. Missing '{missing}'"
            ));
        }
        if let Some(extra) = required.iter().find(|name| !names.iter().any(|known| known == *name)) {
            return Some(format!("In context={place}, extra required key '{extra}' supplied"));
        }
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let inner = properties.map(|(name, inner)| (format!("{place}.{name}"), inner));
    let items = schema.get("items").map(|inner| (format!("{place}.items"), inner));
    let any_of = schema["anyOf"].as_array().into_iter().flatten().map(|inner| (format!("{place}.anyOf"), inner));
    for (place, inner) in inner.chain(items).chain(any_of) {
        if let Some(flaw) = flaw(inner, &place, depth + 1, totals) {
            return Some(flaw);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::strict_flaw;

    #[test]
    fn the_strict_subset_is_enforced() {
        let good = json!({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}, "required": ["a"], "additionalProperties": false});
        assert_eq!(strict_flaw(&good), None);
        let broken = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut schema = good.clone();
            change(&mut schema);
            strict_flaw(&schema).expect("a flaw")
        };
        assert!(broken(&|s| s["additionalProperties"] = json!(true)).contains("additionalProperties"));
        assert!(broken(&|s| s["required"] = json!([])).contains("Missing 'a'"));
        assert!(broken(&|s| s["type"] = json!("array")).contains("type"));
        assert!(broken(&|s| s["properties"]["a"]["minimum"] = json!(1)).contains("'minimum' is not permitted"));
        assert!(
            broken(&|s| s["properties"]["a"] = json!({"type": "object", "properties": {}}))
                .contains("additionalProperties")
        );
    }
}
