//! What a command found, of several kinds: for people facts and tables under titles, for programs one JSON object.

use serde_json::{Map, Value};

use super::{Cell, Format, Table, json, line, section};

/// Facts and tables, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Page {
    parts: Vec<(&'static str, Part)>,
}

#[derive(Debug)]
enum Part {
    /// A value, and the sentence that tells it.
    Fact(Cell, String),
    /// A table and its title.
    Section(String, Table),
    /// The same, and nothing is said when it has no row.
    OptionalSection(String, Table),
}

impl Page {
    /// A value under a name, and the sentence in which people read it; none when the sentence is empty.
    pub fn fact(mut self, key: &'static str, value: impl Into<Cell>, sentence: impl Into<String>) -> Self {
        self.parts.push((key, Part::Fact(value.into(), sentence.into())));
        self
    }

    /// A table under a name, and its title. That it has no row is said.
    pub fn section(mut self, key: &'static str, title: &str, table: Table) -> Self {
        self.parts.push((key, Part::Section(title.to_owned(), table)));
        self
    }

    /// A table that people see only when it has rows.
    pub fn optional_section(mut self, key: &'static str, title: &str, table: Table) -> Self {
        self.parts.push((key, Part::OptionalSection(title.to_owned(), table)));
        self
    }

    /// All of it as one object.
    pub fn json(&self) -> Value {
        let member = |(key, part): &(&str, Part)| {
            let value = match part {
                Part::Fact(value, _) => value.json(),
                Part::Section(_, table) | Part::OptionalSection(_, table) => table.json(),
            };
            ((*key).to_owned(), value)
        };
        Value::Object(self.parts.iter().map(member).collect::<Map<_, _>>())
    }

    /// Prints it as the format says.
    ///
    /// # Errors
    /// It cannot be serialized.
    pub fn print(&self, format: Format) -> serde_json::Result<()> {
        if format.json {
            return json(&self.json());
        }
        for (_, part) in &self.parts {
            match part {
                Part::Fact(_, sentence) if sentence.is_empty() => {}
                Part::Fact(_, sentence) => line(sentence),
                Part::OptionalSection(_, table) if table.is_empty() => {}
                Part::Section(title, table) | Part::OptionalSection(title, table) => section(title, table, format),
            }
        }
        Ok(())
    }
}
