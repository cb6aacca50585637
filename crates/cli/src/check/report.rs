//! What the checks found out, for people line by line, for programs as JSON.

use std::{fmt::Display, process::ExitCode};

use crate::print::{self, Table, Tone, column, say};

/// What a check found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Ok,
    /// Allowed, and should be known.
    Warning,
    Problem,
}

impl Finding {
    /// In JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// At the beginning of its line.
    fn shown(self) -> (&'static str, Tone) {
        match self {
            Self::Ok => ("ok       ", Tone::Good),
            Self::Warning => ("warning  ", Tone::Waiting),
            Self::Problem => ("PROBLEM  ", Tone::Bad),
        }
    }
}

/// Prints one line for each check as soon as it is known, or keeps them for the JSON, and counts the problems.
pub struct Report {
    is_json: bool,
    findings: Table,
    checks: usize,
    problems: usize,
}

impl Report {
    /// A report without any check.
    pub fn new(is_json: bool) -> Self {
        let columns = [column("finding", "finding"), column("what", "what"), column("detail", "detail")];
        Self { is_json, findings: Table::new(columns), checks: 0, problems: 0 }
    }

    /// All is well with it.
    pub fn ok(&mut self, what: &str, detail: impl Display) {
        self.add(Finding::Ok, what, detail);
    }

    /// It has to be mended.
    pub fn problem(&mut self, what: &str, problem: impl Display) {
        self.add(Finding::Problem, what, problem);
    }

    /// It is allowed, and should be known.
    pub fn warning(&mut self, what: &str, warning: impl Display) {
        self.add(Finding::Warning, what, warning);
    }

    /// Further lines of a text are indented.
    fn add(&mut self, finding: Finding, what: &str, detail: impl Display) {
        self.checks += 1;
        self.problems += usize::from(finding == Finding::Problem);
        let detail = detail.to_string();
        if self.is_json {
            return self.findings.add([finding.name().into(), what.into(), detail.trim().into()]);
        }
        let mut lines = detail.trim().lines();
        let (label, tone) = finding.shown();
        print::labelled(label, tone, format_args!("{what}: {}", lines.next().unwrap_or_default()));
        lines.for_each(|line| say!("           {line}"));
    }

    /// One or the other.
    pub fn check(&mut self, what: &str, result: Result<impl Display, impl Display>) {
        match result {
            Ok(detail) => self.ok(what, detail),
            Err(problem) => self.problem(what, problem),
        }
    }

    /// Prints what is left to print. Fails when there is a problem.
    pub fn conclude(&self) -> anyhow::Result<ExitCode> {
        let is_good = self.problems == 0;
        if self.is_json {
            print::json(&self.findings.json())?;
        } else if is_good {
            say!("no problems found in {} checks", self.checks);
        } else {
            say!("{} problems found in {} checks", self.problems, self.checks);
        }
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
