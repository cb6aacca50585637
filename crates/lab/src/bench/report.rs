//! What was measured, as text, as ratios to keep, and as a picture.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use testbed::workspace;

/// Figures by name, for example `end to end, of two hops`.
pub type Figures = BTreeMap<String, f64>;

/// A ratio that is this much worse than the one kept has moved.
const TOLERANCE: f64 = 0.2;

/// One bar of the picture: what it is, how high, in what unit, and whether it is a baseline.
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub unit: &'static str,
    pub is_floor: bool,
}

/// The picture's group of rates.
pub const RATES: &str = "events per second";

/// The picture's group of memory.
pub const MEMORY: &str = "memory of the three services";

/// What a run has to say.
#[derive(Default)]
pub struct Book {
    /// To compare and to keep.
    pub ratios: Figures,
    /// The picture's bars, by group.
    pub groups: Vec<(String, Vec<Bar>)>,
}

impl Book {
    pub fn bar(&mut self, group: &str, label: impl Into<String>, value: f64, unit: &'static str, is_floor: bool) {
        let bar = Bar { label: label.into(), value, unit, is_floor };
        match self.groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, bars)) => bars.push(bar),
            None => self.groups.push((group.to_owned(), vec![bar])),
        }
    }

    pub fn ratio(&mut self, name: &str, value: f64) {
        self.ratios.insert(name.to_owned(), value);
    }
}

fn kept_file() -> Result<PathBuf> {
    Ok(workspace::root()?.join("docs/bench.json"))
}

/// The ratios that the repository keeps.
pub fn kept() -> Result<Figures> {
    let path = kept_file()?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Keeps ratios in the repository.
pub fn keep(figures: &Figures) -> Result<()> {
    let rounded: Figures =
        figures.iter().map(|(name, value)| (name.clone(), (value * 1_000.0).round() / 1_000.0)).collect();
    std::fs::write(kept_file()?, serde_json::to_string_pretty(&rounded)? + "\n")?;
    Ok(())
}

/// Prints ratios beside those kept, and gives the names of those that got worse.
pub fn compare(now: &Figures, kept: &Figures) -> Vec<String> {
    println!("\nratios, now and as kept in docs/bench.json (more is better)");
    let mut worse = Vec::new();
    for (name, value) in now {
        let said = match kept.get(name) {
            None => "not kept yet".to_owned(),
            Some(before) if value / before < 1.0 - TOLERANCE => {
                worse.push(name.clone());
                format!("was {before:.3}: WORSE by {:.0} %", (1.0 - value / before) * 100.0)
            }
            Some(before) if value / before > 1.0 + TOLERANCE => {
                format!("was {before:.3}: better by {:.0} %", (value / before - 1.0) * 100.0)
            }
            Some(before) => format!("was {before:.3}"),
        };
        println!("  {name:<58} {value:>9.3}   {said}");
    }
    worse
}

const ROW: usize = 26;
const LEFT: usize = 330;
const WIDTH: usize = 560;

/// Draws bars, each group with a scale of its own, and writes the picture.
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
            #[expect(clippy::cast_precision_loss, reason = "a picture")]
            let length = bar.value / most * WIDTH as f64;
            let colour = if bar.is_floor { "#b0b8c1" } else { "#2463ac" };
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
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(&path, svg)?;
    Ok(path)
}

/// Three digits are enough.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
