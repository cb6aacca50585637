//! Gathering what is wrong with a playbook file, each with its line.

use std::{fmt, ops::Range};

use toml::Spanned;

use crate::TemplateError;

/// One thing that is wrong with a playbook file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as the caller named it.
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Everything that is wrong with a playbook file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Findings(pub Vec<Finding>);

pub(super) struct Checker<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) protected: &'a [String],
    pub(super) findings: Vec<Finding>,
}

impl Checker<'_> {
    fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.add_line(self.line_of(span.start), message);
    }

    pub(super) fn add_line(&mut self, line: usize, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), line, message: message.into() });
    }

    /// Something wrong on `line` (from 1) of the multi-line string at `span`.
    pub(super) fn add_within(&mut self, span: Range<usize>, line: usize, message: impl Into<String>) {
        // A multi-line string begins on the line after its opening quotes.
        let multi_line = self.text[span.clone()].starts_with("\"\"\"\n");
        let first = self.line_of(span.start) + usize::from(multi_line);
        self.add_line(first + line - 1, message);
    }

    pub(super) fn template<T>(&mut self, what: &str, at: &Range<usize>, result: Result<T, TemplateError>) -> Option<T> {
        result.map_err(|error| self.add_within(at.clone(), error.line, format!("{what}: {}", error.message))).ok()
    }

    /// HubSpot's rule for internal names: lower case, digits, underscore, first a letter.
    pub(super) fn property_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !(starts && rest) {
            self.add(
                name.span(),
                format!("`{text}` is no HubSpot property name: lower case, digits, underscore, first a letter"),
            );
        }
    }

    pub(super) fn within(&mut self, value: &Spanned<usize>, range: std::ops::RangeInclusive<usize>, key: &str) {
        if !range.contains(value.get_ref()) {
            let message = format!("{key} = {} is not within {}–{}", value.get_ref(), range.start(), range.end());
            self.add(value.span(), message);
        }
    }
}
