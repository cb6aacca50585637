//! One event alone: how long its way takes, stage by stage, from its trace; and how long where some come each second, more than HubSpot's
//! limit lets through one by one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{CollectedSpan, FleetPlan, SpanCollector};
use testbed::{Services, step, workspace};

use super::{
    fleet::{Bench, Conditions},
    report::Results,
};

/// Events, one after the other. The first ones open connections and are not counted.
const EVENTS: usize = 60;
const WARM_UP: usize = 10;

/// Then so many, one after each pause. The first ones, which a whole window of HubSpot's limit is free for, are not counted.
const STEADY_EVENTS: usize = 400;
const STEADY_WARM_UP: usize = 200;
const STEADY_PAUSE: Duration = Duration::from_millis(100);

/// What a portal allows with the usual plans. Of this the fleet may use 152; events one after the other, of five calls each, use less than
/// half of that, so their batches do not wait for calls.
const CALLS_PER_10S: usize = 190;

/// How long the model takes.
const LATENCY: Duration = Duration::from_millis(200);

/// How long an event waits for newer ones of its record.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// How long an event, or its spans, may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The span in which the model is asked begins with this.
const MODEL: &str = "chat ";

/// The last span of an event's way begins with this, in the writer. Shorter ones within it may be those of a batch, which are in the trace
/// of one of its events alone.
const END: &str = "process ";

/// A stage of the way: when it begins after the webhook, and how long it takes, in milliseconds, for each event.
#[derive(Default)]
struct Stage {
    begins: Vec<f64>,
    takes: Vec<f64>,
}

