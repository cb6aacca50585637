//! What a run showed.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use super::{Struck, invariants::InvariantReport, load::Sent};

/// Prints the table, the ends and the figures. Says whether nothing was lost, doubled or wrong.
pub fn print(struck: &[Struck], invariants: &InvariantReport, sent: &Sent, receiver_memory: u64) -> bool {
    let mut by_kind: BTreeMap<_, Vec<&Struck>> = BTreeMap::new();
    for one in struck {
        by_kind.entry(one.injection).or_default().push(one);
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["fault", "times", "in flight", "lost", "doubled", "took up again after: median", "longest"]);
    for (injection, all) in by_kind {
        let of = |keys: &std::collections::HashSet<String>| {
            all.iter().map(|one| one.in_flight.intersection(keys).count()).sum::<usize>().to_string()
        };
        let recoveries: Vec<_> = all.iter().map(|one| one.recovery).collect();
        table.add_row([
            injection.to_string(),
            all.len().to_string(),
            all.iter().map(|one| one.in_flight.len()).sum::<usize>().to_string(),
            of(&invariants.lost),
            of(&invariants.doubled),
            seconds(quantile(&recoveries, 0.5)),
            seconds(quantile(&recoveries, 1.0)),
        ]);
    }
    println!("\n{table}");

    println!("\nwebhooks");
    println!("  {} answered 200, {} of them sent again after that", sent.webhooks, sent.duplicates);
    let rejections: Vec<_> = sent.rejections.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    println!(
        "  refused and sent again: {}",
        if rejections.is_empty() { "none".to_owned() } else { rejections.join(", ") }
    );
    println!("  with a timestamp that is minutes off: {} refused, {} accepted", sent.skewed, sent.wrongly_accepted);
    println!("\nevents");
    println!("  {} accepted, {} elements that make no event", sent.accepted.len(), sent.poison.len());
    for (end, count) in &invariants.ends {
        println!("  {count:>7} {end}");
    }
    println!("\neffects");
    println!("  {} tasks in HubSpot, {} notifications", invariants.tasks, invariants.notifications.0);
    println!("  {} notifications came again, under the same Idempotency-Key", invariants.notifications.1);
    println!(
        "  {} answers were paid for twice (a worker died, or lost its lease, before it could record them; {} claims were \
         taken over)",
        invariants.paid_twice, invariants.taken_over
    );
    println!(
        "  {} of {} calls to HubSpot were answered 429, those of faults included",
        invariants.limited.0, invariants.limited.1
    );
    let recoveries: Vec<_> = struck.iter().map(|one| one.recovery).collect();
    let stops: Vec<_> = struck.iter().filter_map(|one| one.shown.stop).collect();
    println!("\nfigures");
    println!(
        "  {} faults; took up again after: median {}, 99 % {}, longest {}",
        struck.len(),
        seconds(quantile(&recoveries, 0.5)),
        seconds(quantile(&recoveries, 0.99)),
        seconds(quantile(&recoveries, 1.0))
    );
    if !stops.is_empty() {
        println!(
            "  {} graceful stops under load: median {}, longest {}",
            stops.len(),
            seconds(quantile(&stops, 0.5)),
            seconds(quantile(&stops, 1.0))
        );
    }
    println!("  a receiver's peak memory: {} MiB", receiver_memory / 1_024);
    println!(
        "\nlost {}, doubled {}, wrong {}",
        invariants.lost.len(),
        invariants.doubled.len(),
        invariants.wrong.len()
    );
    for key in invariants.lost.iter().take(20) {
        println!("  LOST {key}");
    }
    for key in invariants.doubled.iter().take(20) {
        println!("  DOUBLED {key}");
    }
    for what in invariants.wrong.iter().take(40) {
        println!("  WRONG {what}");
    }
    invariants.lost.is_empty() && invariants.doubled.is_empty() && invariants.wrong.is_empty()
}

fn quantile(all: &[Duration], share: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few")]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
