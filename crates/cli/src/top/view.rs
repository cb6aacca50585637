//! What `leadline top` shows: a line that sums up, and tables in four tabs.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Table as Rows, Tabs},
};
use time::OffsetDateTime;

use super::{Fleet, queues};
use crate::{
    print::{self, Cell, Format, Table, Tone},
    times,
};

/// How wide the bar of a share is.
const BAR: usize = 20;

/// Which tables are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tab {
    /// Queues and what is under way.
    #[default]
    Work,
    /// What is used of the limits, and what it costs.
    Limits,
    /// The oldest and the slowest events.
    Events,
    /// What is parked and what pauses.
    Stopped,
}

impl Tab {
    /// Every tab, from left to right.
    pub const ALL: [Self; 4] = [Self::Work, Self::Limits, Self::Events, Self::Stopped];

    fn title(self) -> &'static str {
        match self {
            Self::Work => "Work",
            Self::Limits => "Limits and cost",
            Self::Events => "Oldest and slowest",
            Self::Stopped => "Parked and paused",
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|tab| *tab == self).unwrap_or_default()
    }

    /// The tab so many places to the right; behind the last one is the first one.
    pub fn moved(self, by: isize) -> Self {
        let index = self.index().wrapping_add_signed(by) % Self::ALL.len();
        Self::ALL[index]
    }
}

/// What is on the screen.
#[derive(Debug, Default)]
pub struct Screen {
    /// The fleet as it was last seen.
    pub fleet: Option<Fleet>,
    /// When that was.
    pub seen_at: Option<OffsetDateTime>,
    /// Why the last look failed.
    pub error: Option<String>,
    /// Whether it is looked no more for the time being.
    pub is_paused: bool,
    /// The tab.
    pub tab: Tab,
    /// So many rows of each table are above what is shown.
    pub scrolled: usize,
    /// How times are shown.
    pub format: Format,
}

impl Screen {
    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame) {
        let [summary, tabs, body, keys] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
                .areas(frame.area());
        frame.render_widget(Paragraph::new(self.summary()), summary);
        let titles = Tab::ALL.iter().zip(1..).map(|(tab, number)| format!("{number} {}", tab.title()));
        frame.render_widget(Tabs::new(titles).select(self.tab.index()).highlight_style(Style::new().reversed()), tabs);
        if let Some(fleet) = &self.fleet {
            self.draw_panels(&panels(self.tab, fleet), body, frame);
        } else {
            frame.render_widget(Paragraph::new("asks RabbitMQ and the ledger …"), body);
        }
        let keys_line = "q quit   tab ← → 1-4 tabs   ↑ ↓ scroll   p pause";
        frame.render_widget(Paragraph::new(keys_line).dim(), keys);
    }

    /// Whether all is well, in one line.
    fn summary(&self) -> Line<'static> {
        let mut spans = vec![Span::from("leadline top").bold()];
        if let Some(at) = self.seen_at {
            spans.push(format!("  {} UTC", times::clock(at)).into());
        }
        if self.is_paused {
            spans.push(Span::from("  PAUSED").yellow());
        }
        if let Some(error) = &self.error {
            spans.push(Span::from(format!("  {}", print::visible(error))).red());
        } else if let Some(Fleet { snapshot, pace, .. }) = &self.fleet {
            spans.push(format!("  {}", snapshot.oldest_sentence()).into());
            let per_minute = format!("  in {}/min, out {}/min", pace.throughput.claimed, pace.finished());
            spans.push(per_minute.into());
            let today = Cell::MicroDollars(pace.micro_dollars_today()).text(self.format);
            spans.push(format!("  {today} today").into());
            let parked: usize = snapshot.parked.iter().map(|row| row.parked).sum();
            let paused = snapshot.circuits_table().rows().len() + snapshot.models_table().rows().len();
            for (count, word) in [(parked, "parked"), (paused, "paused")] {
                if count > 0 {
                    spans.push(Span::from(format!("  {count} {word}")).red());
                }
            }
        }
        Line::from(spans)
    }

    /// The tables one below the other. When there is not room for all rows, each gives up as many as it can.
    fn draw_panels(&self, panels: &[(&str, Table)], area: Rect, frame: &mut Frame) {
        // A title and the line of titles; what has no row says so in one line.
        let heights = panels.iter().map(|(_, table)| Constraint::Max(rows_high(table)));
        let areas = Layout::vertical(heights).split(area);
        for ((title, table), area) in panels.iter().zip(areas.iter()) {
            let block = Block::new().title(Span::from((*title).to_owned()).cyan());
            if table.is_empty() {
                frame.render_widget(Paragraph::new("none").dim().block(block), *area);
            } else {
                frame.render_widget(self.rows(table).block(block), *area);
            }
        }
    }

    fn rows(&self, table: &Table) -> Rows<'static> {
        let titles: Vec<_> = table.titles().collect();
        let cells: Vec<Vec<_>> =
            table.rows().iter().map(|row| row.iter().map(|cell| self.shown(cell)).collect()).collect();
        let widest = |index: usize| {
            let cells = cells.iter().filter_map(|row| row.get(index)).map(Line::width);
            cells.chain([Line::from(titles[index].clone()).width()]).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..titles.len())
            .map(|index| Constraint::Length(u16::try_from(widest(index)).unwrap_or(u16::MAX)))
            .collect();
        let scrolled = self.scrolled.min(cells.len().saturating_sub(1));
        let rows = cells.into_iter().skip(scrolled).map(Row::new);
        let title = |(index, title): (usize, String)| {
            let title = Line::from(title);
            if table.is_quantity(index) { title.right_aligned() } else { title }
        };
        let titles = titles.into_iter().enumerate().map(title);
        Rows::new(rows, widths).header(Row::new(titles).bold()).column_spacing(2)
    }

    fn shown(&self, cell: &Cell) -> Line<'static> {
        let text = cell.text(self.format);
        match cell {
            Cell::Percent(percent) => Line::from(vec![Span::styled(bar(*percent), colour_of(*percent)), text.into()]),
            _ => match cell.tone() {
                Some(tone) => Line::styled(text, style(tone)),
                None if cell.is_quantity() => Line::from(text).right_aligned(),
                None => Line::from(text),
            },
        }
    }
}

