//! `leadline playbook report`: how good the answers of a playbook are, and what people made of them.

mod chart;
mod comparison;
mod json;
mod spread;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use ledger::{Ledger, PlaybookFigures, PropertyFigures};
use playbook::Playbook;
use settings::{ConfigScope, Settings};
use time::{Duration, OffsetDateTime};

use self::spread::Spread;
use crate::{
    operator,
    print::{self, Format, Progress, Table, column, say},
    times,
};

#[derive(clap::Args)]
pub struct ReportOptions {
    /// The playbook's name.
    playbook: String,
    /// Answers of this time or later: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h. By default 30 days.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    since: Option<OffsetDateTime>,
    /// The playbook file, which says how values can spread; by default the one of that name in the folder of the settings.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON: money in micro-dollars, rates from 0 to 1 with their 95 % interval.
    #[arg(long)]
    json: bool,
    /// Also draw the overridden rates and the spread of the values into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How far back a report goes by itself.
const DEFAULT_SINCE: Duration = Duration::days(30);

/// From how many of a version's newest answers properties and the spread of values are counted.
const SAMPLE: i64 = 10_000;

/// What the report is made of.
struct Report {
    playbook: String,
    since: OffsetDateTime,
    /// Each version with all of its models, then by model; the newest version first.
    figures: Vec<PlaybookFigures>,
    /// Of the newest version.
    properties: Vec<PropertyFigures>,
    spreads: Vec<Spread>,
    /// Events that were parked before there was an answer.
    parked_unanswered: i64,
}

impl Report {
    async fn read(
        ledger: &Ledger,
        name: &str,
        since: OffsetDateTime,
        playbook: Option<&Playbook>,
    ) -> anyhow::Result<Self> {
        let figures = ledger.playbook_figures(name, since).await?;
        let versions: Vec<_> =
            figures.iter().filter(|one| one.model.is_none()).map(|one| one.version.clone()).collect();
        let Some(newest) = versions.first() else {
            bail!("the ledger has no answer of the playbook `{name}` since {} UTC", times::utc(since))
        };
        let properties = ledger.property_figures((name, newest), since, SAMPLE).await?;
        let mut spreads = Vec::new();
        if let Some(playbook) = playbook {
            let fields = spread::fields(playbook);
            let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
            let now = ledger.field_values((name, newest), since, SAMPLE, &names).await?;
            let before = match versions.get(1) {
                Some(before) => ledger.field_values((name, before), since, SAMPLE, &names).await?,
                None => Vec::new(),
            };
            spreads = fields.into_iter().map(|field| Spread::of(field, &now, &before)).collect();
        }
        let parked_unanswered = ledger.parked_unanswered(name, since).await?;
        Ok(Self { playbook: name.to_owned(), since, figures, properties, spreads, parked_unanswered })
    }

    /// The figures of each version with all of its models, the newest first.
    fn versions(&self) -> impl Iterator<Item = &PlaybookFigures> {
        self.figures.iter().filter(|one| one.model.is_none())
    }

    /// The models of a version.
    fn models<'a>(&'a self, version: &'a str) -> impl Iterator<Item = &'a str> {
        self.figures.iter().filter(move |one| one.version == version).filter_map(|one| one.model.as_deref())
    }
}

/// Runs the command with the settings in `config` and the environment.
pub async fn run(config: Option<&Path>, options: ReportOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config, ConfigScope::LedgerOnly).context("settings")?;
    let ledger = operator::ledger(&settings)?;
    let ReportOptions { playbook: name, since, file, json, svg } = options;
    let since = since.unwrap_or_else(|| OffsetDateTime::now_utc() - DEFAULT_SINCE);
    let playbook = playbook_of(&settings, &name, file.as_deref())?;
    let progress = Progress::start("reads the ledger", 0);
    let report = Report::read(&ledger, &name, since, playbook.as_ref()).await?;
    drop(progress);
    if let Some(file) = svg {
        std::fs::write(&file, chart::svg(&report)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if json {
        print::json(&json::report(&report))?;
    } else {
        print_page(&report);
        if playbook.is_none() {
            say!(
                "the spread of values needs the playbook's file, which is not in the folder of the settings: --file names it"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The playbook's file of today; `None` when the folder of the settings has none of that name.
fn playbook_of(settings: &Settings, name: &str, file: Option<&Path>) -> anyhow::Result<Option<Playbook>> {
    let inference = &settings.inference;
    let playbooks = match file {
        Some(file) => playbook::load_files(&[file.to_owned()], &inference.protected_properties)?,
        None => playbook::load(&inference.playbooks, &inference.protected_properties).unwrap_or_default(),
    };
    let found = playbooks.into_iter().find(|playbook| playbook.name == name);
    if let Some(file) = file.filter(|_| found.is_none()) {
        bail!("{} is not the playbook `{name}`", file.display());
    }
    Ok(found)
}

fn print_page(report: &Report) {
    let count = report.versions().count();
    let versions = if count == 1 { "1 version".to_owned() } else { format!("{count} versions") };
    say!("{} since {}: {versions}", report.playbook, times::day(report.since));
    print::blank();
    print::table(&comparison::table(report), Format::default());
    if report.parked_unanswered > 0 {
        say!("{} more are parked without an answer (leadline parked list)", report.parked_unanswered);
    }
    let others = comparison::others(report);
    if !others.is_empty() {
        print::section("other versions, and models of their own", &others, Format::default());
    }
    print::section("properties of the newest version", &properties(report), Format::default());
    if !report.spreads.is_empty() {
        print::section("values of the newest version", &spread::table(&report.spreads), Format::default());
    }
}

fn properties(report: &Report) -> Table {
    let mut table = Table::new([
        column("property", "property"),
        column("written", "written"),
        column("kept", "kept"),
        column("overridden", "overridden"),
    ]);
    for one in &report.properties {
        let rate = domain::Rate::of(one.overridden, one.written);
        table.add([one.property.clone().into(), one.written.into(), one.kept.into(), rate.into()]);
    }
    table
}
