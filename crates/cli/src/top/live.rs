//! The terminal of `leadline top`: looks at the fleet again and again, and listens to keys.

use std::{io, thread, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use super::{
    Fleet,
    view::{Screen, Tab},
};
use crate::{operator::Operator, print::Format};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    Tab(Tab),
    Move(isize),
    Scroll(isize),
    Pause,
}

/// Shows the fleet until the operator has seen enough. The terminal is as before afterwards, also after a panic.
pub async fn run(operator: Operator, interval: Duration, format: Format) -> anyhow::Result<()> {
    let (is_paused, pauses) = watch::channel(false);
    let (seen, mut looks) = mpsc::channel(1);
    let looking = tokio::spawn(look(operator, interval, pauses, seen));
    let mut events = listen();
    let mut terminal = ratatui::try_init()?;
    let mut screen = Screen { format, ..Screen::default() };
    let result = show(&mut terminal, &mut screen, &mut looks, &mut events, &is_paused).await;
    ratatui::restore();
    looking.abort();
    Ok(result?)
}

async fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    looks: &mut mpsc::Receiver<anyhow::Result<Fleet>>,
    events: &mut mpsc::Receiver<Event>,
    is_paused: &watch::Sender<bool>,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            look = looks.recv() => match look {
                Some(Ok(fleet)) => {
                    (screen.fleet, screen.error) = (Some(fleet), None);
                    screen.seen_at = Some(OffsetDateTime::now_utc());
                }
                // What was seen last stays on the screen.
                Some(Err(error)) => screen.error = Some(format!("{error:#}")),
                None => return Ok(()),
            },
            event = events.recv() => match event {
                Some(Event::Key(key)) => match wish(key) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(wish) => {
                        screen.follow(wish);
                        is_paused.send_replace(screen.is_paused);
                    }
                    None => {}
                },
                // The window has another size, and is drawn anew.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

impl Screen {
    fn follow(&mut self, wish: Wish) {
        match wish {
            Wish::Quit => {}
            Wish::Tab(tab) => (self.tab, self.scrolled) = (tab, 0),
            Wish::Move(by) => (self.tab, self.scrolled) = (self.tab.moved(by), 0),
            Wish::Scroll(by) => self.scrolled = self.scrolled.saturating_add_signed(by),
            Wish::Pause => self.is_paused = !self.is_paused,
        }
    }
}

fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Some(Wish::Move(1)),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Some(Wish::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Scroll(-1)),
        KeyCode::Char('p') => Some(Wish::Pause),
        KeyCode::Char(number @ '1'..='4') => {
            let index = number.to_digit(10).and_then(|number| usize::try_from(number - 1).ok())?;
            Tab::ALL.get(index).copied().map(Wish::Tab)
        }
        _ => None,
    }
}

/// Looks at the fleet, except while the operator pauses it.
async fn look(
    operator: Operator,
    interval: Duration,
    mut is_paused: watch::Receiver<bool>,
    seen: mpsc::Sender<anyhow::Result<Fleet>>,
) {
    let mut before = None;
    loop {
        if is_paused.wait_for(|is_paused| !*is_paused).await.is_err() {
            return;
        }
        let look = Fleet::look(&operator, before.as_ref()).await.map(|(fleet, depths)| {
            before = Some(depths);
            fleet
        });
        if seen.send(look).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

/// What happens at the terminal. A thread of its own waits for it, and ends with the process.
fn listen() -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Wish, wish};
    use crate::top::view::{Screen, Tab};

    fn pressed(screen: &mut Screen, code: KeyCode) {
        screen.follow(wish(KeyEvent::new(code, KeyModifiers::NONE)).expect("a key with a meaning"));
    }

    #[test]
    fn keys_move_between_tabs_scroll_pause_and_quit() {
        let mut screen = Screen::default();
        pressed(&mut screen, KeyCode::Tab);
        assert_eq!(screen.tab, Tab::Limits);
        pressed(&mut screen, KeyCode::Left);
        pressed(&mut screen, KeyCode::BackTab);
        assert_eq!(screen.tab, Tab::Stopped, "before the first one is the last one");
        pressed(&mut screen, KeyCode::Right);
        assert_eq!(screen.tab, Tab::Work);
        pressed(&mut screen, KeyCode::Char('3'));
        pressed(&mut screen, KeyCode::Up);
        pressed(&mut screen, KeyCode::Down);
        assert_eq!((screen.tab, screen.scrolled), (Tab::Events, 1));
        pressed(&mut screen, KeyCode::Char('p'));
        assert!(screen.is_paused);
        pressed(&mut screen, KeyCode::Char('p'));
        assert!(!screen.is_paused);
        for quit in [
            KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE),
            KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(wish(quit), Some(Wish::Quit));
        }
        assert_eq!(wish(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE)), None);
    }
}