/// Sends events one after the other and prints the way of one.
pub async fn run(services: &Services, plan: &FleetPlan, results: &mut Results) -> Result<()> {
    let collector = SpanCollector::start().await?;
    let plan = plan
        .clone()
        .with("telemetry.otlp_endpoint", collector.endpoint())
        .with("inference.debounce_ms", &DEBOUNCE.as_millis().to_string());
    let conditions = Conditions {
        plan,
        contacts: EVENTS + STEADY_EVENTS,
        latency: LATENCY,
        calls_per_10s: CALLS_PER_10S,
        ..Conditions::default()
    };
    let bench = step("one event alone", Bench::start(services, conditions)).await?;
    let receiver = bench.fleet.receivers().remove(0);
    for sent in 1..=EVENTS {
        let started = Instant::now();
        bench.webhooks.deliver(&receiver, &bench.batch(1)?).await;
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        while bench.written().await? < sent as f64 {
            if started.elapsed() > PATIENCE {
                bail!("event {sent} was not written within {PATIENCE:?}\n{}", bench.fleet.logs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut pauses = tokio::time::interval(STEADY_PAUSE);
    for _ in 0..STEADY_EVENTS {
        pauses.tick().await;
        bench.webhooks.deliver(&receiver, &bench.batch(1)?).await;
    }
    let ways = ways(&collector).await?;
    drop(bench);
    let (alone, steady) = ways.split_at(EVENTS);
    let (stages, totals, overheads) = stages_of(&alone[WARM_UP..])?;
    print(&stages, &totals, &overheads);
    let (_, _, steady) = stages_of(&steady[STEADY_WARM_UP..])?;
    let [half, slow] = [0.5, 0.99].map(|part| quantile(&steady, part));
    println!(
        "\n  ten a second, in a portal of {CALLS_PER_10S} calls in 10 s: {half:.0} ms beside model and debounce, {slow:.0} ms (99 %)"
    );
    let path = plot(&stages, quantile(&totals, 0.5))?;
    println!("  the picture is {}", path.strip_prefix(workspace::root()?).unwrap_or(&path).display());
    let overhead = [0.5, 0.99].map(|part| quantile(&overheads, part));
    results.row(
        "one event alone, beside model and debounce: half, 99 %",
        format!("{:.0} ms, {:.0} ms", overhead[0], overhead[1]),
        "120 ms",
    );
    results.row(
        "one of ten events a second, beside model and debounce: half, 99 %",
        format!("{half:.0} ms, {slow:.0} ms"),
        "",
    );
    results.ratio("one event alone, 100 ms / overhead", 100.0 / quantile(&overheads, 0.5));
    Ok(())
}

/// The spans of each event, in the order in which the events were sent.
async fn ways(collector: &SpanCollector) -> Result<Vec<Vec<CollectedSpan>>> {
    let started = Instant::now();
    loop {
        let mut ways: BTreeMap<String, Vec<CollectedSpan>> = BTreeMap::new();
        for span in collector.spans()? {
            ways.entry(span.trace_id()).or_default().push(span);
        }
        let complete = |way: &Vec<CollectedSpan>| way.iter().any(is_last) && way.iter().any(is_first);
        let mut complete: Vec<_> = ways.into_values().filter(complete).collect();
        if complete.len() == EVENTS + STEADY_EVENTS {
            complete.sort_by_key(|way| way.iter().map(begins).min());
            return Ok(complete);
        }
        if started.elapsed() > PATIENCE {
            let sent = EVENTS + STEADY_EVENTS;
            bail!("the spans of {} of {sent} events have arrived within {PATIENCE:?}", complete.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// In nanoseconds since 1970.
fn begins(of: &CollectedSpan) -> u64 {
    of.span.start_time_unix_nano
}

fn is_last(span: &CollectedSpan) -> bool {
    span.service == "leadline-writer" && span.span.name.starts_with(END)
}

fn is_first(span: &CollectedSpan) -> bool {
    span.service == "leadline-receiver"
}

/// The stages by service and name, how long each event took, and how much of that was neither the model nor the debounce.
type Stages = (Vec<(String, Stage)>, Vec<f64>, Vec<f64>);

fn stages_of(ways: &[Vec<CollectedSpan>]) -> Result<Stages> {
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    let (mut totals, mut overheads) = (Vec::new(), Vec::new());
    for way in ways {
        let begin = way.iter().map(begins).min().context("a way has spans")?;
        let end = way.iter().find(|span| is_last(span)).context("a way has an end")?.span.end_time_unix_nano;
        let model: f64 = way
            .iter()
            .filter(|span| span.span.name.starts_with(MODEL))
            .map(|span| milliseconds(begins(span), span.span.end_time_unix_nano))
            .sum();
        for span in way {
            let service = span.service.trim_start_matches("leadline-").to_owned();
            let stage = stages.entry(format!("{service}: {}", span.span.name)).or_default();
            stage.begins.push(milliseconds(begin, begins(span)));
            stage.takes.push(milliseconds(begins(span), span.span.end_time_unix_nano));
        }
        totals.push(milliseconds(begin, end));
        overheads.push(milliseconds(begin, end) - model - DEBOUNCE.as_secs_f64() * 1_000.0);
    }
    let mut stages: Vec<_> = stages.into_iter().collect();
    stages.sort_by(|(_, one), (_, other)| quantile(&one.begins, 0.5).total_cmp(&quantile(&other.begins, 0.5)));
    Ok((stages, totals, overheads))
}

#[expect(clippy::cast_precision_loss, reason = "a span is short")]
fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1_000_000.0
}

/// The value that this share of `all` does not exceed.
fn quantile(all: &[f64], share: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

fn print(stages: &[(String, Stage)], totals: &[f64], overheads: &[f64]) {
    let of = |all: &[f64]| (quantile(all, 0.5), quantile(all, 0.99));
    let ((total, slow), (overhead, most)) = (of(totals), of(overheads));
    println!(
        "\none event alone: webhook → score in HubSpot, {} ms of the model, {} ms of debounce",
        LATENCY.as_millis(),
        DEBOUNCE.as_millis()
    );
    println!("  {total:.0} ms in the median, {slow:.0} ms (99 %)");
    println!("  {overhead:.0} ms of it beside model and debounce (goal ≤120), {most:.0} ms (99 %)");
    println!("\n  {:<66} {:>9} {:>9} {:>9}", "stage", "begins ms", "half ms", "99 % ms");
    for (name, stage) in stages {
        let (half, slow) = of(&stage.takes);
        println!("  {name:<66} {:>9.1} {half:>9.1} {slow:>9.1}", quantile(&stage.begins, 0.5));
    }
}

const ROW: usize = 22;
const LEFT: usize = 470;
const WIDTH: f64 = 620.0;

/// Writes the way of one event as a waterfall to docs/single.svg and returns its path.
fn plot(stages: &[(String, Stage)], total: f64) -> Result<PathBuf> {
    let (height, width) = ((stages.len() + 2) * ROW, LEFT + 740);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (row, (name, stage)) in stages.iter().enumerate() {
        let (begins, takes) = (quantile(&stage.begins, 0.5), quantile(&stage.takes, 0.5));
        let left = f64::from(u32::try_from(LEFT)?) + begins / total * WIDTH;
        let length = (takes / total * WIDTH).max(1.0);
        let (top, text) = (row * ROW + 12, row * ROW + 25);
        let colour = if name.contains(MODEL) { "#b0b8c1" } else { "#2463ac" };
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#1b1f24\">{name}</text>\
             <rect x=\"{left:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text}\" fill=\"#1b1f24\">{takes:.1} ms</text>",
            LEFT - 10,
            left + length + 6.0,
        )?;
    }
    svg.push_str("</svg>\n");
    let path = workspace::root()?.join("docs/single.svg");
    std::fs::write(&path, svg)?;
    Ok(path)
}
