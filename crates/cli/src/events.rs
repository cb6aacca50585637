//! `leadline events`: finds events in the ledger, and follows what becomes of them.

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use domain::{EventState, Reason};
use ledger::{EventEntry, EventFilter, LEDGER_RETRY, Ledger};
use settings::{ConfigScope, Settings};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    event,
    names::one_of,
    operator,
    print::{self, Format, Stream, Table, column},
    record, times,
};

/// Events that are asked for in one statement.
const PAGE: i64 = 500;

/// How often it is looked for what is new.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the transaction of a change may take to be committed, after it got its number in the history.
const LOOK_BACK: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct EventsOptions {
    /// About this record, like contact/123, also under ids that it had before it was merged.
    #[arg(long, value_name = "TYPE/ID")]
    record: Option<String>,
    /// In this state.
    #[arg(long, value_parser = one_of(EventState::ALL, EventState::as_str))]
    state: Option<EventState>,
    /// In their state for this reason.
    #[arg(long, value_parser = one_of(Reason::ALL, Reason::as_str), hide_possible_values = true)]
    reason: Option<Reason>,
    /// Answered by this playbook, or parked because of it.
    #[arg(long)]
    playbook: Option<String>,
    /// Taken up at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    since: Option<OffsetDateTime>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on with every change of state from now on, the newest last, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    format: Format,
}

pub async fn run(file: Option<&Path>, options: EventsOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(file, ConfigScope::LedgerOnly).context("settings")?;
    let ledger = operator::ledger(&settings)?;
    let EventsOptions { record, state, reason, playbook, since, limit, follow, format } = options;
    let record = record.map(|record| record::parse(&record, &settings)).transpose()?;
    let filter = EventFilter { record, state, reason, playbook, since };
    if follow {
        // Before the list: what happens meanwhile is then told twice rather than never.
        let newest = ledger.newest_change().await?;
        let mut events = newest_events(&ledger, &filter, limit).await?.0;
        events.reverse();
        let mut stream = Stream::new(Format { utc: true, ..format });
        stream.print(&events_table(&events))?;
        return follow_changes(&ledger, &filter, newest, stream).await;
    }
    let (events, has_more) = newest_events(&ledger, &filter, limit).await?;
    print::list(&events_table(&events), format, "the ledger has no such event")?;
    if has_more {
        print::error(format_args!("these are the newest {limit}; --limit shows more, --since and other filters fewer"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest events, newest first, and whether there are more than `limit`.
async fn newest_events(ledger: &Ledger, filter: &EventFilter, limit: u32) -> anyhow::Result<(Vec<EventEntry>, bool)> {
    let most = limit as usize;
    let mut events: Vec<EventEntry> = Vec::new();
    while events.len() <= most {
        let page = PAGE.min(i64::from(limit) + 1);
        let next = ledger.events(filter, events.last().map(EventEntry::position), page).await?;
        let is_last = next.len() < usize::try_from(page)?;
        events.extend(next);
        if is_last {
            break;
        }
    }
    let has_more = events.len() > most;
    events.truncate(most);
    Ok((events, has_more))
}

fn events_table<'a>(events: impl IntoIterator<Item = &'a EventEntry>) -> Table {
    let mut table = Table::new([
        column("since", "state_since"),
        column("state", "state"),
        column("reason", "reason"),
        column("record", "record"),
        column("what happened", "subscription_type"),
        column("playbook", "playbooks"),
        column("taken up", "first_claimed_at"),
        column("key", "event_key").whole(),
    ]);
    for event in events {
        table.add([
            event.status.since.into(),
            event.status.state.into(),
            event.status.reason.into(),
            event.object_id.map(|id| event::record(&event.object_type, id)).into(),
            event.subscription_type.clone().into(),
            event.playbooks.clone().into(),
            event.first_claimed_at.into(),
            event.key.clone().into(),
        ]);
    }
    table
}

/// Prints every change of state that comes, each once.
async fn follow_changes(
    ledger: &Ledger,
    filter: &EventFilter,
    newest: i64,
    mut stream: Stream,
) -> anyhow::Result<ExitCode> {
    // What happened before is in the list.
    let filter = EventFilter { since: None, ..filter.clone() };
    let mut horizon = Horizon::new(newest);
    let mut interval = tokio::time::interval(INTERVAL);
    while !print::is_closed() {
        interval.tick().await;
        let newest = retry::run(&LEDGER_RETRY, || ledger.newest_change()).await?;
        let mut after = horizon.begin();
        loop {
            let changes = retry::run(&LEDGER_RETRY, || ledger.event_changes(&filter, after, PAGE)).await?;
            let Some(last) = changes.last().map(|change| change.number) else { break };
            let unseen: Vec<_> = changes.into_iter().filter(|change| horizon.is_unseen(change.number)).collect();
            stream.print(&events_table(unseen.iter().map(|change| &change.event)))?;
            after = last;
        }
        horizon.passed(newest);
    }
    Ok(ExitCode::SUCCESS)
}

/// From which number on the history may still get changes, and which of them are printed.
struct Horizon {
    /// The newest number at the times at which it was looked.
    newest: VecDeque<(Instant, i64)>,
    begin: i64,
    seen: HashSet<i64>,
}

impl Horizon {
    fn new(newest: i64) -> Self {
        Self { newest: VecDeque::from([(Instant::now(), newest)]), begin: newest, seen: HashSet::new() }
    }

    /// Changes up to this number are all there: it was the newest one some time ago.
    fn begin(&mut self) -> i64 {
        while let Some((at, number)) = self.newest.front().copied()
            && at.elapsed() > LOOK_BACK
        {
            self.newest.pop_front();
            self.begin = number;
        }
        let begin = self.begin;
        self.seen.retain(|seen| *seen > begin);
        begin
    }

    fn is_unseen(&mut self, number: i64) -> bool {
        self.seen.insert(number)
    }

    fn passed(&mut self, newest: i64) {
        self.newest.push_back((Instant::now(), newest));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use tokio::time::Instant;

    use super::{Horizon, LOOK_BACK};

    #[test]
    fn a_change_that_is_committed_late_is_told_and_each_change_is_told_once() {
        let now = Instant::now();
        let Some(long_ago) = now.checked_sub(LOOK_BACK * 2) else { return };
        let newest = VecDeque::from([(long_ago, 3), (long_ago, 5), (now, 9)]);
        let mut horizon = Horizon { newest, begin: 1, seen: HashSet::from([2, 5, 7, 9]) };
        assert_eq!(horizon.begin(), 5, "what was the newest some time ago");
        assert!(!horizon.is_unseen(7) && !horizon.is_unseen(9));
        assert!(horizon.is_unseen(8) && !horizon.is_unseen(8), "it was under way when 9 was there");
        assert_eq!(horizon.seen.len(), 3, "what cannot come again is forgotten");
        assert_eq!(horizon.begin(), 5);
    }
}
