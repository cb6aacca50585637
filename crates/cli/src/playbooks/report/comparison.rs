//! The newest version of a playbook beside the one before: a row for each measure.

use domain::Rate;
use ledger::PlaybookFigures;

use super::Report;
use crate::{
    print::{Cell, Column, Format, Table, column},
    times,
};

/// One measure of two versions.
struct Measure {
    name: String,
    now: String,
    before: Option<String>,
    /// How it changed, in words.
    change: String,
}

/// The table that people read first.
pub fn table(report: &Report) -> Table {
    let mut versions = report.versions();
    let (now, before) = (versions.next(), versions.next());
    let Some(now) = now else { return Table::default() };
    let mut columns = vec![column("version", "measure"), Column::named(&now.version)];
    if let Some(before) = before {
        columns.extend([Column::named(&format!("{} (before)", before.version)), column("change", "change")]);
    }
    let mut table = Table::new(columns);
    for measure in measures(report, now, before) {
        let mut cells = vec![Cell::from(measure.name), measure.now.into()];
        if before.is_some() {
            cells.extend([measure.before.unwrap_or_default().into(), measure.change.into()]);
        }
        table.add(cells);
    }
    table
}

fn measures(report: &Report, now: &PlaybookFigures, before: Option<&PlaybookFigures>) -> Vec<Measure> {
    let mut measures = Vec::new();
    let mut plain = |name: &str, of: &dyn Fn(&PlaybookFigures) -> String| {
        measures.push(Measure { name: name.to_owned(), now: of(now), before: before.map(of), change: String::new() });
    };
    plain("model", &|one| report.models(&one.version).collect::<Vec<_>>().join(", "));
    plain("answers of", &|one| {
        let (first, last) = one.answers_from;
        format!("{} – {}", times::day(first), times::day(last))
    });
    plain("answered", &|one| one.answers.valid.to_string());
    plain("written", &|one| one.effects.written.to_string());
    let mut rate = |name: &str, of: fn(&PlaybookFigures) -> Rate| {
        let change = before.map(|before| points(of(now), of(before))).unwrap_or_default();
        let (now, before) = (rate_text(of(now)), before.map(|before| rate_text(of(before))));
        measures.push(Measure { name: name.to_owned(), now, before, change });
    };
    rate("overridden", PlaybookFigures::overridden);
    let is_reviewed = |one: &PlaybookFigures| one.rejected().whole() > 0;
    if is_reviewed(now) || before.is_some_and(is_reviewed) {
        rate("edited", PlaybookFigures::edited);
        rate("rejected", PlaybookFigures::rejected);
    }
    rate("unverified", PlaybookFigures::unverified);
    rate("refused", PlaybookFigures::refused);
    rate("unusable", PlaybookFigures::unusable);
    rate("parked", PlaybookFigures::parked);
    measures.extend(kept(now, before));
    let mut amount = |name: &str, text: fn(i64) -> String, of: fn(&PlaybookFigures) -> Option<i64>| {
        let shown = |one: &PlaybookFigures| of(one).map_or_else(|| "unknown".to_owned(), text);
        let change = before.and_then(of).zip(of(now)).map(|(before, now)| percent(now, before)).unwrap_or_default();
        let (now, before) = (shown(now), before.map(shown));
        measures.push(Measure { name: name.to_owned(), now, before, change });
    };
    let dollars = |amount: i64| Cell::MicroDollars(amount).text(Format::default());
    let milliseconds = |amount: i64| format!("{amount} ms");
    amount("cost of an answer", dollars, PlaybookFigures::cost_per_question);
    amount("latency p50", milliseconds, |one| one.latency_ms.map(|(half, _)| half));
    amount("latency p95", milliseconds, |one| one.latency_ms.map(|(_, most)| most));
    measures
}

/// The values that were left as they were, a row for each reason.
fn kept(now: &PlaybookFigures, before: Option<&PlaybookFigures>) -> Vec<Measure> {
    let of = |one: &PlaybookFigures, reason: domain::Reason| {
        let found = one.effects.kept.iter().find(|(kept, _)| *kept == reason);
        found.map_or(0, |(_, values)| *values)
    };
    let mut reasons: Vec<_> = now.effects.kept.iter().map(|(reason, _)| *reason).collect();
    for (reason, _) in before.iter().flat_map(|before| &before.effects.kept) {
        if !reasons.contains(reason) {
            reasons.push(*reason);
        }
    }
    let measure = |reason: domain::Reason| Measure {
        name: format!("values left: {reason}"),
        now: of(now, reason).to_string(),
        before: before.map(|before| of(before, reason).to_string()),
        change: String::new(),
    };
    reasons.into_iter().map(measure).collect()
}

fn rate_text(rate: Rate) -> String {
    match rate.whole() {
        0 => "none".to_owned(),
        _ => format!("{} of {}: {}", rate.part(), rate.whole(), Cell::from(rate).text(Format::default())),
    }
}

/// By how many percentage points a rate changed, and whether chance explains it.
fn points(now: Rate, before: Rate) -> String {
    let Some((share, share_before)) = now.share().zip(before.share()) else { return String::new() };
    let change = format!("{:+.1}", (share - share_before) * 100.0);
    match change.as_str() {
        "+0.0" | "-0.0" => String::new(),
        _ if now.differs_from(before) => format!("{change} points"),
        _ => format!("{change} points, may be chance"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "money and milliseconds are far below 2^53")]
fn percent(now: i64, before: i64) -> String {
    if before == 0 || now == before {
        return String::new();
    }
    format!("{:+.0}%", (now - before) as f64 / before as f64 * 100.0)
}

/// What the table above leaves out: older versions, and the models of versions that several have answered.
pub fn others(report: &Report) -> Table {
    let mut table = Table::new([
        column("version", "version"),
        column("model", "model"),
        column("answered", "answered"),
        column("overridden", "overridden"),
        column("refused", "refused"),
        column("parked", "parked"),
        column("an answer", "cost_micro_dollars_per_answer"),
        column("p95 ms", "latency_p95_ms"),
    ]);
    let shown: Vec<_> = report.versions().take(2).map(|one| one.version.as_str()).collect();
    for one in &report.figures {
        let Some(model) = &one.model else { continue };
        if shown.contains(&one.version.as_str()) && report.models(&one.version).count() == 1 {
            continue;
        }
        table.add([
            one.version.clone().into(),
            model.clone().into(),
            one.answers.valid.into(),
            one.overridden().into(),
            one.answers.refused.into(),
            one.answers.parked.into(),
            one.cost_per_question().map_or(Cell::Unknown, Cell::MicroDollars),
            one.latency_ms.map(|(_, most)| most).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use domain::Rate;

    use super::{percent, points};

    #[test]
    fn a_change_says_whether_chance_explains_it() {
        assert_eq!(points(Rate::of(40, 100), Rate::of(10, 100)), "+30.0 points");
        assert_eq!(points(Rate::of(1, 10), Rate::of(4, 10)), "-30.0 points, may be chance");
        assert_eq!(points(Rate::of(1, 10), Rate::of(10, 100)), "");
        assert_eq!(points(Rate::of(1, 10), Rate::of(0, 0)), "", "there is nothing to compare with");
        assert_eq!(
            (percent(150, 100).as_str(), percent(75, 100).as_str(), percent(5, 0).as_str()),
            ("+50%", "-25%", "")
        );
    }
}
