//! A person who decides about what the playbook proposes, while faults happen: by the operator's command, now and then twice at once.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use lab::Leadline;
use rand::{RngExt, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The property whose values are proposed. All others are written at once.
pub const REVIEWED: &str = "ai_qualification_summary";

/// Between two looks at what waits.
const PAUSE: Duration = Duration::from_millis(700);

/// What a reviewer decides about a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Decision {
    Approve,
    ApproveTwiceAtOnce,
    Reject,
    /// A newer proposal may replace it.
    Leave,
}

/// How many decisions there were.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reviewed {
    pub approved: i64,
    pub rejected: i64,
}

/// Decides about proposals until `stop`; from `finish` on it leaves none. A command that a fault lets fail is given again.
pub async fn decide(
    leadline: Leadline,
    ledger: PgPool,
    mut random: Xoshiro256PlusPlus,
    (finish, stop): (CancellationToken, CancellationToken),
) {
    const USUAL: [Decision; 8] = [
        Decision::Approve,
        Decision::Approve,
        Decision::Approve,
        Decision::ApproveTwiceAtOnce,
        Decision::Reject,
        Decision::Leave,
        Decision::Leave,
        Decision::Leave,
    ];
    while !stop.is_cancelled() {
        let choices = if finish.is_cancelled() { &USUAL[..5] } else { &USUAL[..] };
        let mut waiting: BTreeMap<Decision, Vec<String>> = BTreeMap::new();
        for id in proposals(&ledger).await {
            let decision = choices.choose(&mut random).copied().unwrap_or(Decision::Leave);
            waiting.entry(decision).or_default().push(id.to_string());
        }
        for (decision, ids) in &waiting {
            carry_out(&leadline, *decision, ids).await;
        }
        tokio::time::sleep(PAUSE.mul_f64(random.random_range(0.5..1.5))).await;
    }
}

/// The proposals that wait; none while a fault keeps the ledger away.
async fn proposals(ledger: &PgPool) -> Vec<Uuid> {
    let waiting = "select write_command_id from proposals order by write_command_id limit 50";
    sqlx::query_scalar(waiting).fetch_all(ledger).await.unwrap_or_default()
}

/// What fails is seen again in the next round.
async fn carry_out(leadline: &Leadline, decision: Decision, ids: &[String]) {
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let approve = || async {
        let arguments = [&["review", "approve", "--changed", "--yes", "--by", "chaos"][..], &ids].concat();
        leadline.run(&arguments).await
    };
    let _ = match decision {
        Decision::Approve => approve().await,
        Decision::ApproveTwiceAtOnce => tokio::join!(approve(), approve()).0,
        Decision::Reject => {
            let arguments = [&["review", "reject", "--yes", "--by", "chaos", "--why", "chaos"][..], &ids].concat();
            leadline.run(&arguments).await
        }
        Decision::Leave => return,
    };
}

/// Nothing was written that waited for approval and did not get it. Adds what does not hold to `wrong`.
pub async fn check(ledger: &PgPool, wrong: &mut Vec<String>) -> Result<Reviewed> {
    let unapproved: Vec<(String, i64)> = sqlx::query_as(
        "select w.event_key, w.object_id from write w
         where w.property = $1
           and coalesce((select r.decision from review r where r.write_command_id = w.write_command_id
                         order by r.id desc limit 1), '') <> 'approved'",
    )
    .bind(REVIEWED)
    .fetch_all(ledger)
    .await?;
    wrong.extend(
        unapproved
            .into_iter()
            .map(|(key, id)| format!("{REVIEWED} of contact {id} was written by {key} without approval")),
    );
    let unwritten: Vec<(String, String)> = sqlx::query_as(
        "select c.event_key, c.state::text from write_command c
         join lateral (select decision from review r where r.write_command_id = c.id order by r.id desc limit 1) as last on true
         where last.decision = 'approved' and c.state not in ('written', 'superseded')",
    )
    .fetch_all(ledger)
    .await?;
    wrong.extend(unwritten.into_iter().map(|(key, state)| format!("what was approved of {key} is {state}")));
    let decided = "select count(*) filter (where decision = 'approved'), count(*) filter (where decision = 'rejected') from review";
    let (approved, rejected) = sqlx::query_as(decided).fetch_one(ledger).await?;
    Ok(Reviewed { approved, rejected })
}
