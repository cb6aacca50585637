//! The report as a picture: overridden rates with their intervals, and the spread of the values.

use std::fmt::Write as _;

use super::{
    Report,
    spread::{Spread, ValueKind},
};

const WIDTH: usize = 720;
/// Where bars begin and how long they are at most.
const LEFT: f64 = 200.0;
const ROOM: f64 = 400.0;
const ROW: usize = 22;
const BARS_HEIGHT: usize = 60;

/// A picture that grows downwards.
struct Picture {
    shapes: String,
    y: usize,
}

/// The picture of a report, which needs no other file.
pub fn svg(report: &Report) -> String {
    let mut picture = Picture { shapes: String::new(), y: ROW };
    picture.title(&format!("{}: written answers that people changed (95 % interval)", report.playbook));
    for one in report.versions() {
        picture.rate(&one.version, one.overridden());
    }
    for spread in &report.spreads {
        picture.spread(spread);
    }
    let height = picture.y + ROW;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
        picture.shapes
    )
}

impl Picture {
    fn title(&mut self, text: &str) {
        let _ = writeln!(
            self.shapes,
            "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{}</text>",
            self.y,
            quick_xml::escape::escape(text)
        );
        self.y += ROW;
    }

    fn text(&mut self, x: f64, text: &str) {
        let text = quick_xml::escape::escape(text);
        let _ = writeln!(self.shapes, "<text x=\"{x:.0}\" y=\"{}\">{text}</text>", self.y);
    }

    fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.shapes,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    /// A dot on the line of its interval.
    fn rate(&mut self, label: &str, rate: domain::Rate) {
        self.text(12.0, label);
        let middle = at(self.y) - 4.0;
        if let Some((share, interval)) = rate.share().zip(rate.interval()) {
            let width = (interval.high - interval.low) * ROOM;
            self.bar((interval.low.mul_add(ROOM, LEFT), middle - 1.0), (width, 2.0), "#7a8ba8");
            self.bar((share.mul_add(ROOM, LEFT) - 3.0, middle - 3.0), (6.0, 6.0), "#1f4e9c");
            let (part, whole) = (rate.part(), rate.whole());
            self.text(LEFT + ROOM + 12.0, &format!("{:.1}% ({part} of {whole})", share * 100.0));
        } else {
            self.text(LEFT, "nothing written");
        }
        self.y += ROW;
    }

    fn spread(&mut self, spread: &Spread) {
        self.y += ROW / 2;
        self.title(&spread.name);
        match &spread.now.kind {
            ValueKind::Numbers { from, to, median, bars } => {
                self.y += BARS_HEIGHT;
                let highest = bars.iter().copied().max().unwrap_or(0).max(1);
                let (step, bottom) = (ROOM / at(bars.len()), at(self.y) - 14.0);
                for (index, answers) in bars.iter().enumerate() {
                    let height = share_of(*answers, highest) * at(BARS_HEIGHT);
                    self.bar((at(index).mul_add(step, LEFT), bottom - height), (step - 2.0, height), "#1f4e9c");
                }
                self.text(LEFT, &from.to_string());
                self.text(LEFT + ROOM, &to.to_string());
                self.text(12.0, &format!("median {median}"));
                self.y += ROW;
            }
            ValueKind::Options(options) => {
                let all = spread.now.answers();
                for (option, answers) in options {
                    self.text(12.0, option);
                    let width = share_of(*answers, all) * ROOM;
                    self.bar((LEFT, at(self.y) - 11.0), (width, 12.0), "#1f4e9c");
                    self.text(LEFT + width + 8.0, &answers.to_string());
                    self.y += ROW;
                }
            }
        }
        if spread.now.none > 0 {
            self.text(12.0, &format!("none {}", spread.now.none));
            self.y += ROW;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn at(place: usize) -> f64 {
    place as f64
}

fn share_of(part: i64, whole: i64) -> f64 {
    domain::Rate::of(part, whole).share().unwrap_or_default()
}
