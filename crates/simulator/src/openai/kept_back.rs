//! Values that must never arrive at the model, whatever the form in which they are sent.

use serde_json::Value;

/// Values that must never arrive, and those that did.
#[derive(Debug, Default)]
pub(crate) struct KeptBack {
    values: Vec<String>,
    arrived: Vec<String>,
}

impl KeptBack {
    /// Watches for these values, too.
    pub(crate) fn watch(&mut self, values: Vec<String>) {
        self.values.extend(values);
    }

    /// The values that arrived although they must not, each time.
    pub(crate) fn arrived(&self) -> &[String] {
        &self.arrived
    }

    /// Looks for the values in a request, and says whether there is one.
    pub(crate) fn is_in(&mut self, body: &[u8]) -> bool {
        if self.values.is_empty() {
            return false;
        }
        let forms = forms(body);
        let arrives = |value: &&String| {
            let lower = value.to_lowercase();
            let digits = squeezed(&lower);
            let is_number = digits.chars().filter(char::is_ascii_digit).count() >= 7;
            forms.iter().any(|form| form.contains(&lower) || (is_number && squeezed(form).contains(&digits)))
        };
        let arrived: Vec<_> = self.values.iter().filter(arrives).cloned().collect();
        let is_any = !arrived.is_empty();
        self.arrived.extend(arrived);
        is_any
    }
}

/// The request as it is, and its texts as they are read: the data in them consists of JSON strings itself. In lower case.
fn forms(body: &[u8]) -> Vec<String> {
    let mut forms = vec![String::from_utf8_lossy(body).to_lowercase()];
    let mut pending = vec![serde_json::from_slice::<Value>(body).unwrap_or_default()];
    while let Some(value) = pending.pop() {
        match value {
            Value::String(text) => {
                forms.push(text.to_lowercase());
                let inner = text.lines().filter_map(|line| {
                    let json = line.find('"').map_or(line, |start| &line[start..]);
                    serde_json::from_str::<String>(json).ok()
                });
                forms.extend(inner.map(|text| text.to_lowercase()));
            }
            Value::Array(items) => pending.extend(items),
            Value::Object(fields) => pending.extend(fields.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    forms
}

/// Without what people put between the digits of a number.
fn squeezed(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace() && !"().-/·–‑".contains(*character)).collect()
}

#[cfg(test)]
mod tests {
    use super::KeptBack;

    #[test]
    fn a_value_is_seen_in_whatever_form_it_arrives() {
        for (value, body) in [
            ("ada@marsh.test", r#"{"messages":[{"content":"to ADA@Marsh.test"}]}"#),
            ("+49 30 1234567", r#"{"input":[{"content":"\"call (30) +49-30-123 45 67\""}]}"#),
            ("ada\nmarsh", r#"{"content":"note: \"x Ada\\nMarsh\""}"#),
        ] {
            let mut kept_back = KeptBack::default();
            kept_back.watch(vec![value.to_owned()]);
            assert!(kept_back.is_in(body.as_bytes()) && !kept_back.is_in(b"{}"), "{value}");
            assert_eq!(kept_back.arrived(), [value]);
        }
    }
}
