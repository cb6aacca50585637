//! Findings about a playbook file, each with its line.

use std::{fmt, ops::Range, ops::RangeInclusive};

use toml::Spanned;

use crate::templates::TemplateError;

/// One thing that is wrong with a playbook file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookFinding {
    /// The file, under the name that the caller gave.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for PlaybookFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Everything that is wrong with playbook files.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PlaybookFindings(pub Vec<PlaybookFinding>);

/// Collects the findings about one file.
pub(super) struct Checker<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    /// Properties that no playbook may write.
    pub(super) protected: &'a [String],
    pub(super) findings: Vec<PlaybookFinding>,
}

impl Checker<'_> {
    fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    /// The line of the value at `span`.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.line_of(span.start)
    }

    /// A finding about the value at `span`.
    pub(super) fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.add_line(self.line_of(span.start), message);
    }

    /// A finding about a line, from 1.
    pub(super) fn add_line(&mut self, line: usize, message: impl Into<String>) {
        self.findings.push(PlaybookFinding { file: self.file.to_owned(), line, message: message.into() });
    }

    /// A finding about a line (from 1) of the string at `span`.
    pub(super) fn add_within(&mut self, span: Range<usize>, line: usize, message: impl Into<String>) {
        // The text of a multi-line string begins on the line after its opening quotes.
        let multi_line = self.text[span.clone()].starts_with("\"\"\"\n");
        let first = self.line_of(span.start) + usize::from(multi_line);
        self.add_line(first + line - 1, message);
    }

    /// The result of compiling the template at `span`, or a finding.
    pub(super) fn template<T>(
        &mut self,
        key: &str,
        span: &Range<usize>,
        result: Result<T, TemplateError>,
    ) -> Option<T> {
        result.map_err(|error| self.add_within(span.clone(), error.line, format!("{key}: {}", error.message))).ok()
    }

    /// Checks a name against HubSpot's rule for internal names of properties, which holds for the names in playbooks,
    /// too: lower-case letters, digits and underscores, a letter first.
    pub(super) fn internal_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !(starts && rest) {
            let message =
                format!("`{text}` is not a valid name: use lower-case letters, digits and `_`, a letter first");
            self.add(name.span(), message);
        }
    }

    /// Checks a number against the range that is allowed for its key.
    pub(super) fn within(&mut self, value: &Spanned<usize>, range: RangeInclusive<usize>, key: &str) {
        if !range.contains(value.get_ref()) {
            let message = format!("{key} = {} is not within {}–{}", value.get_ref(), range.start(), range.end());
            self.add(value.span(), message);
        }
    }

    /// A number of records or engagements, which must be within 1–100; `default` if the key is absent.
    pub(super) fn bounded(&mut self, value: Option<&Spanned<usize>>, default: usize, key: &str) -> usize {
        value.map_or(default, |value| {
            self.within(value, 1..=100, key);
            *value.get_ref()
        })
    }
}