fn rows_high(table: &Table) -> u16 {
    let rows = table.rows().len() + usize::from(!table.is_empty());
    u16::try_from(rows.max(1) + 2).unwrap_or(u16::MAX)
}

/// The tables of a tab under their titles.
fn panels(tab: Tab, Fleet { snapshot, pace, queues }: &Fleet) -> Vec<(&'static str, Table)> {
    match tab {
        Tab::Work => vec![
            ("queues (messages that wait)", queues::table(queues)),
            ("unfinished events", snapshot.events_table()),
            ("unfinished write commands", snapshot.commands_table()),
            ("ended within the last minute", pace.finished_table()),
        ],
        Tab::Limits => vec![
            ("rate limits of HubSpot and OpenAI", snapshot.rate_limits_table()),
            ("spend limits (today, in UTC)", snapshot.spend_limits_table()),
            ("cost of today's answers", pace.cost_table()),
        ],
        Tab::Events => vec![
            ("the oldest unfinished events", pace.oldest_table()),
            ("the slowest that ended within ten minutes", pace.slowest_table()),
        ],
        Tab::Stopped => vec![
            ("parked, by reason", snapshot.parked_table()),
            ("circuit breakers that are not closed", snapshot.circuits_table()),
            ("rejected credentials", snapshot.rejected_table()),
            ("models that do not answer a playbook", snapshot.models_table()),
        ],
    }
}

/// So much of a bar as per cent of it are used.
fn bar(percent: i64) -> String {
    let full = usize::try_from(percent.clamp(0, 100)).unwrap_or_default() * BAR / 100;
    format!("{}{} ", "█".repeat(full), "░".repeat(BAR - full))
}

