//! Prints the results of a run.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use super::{
    account::Account,
    faults::{ChaosFault, Injected},
    invariants::InvariantReport,
    load::Sent,
    phases::Refused,
    reviewer::Reviewed,
};

/// Prints what OpenAI billed and what the ledger says.
fn print_account(account: &Account) {
    let Account { billed, recorded, known, estimated, estimated_billed, reserved, .. } = account;
    println!("\nmoney");
    println!(
        "  {} requests were billed with {} µ$; the ledger says {} µ$",
        billed.requests, billed.micro_dollars, recorded.micro_dollars
    );
    println!("  {} are known to the ledger, each to the micro-dollar: {} µ$", known.requests, known.micro_dollars);
    println!(
        "  {} were lost or silent about their cost and {} were under way when their worker died: they count as {} µ$, and \
         {} of them were billed with {} µ$",
        estimated.requests,
        reserved.requests,
        estimated.micro_dollars + reserved.micro_dollars,
        estimated_billed.requests,
        estimated_billed.micro_dollars
    );
}

/// Prints the faults, the invariants checked at the end, and the figures. `true`: nothing was lost, doubled or wrong.
/// `receiver_memory` is in KiB.
pub fn print(
    injected: &[Injected],
    refused: &[(ChaosFault, Refused)],
    invariants: &InvariantReport,
    sent: &Sent,
    receiver_memory: u64,
) -> bool {
    let mut by_kind: BTreeMap<_, Vec<&Injected>> = BTreeMap::new();
    for one in injected {
        by_kind.entry(one.fault).or_default().push(one);
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["fault", "times", "in flight", "lost", "doubled", "recovered after: median", "longest"]);
    for (fault, all) in by_kind {
        let affected = |keys: &std::collections::HashSet<String>| {
            all.iter().map(|one| one.in_flight.intersection(keys).count()).sum::<usize>().to_string()
        };
        let recoveries: Vec<_> = all.iter().map(|one| one.recovery).collect();
        table.add_row([
            fault.to_string(),
            all.len().to_string(),
            all.iter().map(|one| one.in_flight.len()).sum::<usize>().to_string(),
            affected(&invariants.lost),
            affected(&invariants.doubled),
            seconds(quantile(&recoveries, 0.5)),
            seconds(quantile(&recoveries, 1.0)),
        ]);
    }
    println!("\n{table}");
    if !refused.is_empty() {
        print_refused(refused);
    }

    println!("\nwebhooks");
    println!("  {} answered 200, {} of them sent again afterwards", sent.webhooks, sent.duplicates);
    let rejections: Vec<_> = sent.rejections.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    println!(
        "  refused and sent again: {}",
        if rejections.is_empty() { "none".to_owned() } else { rejections.join(", ") }
    );
    println!("  with a timestamp that is too old: {} refused, {} accepted", sent.skewed, sent.wrongly_accepted);
    println!("\nevents");
    println!("  {} accepted, {} elements that are no events", sent.accepted.len(), sent.poison.len());
    for (state, count) in &invariants.ends {
        println!("  {count:>7} {state}");
    }
    println!("\neffects");
    println!("  {} tasks in HubSpot, {} notifications", invariants.tasks, invariants.notifications.0);
    let Reviewed { approved, rejected } = invariants.reviewed;
    println!("  {approved} proposals were approved and {rejected} rejected, now and then by two commands at once");
    println!("  {} notifications were repeated under the same Idempotency-Key", invariants.notifications.1);
    println!(
        "  {} answers were paid for twice (a worker was killed, or lost its lease, before it recorded them; {} claims were \
         taken over)",
        invariants.account.paid_twice + invariants.account.reserved.requests,
        invariants.taken_over
    );
    println!(
        "  {} of {} calls to HubSpot were answered 429, including those of faults",
        invariants.limited.0, invariants.limited.1
    );
    print_account(&invariants.account);
    let recoveries: Vec<_> = injected.iter().map(|one| one.recovery).collect();
    let stops: Vec<_> = injected.iter().filter_map(|one| Some(one.course.stop?.took)).collect();
    println!("\nfigures");
    println!(
        "  {} faults; recovered after: median {}, 99 % {}, longest {}",
        injected.len(),
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
        "\ninvariants checked at the end: lost {}, doubled {}, wrong {}",
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

/// Prints how long webhooks were refused after what happened to a cluster that had a majority.
fn print_refused(refused: &[(ChaosFault, Refused)]) {
    let mut by_kind: BTreeMap<_, Vec<&Refused>> = BTreeMap::new();
    for (fault, one) in refused {
        by_kind.entry(*fault).or_default().push(one);
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "a node went or came, with a majority up",
        "times",
        "webhooks taken again after: median",
        "longest",
    ]);
    for (fault, all) in by_kind {
        let until: Vec<_> = all.iter().map(|one| one.until).collect();
        let (median, longest) = (quantile(&until, 0.5), quantile(&until, 1.0));
        table.add_row([fault.to_string(), all.len().to_string(), seconds(median), seconds(longest)]);
    }
    println!("\n{table}");
}

fn quantile(all: &[Duration], share: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a short list"
    )]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
