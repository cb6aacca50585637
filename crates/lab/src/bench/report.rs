//! Results as text, as ratios in docs/bench.json, and as a chart.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use testbed::workspace;

/// Ratios by name, for example `end to end, events per second / two hops`. More is better.
pub type Ratios = BTreeMap<String, f64>;

/// A ratio that differs by more than this from the saved one is reported as worse or better.
const TOLERANCE: f64 = 0.2;

/// One bar of the chart.
pub struct Bar {
    label: String,
    value: f64,
    unit: &'static str,
    /// A baseline is grey.
    is_baseline: bool,
}

/// The chart's group of rates.
pub const RATES: &str = "events per second";

/// The chart's group of memory.
pub const MEMORY: &str = "memory of the three services";

/// The results of a run.
#[derive(Default)]
pub struct Results {
    /// To compare and to save.
    pub ratios: Ratios,
    /// The chart's bars, by group.
    pub groups: Vec<(String, Vec<Bar>)>,
    /// The table at the end: what, how much, and the goal.
    rows: Vec<[String; 3]>,
}

impl Results {
    pub fn bar(&mut self, group: &str, label: impl Into<String>, value: f64, unit: &'static str, is_baseline: bool) {
        let bar = Bar { label: label.into(), value, unit, is_baseline };
        match self.groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, bars)) => bars.push(bar),
            None => self.groups.push((group.to_owned(), vec![bar])),
        }
    }

    pub fn row(&mut self, what: &str, value: String, goal: &str) {
        self.rows.push([what.to_owned(), value, goal.to_owned()]);
    }

    /// Prints the table: what a reader decides by.
    pub fn print_table(&self) {
        println!("\n{:<74} {:>22} {:>16}", "in short", "here", "goal");
        for [what, value, goal] in &self.rows {
            println!("{what:<74} {value:>22} {goal:>16}");
        }
    }

    pub fn ratio(&mut self, name: &str, value: f64) {
        self.ratios.insert(name.to_owned(), value);
    }
}

fn saved_file() -> Result<PathBuf> {
    Ok(workspace::root()?.join("docs/bench.json"))
}

/// The ratios in docs/bench.json.
pub fn saved() -> Result<Ratios> {
    let path = saved_file()?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Writes ratios to docs/bench.json.
pub fn save(ratios: &Ratios) -> Result<()> {
    let rounded: Ratios =
        ratios.iter().map(|(name, value)| (name.clone(), (value * 1_000.0).round() / 1_000.0)).collect();
    std::fs::write(saved_file()?, serde_json::to_string_pretty(&rounded)? + "\n")?;
    Ok(())
}

/// Prints ratios beside the saved ones and returns the names of those that are worse.
pub fn compare(now: &Ratios, saved: &Ratios) -> Vec<String> {
    println!("\nratios, now and as saved in docs/bench.json (more is better)");
    let mut worse = Vec::new();
    for (name, value) in now {
        let change = match saved.get(name) {
            None => "not saved yet".to_owned(),
            Some(before) if value / before < 1.0 - TOLERANCE => {
                worse.push(name.clone());
                format!("was {before:.3}: WORSE by {:.0} %", (1.0 - value / before) * 100.0)
            }
            Some(before) if value / before > 1.0 + TOLERANCE => {
                format!("was {before:.3}: better by {:.0} %", (value / before - 1.0) * 100.0)
            }
            Some(before) => format!("was {before:.3}"),
        };
        println!("  {name:<58} {value:>9.3}   {change}");
    }
    worse
}

const ROW: usize = 26;
const LEFT: usize = 330;
const WIDTH: usize = 560;

/// Writes the chart to docs/bench.svg and returns its path. Each group has a scale of its own.
pub fn plot(groups: &[(String, Vec<Bar>)]) -> Result<PathBuf> {
    let rows: usize = groups.iter().map(|(_, bars)| bars.len() + 2).sum();
    let (height, width) = (rows * ROW + 20, LEFT + WIDTH + 150);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut y = ROW;
    for (title, bars) in groups {
        writeln!(svg, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\" fill=\"#1b1f24\">{title}</text>")?;
        y += ROW;
        let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            #[expect(clippy::cast_precision_loss, reason = "pixels")]
            let length = bar.value / most * WIDTH as f64;
            let colour = if bar.is_baseline { "#b0b8c1" } else { "#2463ac" };
            let (text, label) = (y + 1, &bar.label);
            let after = f64::from(u32::try_from(LEFT)?) + length + 8.0;
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#1b1f24\">{label}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"17\" fill=\"{colour}\"/>\
                 <text x=\"{after:.1}\" y=\"{text}\" fill=\"#1b1f24\">{} {}</text>",
                LEFT - 10,
                y - 12,
                number(bar.value),
                bar.unit
            )?;
            y += ROW;
        }
        y += ROW;
    }
    svg.push_str("</svg>\n");
    let path = workspace::root()?.join("docs/bench.svg");
    std::fs::create_dir_all(path.parent().context("the chart has no folder")?)?;
    std::fs::write(&path, svg)?;
    Ok(path)
}

/// A number with three significant digits.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