fn colour_of(percent: i64) -> Style {
    match percent {
        ..70 => Style::new().fg(Color::Green),
        70..95 => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Good => Style::new().green(),
        Tone::Waiting => Style::new().yellow(),
        Tone::Bad => Style::new().red(),
        Tone::Faint => Style::new().dim(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use broker::{Route, Stage};
    use domain::{Circuit, CircuitBreakerState, Dependency, EventState, Reason};
    use ledger::{CircuitBreaker, CostToday, ParkedStage, RateLimitEntry, SpendLimitEntry, UnfinishedEvents};
    use ratatui::{Terminal, backend::TestBackend};
    use time::{OffsetDateTime, macros::datetime};

    use super::{Fleet, Screen, Tab};
    use crate::{
        print::Format,
        snapshot::{ParkedReason, Snapshot},
        top::{pace::Pace, queues::Depths},
    };

    /// Someone's terminal: what is on it, line by line.
    fn drawn(screen: &Screen, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned() + "\n"
        };
        buffer.content().chunks(usize::from(width)).map(line).collect()
    }

    fn fleet() -> Fleet {
        let now = OffsetDateTime::now_utc();
        let queues = vec![(Route::Queue(Stage::Events), 120), (Route::Parked(Stage::Events), 2)];
        let snapshot = Snapshot {
            oldest: Duration::from_secs(130),
            queues: queues.clone(),
            events: vec![UnfinishedEvents {
                state: EventState::Waiting,
                reason: Some(Reason::RateLimited),
                events: 7,
                oldest: now - Duration::from_secs(130),
                oldest_key: "9876543:contact".to_owned(),
            }],
            commands: vec![],
            parked: vec![ParkedReason {
                stage: ParkedStage::Events,
                reason: Some(Reason::Refused),
                parked: 2,
                newest: Some(now),
            }],
            rate_limits: vec![RateLimitEntry {
                name: "hubspot/9876543/10s".to_owned(),
                quota: 190,
                allowed: 152,
                used: 76,
                held_until: None,
                rejections: 3,
            }],
            spend_limits: vec![SpendLimitEntry {
                name: "openai/money/day".to_owned(),
                playbook: None,
                micro_dollars_per_day: 10_000_000,
                micro_dollars_spent: 9_700_000,
            }],
            gates: vec![],
            held_back: vec![],
            circuits: vec![CircuitBreaker {
                circuit: Circuit::Dependency(Dependency::HubSpot),
                state: CircuitBreakerState::Open,
                reason: Some(Reason::HubSpotUnavailable),
                detail: Some("HubSpot answered 503".to_owned()),
                opened_at: Some(now - Duration::from_secs(90)),
                probes: 2,
                is_due: false,
                due_in: Duration::from_secs(5),
                refused_events: 0,
                rejected_by: vec![],
            }],
        };
        let pace = Pace {
            cost_today: vec![CostToday {
                playbook: "lead-qualification".to_owned(),
                model: "gpt-4o".to_owned(),
                inferences: 12,
                micro_dollars: Some(9_600_000),
            }],
            ..Pace::default()
        };
        Fleet { snapshot, pace, queues: Depths::now(queues).since(None) }
    }

    fn screen(tab: Tab) -> Screen {
        let seen_at = Some(datetime!(2026-11-24 10:00:05 UTC));
        Screen { fleet: Some(fleet()), seen_at, tab, ..Screen::default() }
    }

    #[test]
    fn the_first_line_says_whether_all_is_well_on_every_tab() {
        for tab in Tab::ALL {
            let shown = drawn(&screen(tab), (130, 24));
            let summary = "leadline top  10:00:05 UTC  the oldest unfinished event is 2 min 10 s old  in 0/min, out 0/min  $9.6000 today  2 parked  1 paused";
            assert_eq!(shown.lines().next(), Some(summary));
            assert!(shown.lines().last().is_some_and(|keys| keys.contains("q quit")), "{shown}");
        }
    }

    #[test]
    fn the_tabs_show_queues_limits_cost_parked_and_paused() {
        for (tab, parts) in [
            (Tab::Work, &["leadline.events              120", "waiting  rate_limited       7  2m10s"][..]),
            (
                Tab::Limits,
                &["██████████░░░░░░░░░░ 50%", "███████████████████░ 97%", "$9.7000", "lead-qualification  gpt-4o"],
            ),
            (Tab::Events, &["the oldest unfinished events", "none"]),
            (Tab::Stopped, &["refused", "hubspot          open   1m30s     hubspot_unavailable  HubSpot answered 503"]),
        ] {
            let shown = drawn(&screen(tab), (120, 24));
            for part in parts {
                assert!(shown.contains(part), "{tab:?}: {part} in\n{shown}");
            }
        }
    }

    #[test]
    fn a_small_terminal_a_first_look_an_error_and_a_pause_are_drawn_too() {
        let waiting = Screen::default();
        assert!(drawn(&waiting, (60, 10)).contains("asks RabbitMQ and the ledger"));
        let mut paused = Screen { is_paused: true, scrolled: 9, format: Format::default(), ..screen(Tab::Work) };
        assert!(drawn(&paused, (120, 24)).contains("PAUSED"));
        paused.error = Some("Postgres does not\u{1b}[2J answer".to_owned());
        let shown = drawn(&paused, (120, 24));
        assert!(shown.contains("Postgres does not\\u{1b}[2J answer"), "nothing controls the terminal:\n{shown}");
        for size in [(1, 1), (20, 3), (40, 5)] {
            drawn(&screen(Tab::Limits), size);
        }
    }
}
